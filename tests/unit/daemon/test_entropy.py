"""The pool of random bytes: each byte once, and never fewer than asked for."""

from __future__ import annotations

import itertools

from hybridgw_daemon.core.entropy import POOL_BYTES, EntropyPool


def test_no_byte_is_given_twice_and_none_is_missing() -> None:
    numbers = itertools.count()
    asked: list[int] = []

    def source(count: int) -> bytes:
        asked.append(count)
        return b"".join(next(numbers).to_bytes(4, "big") for _ in range(count // 4))

    pool = EntropyPool(source)
    taken = [pool.take(12) for _ in range(2_000)]
    words = [part[k : k + 4] for part in taken for k in (0, 4, 8)]
    assert len(set(words)) == len(words) == 6_000
    assert set(asked) == {POOL_BYTES}
    assert len(asked) == -(-2_000 // (POOL_BYTES // 12))
