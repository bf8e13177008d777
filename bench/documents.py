"""The documents of all scenarios: 200 bytes of JSON each, the same for the same seed, with the entropy of real notes.

Words come from a made-up vocabulary of 2,000 by a Zipf-like law, ids are UUIDs of version 7 (their 74 random bits are
in every document and deflate to nothing).
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

SIZE_BYTES = 200
COLLECTION = "bench_notes"
START_MS = 1_700_000_000_000

Pair = tuple[str, dict[str, Any]]


def documents(count: int, seed: int = 1) -> list[Pair]:
    """(id, data): ids ascend in time, 20 ms apart; the JSON of each data has 200 bytes."""
    rng = random.Random(seed)
    return [(uuid7(START_MS + 20 * i, rng), data) for i, data in enumerate(_contents(count, rng))]


def _contents(count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    vocabulary = _vocabulary()
    weights = [1 / (rank + 2) for rank in range(len(vocabulary))]
    kinds = ["home", "work", "errand", "reading", "garden"]
    words = rng.choices(vocabulary, weights, k=count * 30)
    for i in range(count):
        data: dict[str, Any] = {
            "title": " ".join(words[30 * i : 30 * i + 5]),
            "kind": rng.choice(kinds),
            "done": rng.random() < 0.3,
            "minutes": rng.randrange(600),
            "due": f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
            "text": "",
        }
        room = SIZE_BYTES - len(json.dumps(data, separators=(",", ":")))
        data["text"] = (" ".join(words[30 * i + 5 : 30 * i + 30]) + " " * room)[:room]
        yield data


def _vocabulary() -> list[str]:
    rng = random.Random(7)
    syllables = [a + b for a in "bdfghjklmnprstvw" for b in ("a", "e", "i", "o", "u", "en", "or", "ast", "ing")]
    return ["".join(rng.choices(syllables, k=rng.choice((1, 2, 2, 3)))) for _ in range(2000)]


def uuid7(unix_ms: int, rng: random.Random) -> str:
    """A UUID of version 7 as text."""
    value = (unix_ms << 80) | (7 << 76) | (rng.getrandbits(12) << 64) | (2 << 62) | rng.getrandbits(62)
    h = f"{value:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def deflated_bytes(pairs: Sequence[Pair]) -> int:
    """Size of the same documents as one stream of JSON lines with ids, raw deflate at level 6."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    size = 0
    for document, data in pairs:
        size += len(packer.compress(json.dumps({"id": document, **data}, separators=(",", ":")).encode() + b"\n"))
    return size + len(packer.flush())


def write_requests(pairs: Sequence[Pair], op: str = "create", each: int = 5_000) -> Iterator[bytes]:
    """Bodies of `POST /api/data` that write the documents, some thousands in each. op: create, or patch."""
    field = "patch" if op == "patch" else "data"
    for start in range(0, len(pairs), each):
        operations = [
            {"op": op, "collection": COLLECTION, "id": document, field: data}
            for document, data in pairs[start : start + each]
        ]
        yield json.dumps({"operations": operations, "atomic": False}, separators=(",", ":")).encode()
