"""Files as programs write them: what is read, what is named as bad, and that ids stay the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybridgw_cli.formats.bookmarks import read_bookmarks
from hybridgw_cli.formats.csvfile import format_cell, parse_cell, read_csv, write_csv
from hybridgw_cli.formats.detect import FORMATS, detect
from hybridgw_cli.formats.jsonl import read_jsonl
from hybridgw_cli.formats.record import MAX_LINE_BYTES, BadLine, Item, LeftOut, Options, Record
from hybridgw_cli.formats.taskwarrior import read_taskwarrior
from hybridgw_protocol.errors import BadValue

SAMPLES = Path(__file__).parent / "samples"
Reader = Callable[[BufferedReader, Options], Iterator[Item]]


def stream(content: bytes | str) -> BufferedReader:
    raw = content.encode() if isinstance(content, str) else content
    return BufferedReader(cast(Any, BytesIO(raw)))


def read(reader: Reader, content: bytes | str, collection: str = "things", **more: Any) -> list[Item]:
    return list(reader(stream(content), Options(collection, **more)))


def records(items: list[Item]) -> list[Record]:
    return [item for item in items if isinstance(item, Record)]


def bad(items: list[Item]) -> list[tuple[int, str]]:
    return [(item.line, item.why) for item in items if isinstance(item, BadLine)]


# ---- JSON Lines ------------------------------------------------------------------------------------------------------
def test_spec_S6_jsonl_takes_ids_where_they_are_and_makes_stable_ones_where_not() -> None:
    text = (
        '{"id": "soup", "name": "Leek soup"}\n\n'
        '{"_id": 7, "name": "Seven"}\r\n'
        '{"uuid": "00a1b2c3-0000-4000-8000-000000000001", "name": "By uuid"}\n'
        '{"name": "none"}\n{"name": "none"}\n{"name": "other"}'
    )
    first, second = read(read_jsonl, text), read(read_jsonl, text)
    assert first == second
    found = records(first)
    assert [r.line for r in found] == [1, 3, 4, 5, 6, 7]
    assert [r.id for r in found][:3] == ["soup", "7", "00a1b2c3-0000-4000-8000-000000000001"]
    assert found[0].fields == {"name": "Leek soup"}
    made = [r.id for r in found][3:]
    assert len(set(made)) == 3  # equal rows stay apart
    assert records(read(read_jsonl, '{"name": "none"}', collection="elsewhere"))[0].id not in made
    assert records(read(read_jsonl, '{"name":  "none"}'))[0].id == made[0]  # spelling of the JSON does not count


def test_the_made_id_never_changes() -> None:
    """A different one would import everything a second time: this is a promise to files imported years ago."""
    assert records(read(read_jsonl, '{"name": "none"}'))[0].id == "93297fcc-f5c8-5dc6-ba0a-46f04a29c9e1"


def test_jsonl_reads_back_what_export_writes() -> None:
    line = '{"collection": "tasks", "id": "a", "data": {"id": "field of its own", "data": {"x": 1}}}'
    assert records(read(read_jsonl, line, collection="")) == [
        Record(1, "tasks", "a", {"id": "field of its own", "data": {"x": 1}})
    ]
    assert records(read(read_jsonl, line, collection="copy"))[0].collection == "copy"
    other = '{"id": "a", "data": {"x": 1}, "more": 1}'  # no line of an export: it has a field of its own
    assert records(read(read_jsonl, other))[0].fields == {"data": {"x": 1}, "more": 1}


def test_a_named_id_field_stays_a_field() -> None:
    items = read(read_jsonl, '{"isbn": "1", "id": 2}\n{"id": 3}\n', id_field="isbn")
    assert records(items) == [Record(1, "things", "1", {"isbn": "1", "id": 2})]
    assert bad(items) == [(2, "has no field 'isbn'")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ('{"a": NaN}', "is not JSON: NaN"),
        ("[1]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        ('{"id": true, "a": 1}', "an id that is neither text nor a whole number"),
        ('{"id": "", "a": 1}', "an id that is neither"),
        ('{"id": 1.5}', "an id that is neither"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a": "' + "x" * MAX_LINE_BYTES + '"}', "longer than"),
        ('{"collection": 5, "id": "a", "data": {}}', "names a collection that is no text"),
    ],
)
def test_a_bad_line_is_named_and_costs_no_other(line: str, says: str) -> None:
    items = read(read_jsonl, f'{{"id": "before"}}\n{line}\n{{"id": "after"}}\n')
    assert [r.id for r in records(items)] == ["before", "after"]
    [(number, why)] = bad(items)
    assert number == 2
    assert says in why


def test_bytes_that_are_no_text_are_named() -> None:
    items = read(read_jsonl, b'{"id": "a"}\n{"id": "\xff"}\n{"id": "c"}')
    assert [r.id for r in records(items)] == ["a", "c"]
    assert bad(items) == [(2, "is not UTF-8; if the whole file is not, say what it is: --encoding cp1252")]
    latin = '{"id": "a", "name": "Größe"}\n'.encode("cp1252")
    assert records(read(read_jsonl, latin, encoding="cp1252"))[0].fields == {"name": "Größe"}
    with pytest.raises(BadValue, match="no encoding named klingon"):
        read(read_jsonl, latin, encoding="klingon")
    with pytest.raises(BadValue, match="is not ascii"):
        read(read_jsonl, latin, encoding="ascii")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_at_the_beginning_are_understood(encoding: str) -> None:
    text = '{"id": "a"}\n{"id": "b", "name": "東京"}\n'
    assert read(read_jsonl, text.encode(encoding)) == read(read_jsonl, text)


def test_one_json_array_is_read_with_its_lines() -> None:
    text = '\n[\n  {"id": "a"},\n  {"id": "b",\n   "x": [1,\n 2]}\n  , {"id": "c"}, 5\n]\n'
    items = read(read_jsonl, text)
    assert [(r.line, r.id) for r in records(items)] == [(3, "a"), (4, "b"), (7, "c")]
    assert bad(items) == [(7, "is not a JSON object")]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[{"id": "a"},\n{"id": "b"', 2, "what follows it was not read"),
        ('[{"id": "a"},\n', 2, "never closed"),
        ('[{"id": "a"},\n oops]', 2, "what follows"),
        ("[", 1, "never closed"),
    ],
)
def test_a_broken_array_says_where(text: str, line: int, says: str) -> None:
    [(number, why)] = bad(read(read_jsonl, text))
    assert number == line
    assert says in why


# ---- CSV -------------------------------------------------------------------------------------------------------------
def test_spec_S6_csv_as_spreadsheets_write_it() -> None:
    items = read(read_csv, (SAMPLES / "semicolon_bom.csv").read_bytes())
    assert [(r.line, r.fields) for r in records(items)] == [
        (2, {"Name": "Birnen", "Menge": 3, "Notiz": 'eine "große" Kiste'}),
        (3, {"Name": "Mehl; dunkel", "Menge": 1.5, "Notiz": "zwei\r\nZeilen"}),
        (7, {"Name": "Salz", "Menge": "007"}),
    ]
    assert bad(items) == [(6, "has 2 cells, the first line has 3")]
    assert items == read(read_csv, (SAMPLES / "semicolon_bom.csv").read_bytes())


def test_csv_ids_and_cells() -> None:
    items = read(read_csv, 'ID,a,b,c\nx1,true,,"[1, 2]"\n,1,2,3\nx2,null,""" 42""",{bad\n')
    [unnamed] = records(read(read_csv, "a,b,c\n1,2,3\n"))  # the same content in a file without such a column
    assert [(r.id, r.fields) for r in records(items)] == [
        ("x1", {"a": True, "c": [1, 2]}),
        (unnamed.id, {"a": 1, "b": 2, "c": 3}),
        ("x2", {"a": None, "b": " 42", "c": "{bad"}),
    ]
    assert bad(items) == []
    first, second = records(read(read_csv, "id,n\n,1\n,1\n"))
    assert first.id != second.id  # the same content twice
    assert bad(read(read_csv, "n,isbn\n1,\n", id_field="isbn")) == [(2, "has nothing in the column 'isbn'")]
    assert records(read(read_csv, "n,isbn\n1,2\n", id_field="isbn"))[0] == Record(2, "things", "2", {"n": 1, "isbn": 2})
    assert records(read(read_csv, "id,n\nx,42\n", text=True))[0].fields == {"n": "42"}
    assert read(read_csv, "") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,,c\n1,2,3\n", "without a name"),
        ("a,b,a\n1,2,3\n", "names 'a' twice"),
        ("x" * 200 + "\n1\n", "too long"),
        ('"a,b\n1,2\n', "first line is not CSV"),
    ],
)
def test_a_header_that_names_nothing_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadValue, match=says):
        read(read_csv, text)
    with pytest.raises(BadValue, match="no column 'nix'"):
        read(read_csv, "a,b\n", id_field="nix")


def test_broken_quotes_and_zero_bytes_are_named() -> None:
    items = read(read_csv, 'id,t\na,1\nb,"x"y\nc,3\nd,\0\ne,5\nf,"never closed\n')
    assert [r.id for r in records(items)] == ["a", "c", "e"]
    assert [line for line, _ in bad(items)] == [3, 5, 7]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found(separator: str) -> None:
    text = f'id{separator}"a,;|b"{separator}c\nx{separator}1{separator}2\n'
    if separator != "\t":
        text = text.replace("a,;|b", "ab")
    assert len(records(read(read_csv, text))[0].fields) == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["true", "null", "42", "007", "1e5", "-0", "[1]", '"x"', "", " ", "\0", "+49 30", "1.50", "{a}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(VALUES)
def test_every_value_comes_back_from_its_cell(value: Any) -> None:
    cell = format_cell(value)
    assert cell
    back = parse_cell(cell)
    assert back == value
    assert type(back) is type(value)


@given(st.dictionaries(st.text(max_size=10), st.dictionaries(st.sampled_from(["a", "b c", "ü"]), VALUES, max_size=3)))
@example({"small": {"a": 0.00010009972139175481}})  # as many decimals as there can be without an exponent
def test_spec_S6_csv_round_trip(documents: dict[str, dict[str, Any]]) -> None:
    kept = {name: fields for name, fields in documents.items() if name and "\0" not in name}
    text = "".join(write_csv(kept.items(), ["a", "b c", "ü"]))
    items = [item for item in read(read_csv, text) if not isinstance(item, BadLine)]
    assert {item.id: item.fields for item in records(items)} == kept


@pytest.mark.parametrize("name", ["id", "ID", "uuid", "", " x "])
def test_a_field_that_a_csv_header_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(BadValue, match="JSON Lines"):
        list(write_csv([("a", {name: 1})], [name]))


# ---- Taskwarrior -----------------------------------------------------------------------------------------------------
def test_spec_S6_taskwarrior_export() -> None:
    items = read(read_taskwarrior, (SAMPLES / "taskwarrior.json").read_bytes(), collection="tasks")
    first, second, third = records(items)
    assert first == Record(
        2,
        "tasks",
        "00a1b2c3-0000-4000-8000-000000000001",
        {
            "title": "Water the plants",
            "status": "open",
            "due": "2026-01-15T08:00:00Z",
            "created_at": "2026-01-01T12:00:00Z",
            "modified": "2026-01-02T12:00:00Z",
            "priority": "high",
            "project": "home.garden",
            "tags": ["garden", "weekly"],
            "notes": "2026-01-03 the ones upstairs too\n2026-01-04 not the cactus",
        },
    )
    assert (second.fields["status"], second.fields["done_at"]) == ("done", "2026-01-06T10:00:00Z")
    assert third.id == "00a1b2c3-0000-4000-8000-000000000005"
    assert third.fields["depends"] == ["00a1b2c3-0000-4000-8000-000000000001"]
    assert third.fields["estimate"] == "PT2H"  # user-defined attributes stay
    assert third.fields["status"] == "waiting"
    assert [(i.line, i.why.split(" (")[0]) for i in items if isinstance(i, LeftOut)] == [
        (4, "tasks deleted in Taskwarrior"),
        (5, "templates of recurring tasks"),
    ]
    assert bad(items) == [(7, "has no uuid, so it is no task of Taskwarrior")]


def test_taskwarrior_one_object_a_line() -> None:
    first, second = records(read(read_taskwarrior, (SAMPLES / "taskwarrior_lines.json").read_bytes(), "tasks"))
    assert first.fields["depends"] == ["00a1b2c3-0000-4000-8000-00000000000" + n for n in "12"]
    assert second.fields["priority"] == "low"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("5", "not a JSON object"),
        ('{"uuid": "00a1b2c3-0000-4000-8000-000000000001", "status": "pending"}', "no description"),
        ('{"uuid": "00a1b2c3-0000-4000-8000-000000000001", "description": "x", "status": "odd"}', "a status"),
    ],
)
def test_what_is_no_task_is_named(line: str, says: str) -> None:
    [(_, why)] = bad(read(read_taskwarrior, line))
    assert says in why


# ---- bookmarks -------------------------------------------------------------------------------------------------------
def test_spec_S6_bookmarks_of_firefox() -> None:
    items = read(read_bookmarks, (SAMPLES / "bookmarks_firefox.html").read_bytes(), collection="bookmarks")
    leeks, rye, again, script = records(items)
    assert leeks.fields == {
        "url": "https://example.org/leeks?a=1&b=2",
        "title": "Leeks <all year>",
        "folders": ["Garden & Kitchen"],
        "added": "2023-11-14T22:18:20Z",
        "modified": "2023-11-14T22:20:00Z",
        "tags": ["soup", "winter"],
        "keyword": "leek",
        "note": "How to grow them.",
    }
    assert leeks.line == 15
    assert rye.fields["folders"] == ["Garden & Kitchen", "Bread"]
    assert rye.fields["title"] == "Roggenbrot für jeden"
    assert again.fields["folders"] == ["Garden & Kitchen"]
    assert again.id != leeks.id  # the same address twice
    assert script.fields["folders"] == ["Bookmarks Toolbar"]  # the note of a folder is no note of a bookmark
    assert "note" not in again.fields
    assert [i.line for i in items if isinstance(i, LeftOut)] == [12]
    assert bad(items) == [(28, "is a bookmark without an address")]


def test_spec_S6_bookmarks_of_chrome() -> None:
    items = read(read_bookmarks, (SAMPLES / "bookmarks_chrome.html").read_bytes(), collection="bookmarks")
    example, tokyo, untitled = records(items)
    assert example.fields == {
        "url": "https://example.org/",
        "title": "An example",
        "folders": ["Bookmarks bar"],
        "added": "2023-11-14T22:13:22Z",
    }
    assert tokyo.fields["url"] == "https://example.net/東京"
    assert untitled.fields == {"url": "https://example.com/"}
    assert items == read(read_bookmarks, (SAMPLES / "bookmarks_chrome.html").read_bytes(), collection="bookmarks")


def test_a_bookmark_is_known_again_when_it_was_moved_or_renamed() -> None:
    def ids(html: str) -> list[str]:
        return [r.id for r in records(read(read_bookmarks, html))]

    before = ids('<DL><DT><A HREF="https://example.org/" ADD_DATE="1">One</A></DL>')
    after = ids('<DL><DT><H3>F</H3><DL><DT><A HREF="https://example.org/" ADD_DATE="2">Uno</A></DL></DL>')
    assert before == after


@pytest.mark.parametrize(
    ("written", "time"),
    [("1700000000", "2023-11-14T22:13:20Z"), ("1700000000000", "2023-11-14T22:13:20Z"),
     ("1700000000000000", "2023-11-14T22:13:20Z"), ("0", None), ("-5", None), ("never", None),
     ("9" * 18, None), ("٣", None)],
)  # fmt: skip
def test_times_of_bookmarks(written: str, time: str | None) -> None:
    [record] = records(read(read_bookmarks, f'<DT><A HREF="https://example.org/" ADD_DATE="{written}">x</A>'))
    assert record.fields.get("added") == time


@given(st.binary(max_size=300) | st.text(alphabet='<>/DTLAHREF="= x\n', max_size=200).map(str.encode))
def test_no_bytes_break_a_reader(content: bytes) -> None:
    for reader in FORMATS.values():
        try:
            for item in reader.read(stream(content), Options("things")):
                assert isinstance(item, Record | BadLine | LeftOut)
                assert item.line >= 1
        except BadValue:
            pass  # a CSV header that names nothing


# ---- which format ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "name", "format_name"),
    [
        ('{"a": 1}\n', "x", "jsonl"),
        ('\n [\n{"a": 1}]', "x.txt", "jsonl"),
        ("\ufeff{}", "x", "jsonl"),
        ((SAMPLES / "taskwarrior.json").read_bytes(), "export.json", "taskwarrior"),
        ((SAMPLES / "taskwarrior_lines.json").read_bytes(), "-", "taskwarrior"),
        ('[{"uuid":"u","description":"' + "d" * 50_000, "-", "jsonl"),
        ((SAMPLES / "bookmarks_firefox.html").read_bytes(), "x", "bookmarks"),
        ("\n<!doctype netscape-bookmark-file-1>\n", "x", "bookmarks"),
        ("<DL><DT><A>", "b.HTML", "bookmarks"),
        ((SAMPLES / "semicolon_bom.csv").read_bytes(), "x", "csv"),
        ("just_one_column\n1\n", "x.csv", "csv"),
        ("a\tb\n", "x", "csv"),
        ("a,b\n".encode("utf-16"), "x", "csv"),
    ],
)
def test_the_format_is_found_out(content: bytes | str, name: str, format_name: str) -> None:
    given_stream = stream(content)
    assert detect(given_stream, name).name == format_name
    raw = content.encode() if isinstance(content, str) else content
    assert given_stream.read() == raw  # nothing was taken


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"SQLite format 3\0....", "SQLite database"),
        (b"PK\x03\x04....", "ZIP archive"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"mozLz40\0...", "Export Bookmarks to HTML"),
        (b"%PDF-1.7", "a PDF"),
        (b"hello there\n", "--format"),
        (b"<html><body>", "--format"),
        (b"\x00\x01,\x02", "--format"),
        (json.dumps({"checksum": "0", "roots": {"bookmark_bar": {}}, "version": 1}).encode(), "Export bookmarks"),
    ],
)
def test_what_is_none_of_them_says_what_to_do(content: bytes, says: str) -> None:
    with pytest.raises(BadValue, match=says):
        detect(stream(content), "file")
