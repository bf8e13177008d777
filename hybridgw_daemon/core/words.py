"""The root seed as 24 words that a person writes down, and back, with errors that name the word.

BIP-39: 256 bits and the first 8 bits of their SHA-256, in 24 groups of 11 bits, each the place of a word in the English
list. Only this coding is BIP-39; the seed behind the words is used as it is ("Keys of devices and of root" in
protocol/SPEC.md), not stretched as a wallet does. Words are taken as people type them: in any case, with numbers and
commas between them, and the first four letters are enough.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from typing import Final

from hybridgw_protocol.errors import BadValue

from .recovery_words import WORDS

COUNT: Final = 24
SEED_BYTES: Final = 32
MAX_TYPED: Final = 1_000  # characters; 24 words of eight letters with numbers before them are 320
_BITS: Final = 11  # per word
_LETTERS: Final = 4  # tell every word of the list from all others
_PLACE: Final = {word: place for place, word in enumerate(WORDS)}
_BY_START: Final = {word[:_LETTERS]: word for word in WORDS}
_BETWEEN: Final = re.compile(r"[^a-z]+")  # spaces, commas, and numbers as in a numbered list


def seed_to_words(seed: bytes) -> list[str]:
    """24 words. Args: seed: 32 bytes."""
    if len(seed) != SEED_BYTES:
        raise ValueError("The seed of root has 32 bytes.")
    bits = int.from_bytes(seed + hashlib.sha256(seed).digest()[:1], "big")
    return [WORDS[bits >> _BITS * k & (1 << _BITS) - 1] for k in reversed(range(COUNT))]


def words_to_seed(typed: str) -> bytes:
    """The 32 bytes behind words that a person typed.

    Raises: BadValue: a word is not of the list (it is named, with its place and the word that may be meant), there are
    not 24, or their checksum is wrong.
    """
    if len(typed) > MAX_TYPED:
        raise BadValue(f"That is too long for {COUNT} recovery words.", field="words")
    words = [word for word in _BETWEEN.split(unicodedata.normalize("NFKD", typed).casefold()) if word]
    places = [_place(word, number) for number, word in enumerate(words, 1)]
    if len(places) != COUNT:
        raise BadValue(f"There are {COUNT} recovery words, and these are {len(places)}.", field="words")
    bits = 0
    for place in places:
        bits = bits << _BITS | place
    seed = (bits >> 8).to_bytes(SEED_BYTES, "big")
    if hashlib.sha256(seed).digest()[0] != bits & 0xFF:
        raise BadValue(
            "Each of these words is in the list, but together they are no recovery words: one of them is another word, "
            "or two have changed places. Compare them with what you wrote down.",
            field="words",
        )
    return seed


def _place(word: str, number: int) -> int:
    found = _PLACE.get(word)
    if found is None and len(word) == _LETTERS and word in _BY_START:
        found = _PLACE[_BY_START[word]]
    if found is not None:
        return found
    near = difflib.get_close_matches(word, WORDS, 3, 0.6)
    if (start := _BY_START.get(word[:_LETTERS])) and start not in near:
        near = [start, *near[:2]]
    hint = f" Is it {' or '.join(near)}?" if near else ""
    raise BadValue(f"Word {number}, '{word[:20]}', is not one of the recovery words.{hint}", field="words", word=number)
