"""Server-sent events out of a byte stream, as the standard has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybridgw_client.sse import RawEvent, parse_events


def test_events_ids_names_and_several_lines_of_data() -> None:
    stream = (
        b"\xef\xbb\xbf: a sign of life\n\n"
        b"id: 1\nevent: document\ndata: {\ndata:  1}\n\n"
        b"data:second\r\n\r\n"
        b"event: nothing\nid: 9\n\n"
        b"data\n\nretry: 10\nunknown: x\nid: a\0b\ndata: last of an id that holds\n\n"
        b"data: never finished\n"
    )
    assert list(parse_events(stream.splitlines(keepends=True))) == [
        RawEvent("1", "document", "{\n 1}"),
        RawEvent("1", "message", "second"),
        RawEvent("9", "message", ""),
        RawEvent("9", "message", "last of an id that holds"),
    ]


@given(st.binary(max_size=300))
def test_no_bytes_break_it(content: bytes) -> None:
    for event in parse_events(content.splitlines(keepends=True)):
        assert isinstance(event, RawEvent)
