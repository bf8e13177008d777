"""The newest batches in memory give the same pages as the whole history would, or none."""

from __future__ import annotations

import random

from hybridgw_protocol.batch import Head
from hybridgw_protocol.ids import LogId
from hybridgw_relay.core.cursor import Cursor
from hybridgw_relay.services.tail import Tail
from hybridgw_relay.stores.base import Stored


def item(rid: int, log: int, n: int, size: int = 10) -> Stored:
    return Stored(rid, LogId(log), n, bytes(size))


def cursor(rid: int, **have: int) -> Cursor:
    made = Cursor({LogId(int(log[1:])): Head(n, b"") for log, n in have.items()})
    made.rid = rid
    return made


def test_a_cursor_is_served_from_where_it_stands() -> None:
    tail = Tail()
    assert tail.page(cursor(0), 100, 10) is None
    tail.add(4, [item(7, 1, 1), item(8, 2, 1)])
    tail.add(8, [item(11, 1, 2)])
    assert tail.page(cursor(3), 100, 10) is None  # 4 is missing here
    page = tail.page(cursor(4), 100, 10)
    assert page is not None
    assert ([found.rid for found in page.batches], page.rid, page.more) == ([7, 8, 11], 11, False)
    page = tail.page(cursor(7, l2=1), 100, 10)
    assert page is not None
    assert ([found.rid for found in page.batches], page.rid) == ([11], 11)
    page = tail.page(cursor(20), 100, 10)
    assert page is not None
    assert (page.batches, page.rid) == ([], 20)


def test_bounds_of_a_page() -> None:
    tail = Tail()
    tail.add(0, [item(n, 1, n, 40) for n in range(1, 6)])
    page = tail.page(cursor(0), 100, 10)
    assert page is not None
    assert ([found.rid for found in page.batches], page.rid, page.more) == ([1, 2], 2, True)
    page = tail.page(cursor(0), 1, 10)
    assert page is not None
    assert len(page.batches) == 1


def test_after_a_hole_it_starts_anew() -> None:
    tail = Tail()
    tail.add(0, [item(1, 1, 1)])
    tail.add(2, [item(3, 1, 3)])  # another process stored 2
    assert tail.page(cursor(1), 100, 10) is None
    page = tail.page(cursor(2), 100, 10)
    assert page is not None
    assert [found.rid for found in page.batches] == [3]


def test_what_was_not_added_to_lately_is_forgotten_and_goes_on() -> None:
    tail = Tail()
    tail.add(0, [item(1, 1, 1)])
    tail.age()
    assert tail.page(cursor(0), 100, 10) is not None
    tail.age()
    assert tail.page(cursor(0), 100, 10) is None
    tail.add(1, [item(2, 1, 2)])
    page = tail.page(cursor(1, l1=1), 100, 10)
    assert page is not None
    assert [found.rid for found in page.batches] == [2]


def test_random_histories_against_all_of_it() -> None:
    rng = random.Random(1)
    for _ in range(100):
        tail, history, last = Tail(most_bytes=rng.choice((50, 400, 10**6))), [], 0
        numbers = {1: 0, 2: 0, 3: 0}
        for _ in range(rng.randrange(1, 15)):
            push = []
            for _ in range(rng.randrange(1, 4)):
                log = rng.choice(list(numbers))
                numbers[log] += 1
                rid = (push[-1].rid if push else last) + rng.randrange(1, 5)
                push.append(item(rid, log, numbers[log], rng.randrange(1, 90)))
            tail.add(last, push)
            history += push
            last = history[-1].rid
        for _ in range(10):
            at = rng.choice([0, *(found.rid for found in history)])
            have = {log: max((f.n for f in history if f.rid <= at and f.log == log), default=0) for log in numbers}
            have[rng.choice(list(have))] += rng.randrange(3)
            where = Cursor({LogId(log): Head(n, b"") for log, n in have.items()})
            where.rid = at
            page = tail.page(where, 10**9, 10**9)
            wanted = [found for found in history if found.rid > at and found.n > have[found.log]]
            assert page is None or page.batches == wanted
            if tail._most_bytes == 10**6:
                assert page is not None
