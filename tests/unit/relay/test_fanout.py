"""Fan-out inside one process."""

from __future__ import annotations

from hybridgw_protocol.ids import SpaceId
from hybridgw_relay.fanout.base import News
from hybridgw_relay.fanout.local import LocalFanout

ONE, TWO = SpaceId(b"1" * 16), SpaceId(b"2" * 16)


def test_listeners_of_a_space_are_called_until_they_end() -> None:
    fanout = LocalFanout()
    heard: list[tuple[str, News]] = []
    end_a = fanout.subscribe(ONE, lambda news: heard.append(("a", news)))
    end_b = fanout.subscribe(ONE, lambda news: heard.append(("b", news)))
    fanout.subscribe(TWO, lambda news: heard.append(("c", news)))
    fanout.publish(ONE, News.BATCHES)
    assert heard == [("a", News.BATCHES), ("b", News.BATCHES)]
    end_a()
    end_a()
    heard.clear()
    fanout.publish(ONE, News.CONTROL)
    assert heard == [("b", News.CONTROL)]
    end_b()
    fanout.publish(ONE, News.BATCHES)
    fanout.publish(SpaceId(b"3" * 16), News.BATCHES)
    assert len(heard) == 1
    assert fanout._listeners.keys() == {TWO}


def test_a_listener_may_end_another_while_it_is_called() -> None:
    fanout = LocalFanout()
    heard: list[str] = []
    ends = []
    fanout.subscribe(ONE, lambda _news: (heard.append("a"), ends[0]())[0])
    ends.append(fanout.subscribe(ONE, lambda _news: heard.append("b")))
    fanout.publish(ONE, News.BATCHES)
    fanout.publish(ONE, News.BATCHES)
    assert heard == ["a", "b", "a"]
