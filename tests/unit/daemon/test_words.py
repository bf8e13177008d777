"""Recovery words: the coding of BIP-39, and errors that help who typed them."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core.recovery_words import WORDS
from hybridgw_daemon.core.words import COUNT, seed_to_words, words_to_seed
from hybridgw_protocol.errors import BadValue

# From the test vectors of BIP-39 (trezor/python-mnemonic, vectors.json): 256 bits each.
KNOWN = {
    "00" * 32: "abandon " * 23 + "art",
    "7f" * 32: "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful "
    "legal winner thank year wave sausage worth title",
    "80" * 32: "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor "
    "acoustic avoid letter advice cage absurd amount doctor acoustic bless",
    "ff" * 32: "zoo " * 23 + "vote",
    "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c": "hamster diagram private dutch cause delay "
    "private meat slide toddler razor book happy fancy gospel tennis maple dilemma loan word shrug inflict delay "
    "length",
    "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f": "void come effort suffer camp survey warrior "
    "heavy shoot primary clutch crush open amazing screen patrol group space point ten exist slush involve unfold",
}


def test_the_list_is_the_one_of_bip_39() -> None:
    text = "".join(f"{word}\n" for word in WORDS)
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
    )
    assert len({word[:4] for word in WORDS}) == len(WORDS) == 2_048


@pytest.mark.parametrize(("seed", "words"), KNOWN.items())
def test_spec_D6_known_words(seed: str, words: str) -> None:
    assert seed_to_words(bytes.fromhex(seed)) == words.split()
    assert words_to_seed(words) == bytes.fromhex(seed)


@given(st.binary(min_size=32, max_size=32))
def test_spec_D6_every_seed_comes_back(seed: bytes) -> None:
    words = seed_to_words(seed)
    assert len(words) == COUNT
    assert words_to_seed(" ".join(words)) == seed


def test_words_are_taken_as_people_type_them() -> None:
    seed = random.Random(1).randbytes(32)
    words = seed_to_words(seed)
    numbered = "\n".join(f"{number:>2}. {word.capitalize()}," for number, word in enumerate(words, 1))
    assert words_to_seed(numbered) == seed
    assert words_to_seed(" ".join(word[:4] for word in words).upper()) == seed


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({6: "elefant"}, r"Word 7, 'elefant', is not one of the recovery words. Is it .*elephant"),
        ({0: "qqqqqq"}, "Word 1, 'qqqqqq', is not one of the recovery words.$"),
        ({23: "zoos"}, "Word 24, 'zoos'.*zoo"),
        ({3: "x" * 500}, "Word 4, 'xxxxxxxxxxxxxxxxxxxx', is"),
        ({5: ""}, "There are 24 recovery words, and these are 23"),
        ({5: "able able"}, "There are 24 recovery words, and these are 25"),
    ],
)
def test_spec_D6_the_wrong_word_is_named(changed: dict[int, str], says: str) -> None:
    words = seed_to_words(random.Random(2).randbytes(32))
    for place, word in changed.items():
        words[place] = word
    with pytest.raises(BadValue, match=says):
        words_to_seed(" ".join(words))


def test_spec_D6_two_words_that_changed_places_are_noticed() -> None:
    """A checksum of 8 bits lets one in 256 through: over these, nearly all are noticed."""
    rng, noticed = random.Random(3), 0
    for _ in range(500):
        words = seed_to_words(rng.randbytes(32))
        a, b = rng.sample(range(COUNT), 2)
        words[a], words[b] = words[b], words[a]
        try:
            words_to_seed(" ".join(words))
        except BadValue as error:
            noticed += "changed places" in error.message
    assert noticed > 485


@pytest.mark.parametrize("typed", ["", "   ", "1 2 3", "\0" * 50, "é" * 24, "abandon " * 200])
def test_no_words_at_all(typed: str) -> None:
    with pytest.raises(BadValue):
        words_to_seed(typed)
