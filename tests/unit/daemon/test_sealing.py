"""Sealing and opening of batches: what goes in comes out, and nothing that was changed anywhere does."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_sign,
    crypto_sign_seed_keypair,
)

from hybridgw_daemon.core.sealing import (
    MAX_PLAINTEXT_BYTES,
    batch_key,
    open_batch,
    padded_size,
    padme,
    seal_batch,
)
from hybridgw_protocol.batch import (
    FLAG_BEAT,
    FLAG_DEFLATED,
    FLAG_SECRET,
    Batch,
    batch_hash,
    encode_header,
    parse_batch,
    verify_batch,
)
from hybridgw_protocol.errors import BadFrame, BadSignature, CannotOpen, TooBig
from hybridgw_protocol.ids import SpaceId, device_id, key_id, log_id
from hybridgw_protocol.limits import (
    BATCH_HEADER_BYTES,
    BATCH_MIN_BYTES,
    MAX_BATCH_BYTES,
    MAX_BODY_BYTES,
    PAD_FLOOR_BYTES,
)

KEY = bytes(range(32))
KID = key_id(KEY)
PUBLIC, SECRET = crypto_sign_seed_keypair(b"\x07" * 32)
SPACE = SpaceId(b"\x11" * 16)
DEVICE = device_id(PUBLIC, b"\x22" * 32)
SALT = b"\x33" * 32
LOG = log_id(DEVICE, SALT)
NONCE = b"\x44" * 24
WORDS = b"buy milk and bread for the whole family before friday evening "


def seal(body: bytes, *, flags: int = 0, key: bytes = KEY, n: int = 1, prev: bytes = SALT) -> Batch:
    return seal_batch(
        body, space_key=key, kid=key_id(key), sign_secret=SECRET, space=SPACE, device=DEVICE, log=LOG, n=n, prev=prev,
        nonce=NONCE, flags=flags,
    )  # fmt: skip


def accept(blob: bytes) -> bytes:
    """What a receiving device does with bytes from a relay."""
    batch = parse_batch(blob)
    verify_batch(batch, PUBLIC)
    return open_batch(batch, KEY)


def forge(plaintext: bytes, *, flags: int = 0, header: bytes | None = None) -> bytes:
    """A batch that its device signed, with any plaintext: what a faulty or hostile member can make."""
    if header is None:
        header = encode_header(flags=flags, space=SPACE, device=DEVICE, log=LOG, n=1, kid=KID, prev=SALT, nonce=NONCE)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, header, NONCE, batch_key(KEY, LOG))
    return header + sealed + crypto_sign(batch_hash(header + sealed), SECRET)[:64]


def pad(content: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I", len(content)) + content + bytes((size or padded_size(len(content))) - 4 - len(content))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@given(st.binary(min_size=1, max_size=3000), st.sampled_from([0, FLAG_SECRET, FLAG_BEAT]))
@settings(max_examples=60, deadline=None)
def test_spec_S8_what_is_sealed_opens_again(body: bytes, flags: int) -> None:
    batch = seal(body, flags=flags)
    assert parse_batch(batch.blob) == batch  # what seal returns is what a receiver reads
    assert accept(batch.blob) == body
    assert batch.flags & ~FLAG_DEFLATED == flags


def test_a_chain_of_batches_names_its_predecessor() -> None:
    first = seal(b"one")
    second = seal(b"two", n=2, prev=first.hash)
    assert second.prev == first.hash == batch_hash(first.blob[:-64])
    assert first.hash != second.hash


def test_the_smallest_batch_has_the_promised_size() -> None:
    assert len(seal(b"x").blob) == BATCH_MIN_BYTES
    assert len(seal(bytes(PAD_FLOOR_BYTES - 4)).blob) == BATCH_MIN_BYTES
    assert len(seal(bytes(PAD_FLOOR_BYTES - 3), flags=FLAG_SECRET).blob) > BATCH_MIN_BYTES


def test_padme_adds_at_most_twelve_percent_and_has_few_sizes() -> None:
    sizes = {padded_size(n) for n in range(1, 70_000)}
    assert len(sizes) < 150
    previous = 0
    for n in range(1, 70_000):
        size = padded_size(n)
        assert size >= n + 4
        assert size >= previous, "padding grows with the content"
        assert size == padded_size(size - 4), "a padded size pads to itself"
        if n + 4 > PAD_FLOOR_BYTES:
            assert size <= (n + 4) * 1.12
        previous = size
    assert [padme(n) for n in (2, 9, 256, 257, 1000, 65_540, 261_886)] == [2, 10, 256, 272, 1024, 67_584, 262_144]


def test_only_what_pays_is_deflated() -> None:
    words, noise = WORDS * 20, random.Random(1).randbytes(4096)
    assert seal(words).flags & FLAG_DEFLATED
    assert len(seal(words).blob) < len(words)
    assert not seal(words[:511]).flags & FLAG_DEFLATED, "below the floor"
    assert seal(words[:512]).flags & FLAG_DEFLATED, "at the floor"
    assert not seal(noise).flags & FLAG_DEFLATED, "saves nothing"
    mostly_noise = noise + bytes(len(noise) // 12)  # saves about 8 %
    assert not seal(mostly_noise).flags & FLAG_DEFLATED


def test_sec_secret_batches_are_never_deflated() -> None:
    words = WORDS * 20
    batch = seal(words, flags=FLAG_SECRET | FLAG_DEFLATED)
    assert batch.flags == FLAG_SECRET
    assert len(batch.ciphertext) == padded_size(len(words)) + 16
    assert accept(batch.blob) == words
    with pytest.raises(CannotOpen, match="never deflated"):
        accept(forge(pad(raw_deflate(words)), flags=FLAG_SECRET | FLAG_DEFLATED))


def test_sec_relay_sees_no_plaintext_and_only_padded_sizes() -> None:
    body = b"PLANTED-" + WORDS * 3
    blob = seal(body, flags=FLAG_SECRET).blob
    assert b"PLANTED" not in blob
    assert WORDS[:12] not in blob
    assert {len(seal(bytes(n), flags=FLAG_SECRET).blob) for n in range(1, 253)} == {BATCH_MIN_BYTES}


def test_every_bit_of_the_header_is_bound() -> None:
    """A flipped header bit is refused thrice: by the reader or the signature, and by the seal if all were re-signed."""
    blob = seal(WORDS * 10).blob
    for bit in range(BATCH_HEADER_BYTES * 8):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((BadFrame, BadSignature)):
            accept(bytes(changed))
        resigned = bytes(changed[:-64]) + crypto_sign(batch_hash(bytes(changed[:-64])), SECRET)[:64]
        try:
            batch = parse_batch(resigned)
        except BadFrame:
            continue
        verify_batch(batch, PUBLIC)
        with pytest.raises(CannotOpen):
            open_batch(batch, KEY)


def test_every_byte_of_ciphertext_tag_and_signature_is_bound() -> None:
    blob = seal(WORDS * 10).blob
    for at in range(BATCH_HEADER_BYTES, len(blob)):
        changed = bytearray(blob)
        changed[at] ^= 0x40
        with pytest.raises(BadSignature):
            accept(bytes(changed))
        if at < len(blob) - 64:
            with pytest.raises(CannotOpen):
                open_batch(parse_batch(bytes(changed)), KEY)


def test_truncated_or_lengthened_batches_are_refused() -> None:
    blob = seal(WORDS * 10).blob
    for size in (0, 1, BATCH_HEADER_BYTES, BATCH_MIN_BYTES - 1, len(blob) - 1):
        with pytest.raises((BadFrame, BadSignature)):
            accept(blob[:size])
    with pytest.raises(BadSignature):
        accept(blob + b"\0")
    with pytest.raises(BadFrame):
        accept(blob + bytes(MAX_BATCH_BYTES))


def test_another_key_or_another_log_opens_nothing() -> None:
    batch = seal(b"hello")
    with pytest.raises(CannotOpen):
        open_batch(batch, b"\x01" * 32)
    assert batch_key(KEY, LOG) != batch_key(KEY, log_id(DEVICE, b"\x34" * 32))
    assert KEY not in (batch_key(KEY, LOG), batch.blob)


@pytest.mark.parametrize(
    ("plaintext", "why"),
    [
        (pad(b"body")[:-1] + b"\1", "padding that is not zeros"),
        (pad(b"body", 272), "padded further than needed"),
        (pad(bytes(300))[:-16], "padded less than needed"),
        (struct.pack(">I", 252 + 1) + bytes(252), "a length beyond the end"),
        (struct.pack(">I", 2**32 - 1) + bytes(252), "a length of 4 GiB"),
        (struct.pack(">I", 5) + bytes(300), "a size that is no padded size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_padding_is_refused(plaintext: bytes, why: str) -> None:
    with pytest.raises(CannotOpen):
        accept(forge(plaintext + bytes(max(0, 256 - len(plaintext)))))


def test_a_length_that_is_not_the_content_is_refused() -> None:
    """The declared length decides the padding, so the same bytes cannot be read as a longer or shorter body."""
    content = b"a" * 300
    for declared in (1, 200, 250, 299 - 20, 320):
        plaintext = struct.pack(">I", declared) + content + bytes(padded_size(300) - 304)
        with pytest.raises(CannotOpen):
            accept(forge(plaintext))
    assert accept(forge(pad(content))) == content


def test_bombs_stop_at_the_limit() -> None:
    just_fits = raw_deflate(bytes(MAX_BODY_BYTES))
    assert accept(forge(pad(just_fits), flags=FLAG_DEFLATED)) == bytes(MAX_BODY_BYTES)
    for size in (MAX_BODY_BYTES + 1, 200 * 1024 * 1024):
        bomb = raw_deflate(bytes(size))
        assert len(bomb) < MAX_PLAINTEXT_BYTES
        with pytest.raises(CannotOpen, match="inflates to more"):
            accept(forge(pad(bomb), flags=FLAG_DEFLATED))


@pytest.mark.parametrize(
    ("deflated", "match"),
    [
        (raw_deflate(WORDS * 9) + b"more", "bytes follow"),
        (raw_deflate(WORDS * 9) + raw_deflate(WORDS * 9), "bytes follow"),
        (raw_deflate(WORDS * 9)[:-3], "ends early"),
        (b"", "ends early"),
        (b"\xff\xff\xff\xff", "broken"),
        (zlib.compress(WORDS * 9), "broken"),
    ],
    ids=["bytes after it", "two streams", "cut", "empty", "noise", "zlib header"],
)
def test_deflate_is_one_whole_stream(deflated: bytes, match: str) -> None:
    with pytest.raises(CannotOpen, match=match):
        accept(forge(pad(deflated), flags=FLAG_DEFLATED))


def test_too_much_is_refused_before_anything_is_sealed() -> None:
    with pytest.raises(TooBig):
        seal(bytes(MAX_BODY_BYTES + 1))
    noise = random.Random(2).randbytes(MAX_PLAINTEXT_BYTES)
    with pytest.raises(TooBig):
        seal(noise)
    largest = max(
        n for n in range(MAX_PLAINTEXT_BYTES - 9000, MAX_PLAINTEXT_BYTES) if padded_size(n) <= MAX_PLAINTEXT_BYTES
    )
    blob = seal(noise[:largest]).blob
    assert MAX_BATCH_BYTES * 0.95 < len(blob) <= MAX_BATCH_BYTES
    assert accept(blob) == noise[:largest]
    assert accept(seal(bytes(MAX_BODY_BYTES)).blob) == bytes(MAX_BODY_BYTES)


def test_the_format_is_what_the_page_says() -> None:
    """Opened by hand from the written layout, without the code under test."""
    blob = seal(WORDS * 10).blob
    header, sealed = blob[:114], blob[114:-64]
    plaintext = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, header, header[90:114], batch_key(KEY, LOG))
    (size,) = struct.unpack(">I", plaintext[:4])
    assert zlib.decompress(plaintext[4 : 4 + size], -15) == WORDS * 10
    assert set(plaintext[4 + size :]) <= {0}
