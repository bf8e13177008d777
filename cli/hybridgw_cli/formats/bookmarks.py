"""Bookmarks as every browser exports them: the Netscape bookmark file, which is HTML as of 1996.

    <DT><H3 ADD_DATE="1700000000">Folder</H3>
    <DL><p>
        <DT><A HREF="https://example.org/" ADD_DATE="1700000000" TAGS="a,b">Title</A>
        <DD>A note
    </DL><p>

Folders become a list of names at each bookmark. Icons are left out; so are Firefox's live queries (`place:`).
A bookmark is known again by its address, and by how many with the same address stand before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import BufferedReader
from typing import Final

from .record import BadLine, Fields, IdMaker, Item, LeftOut, Options, Record, text_lines

COLLECTION: Final = "bookmarks"
_MAX_FOLDERS: Final = 30  # a value may be nested 32 deep; nobody nests folders so far
_MICROSECONDS_FROM: Final = 10**14  # as seconds that would be the year 3 million
_MILLISECONDS_FROM: Final = 10**11
_KEPT: Final = {"tags": "tags", "shortcuturl": "keyword", "post_data": "post_data"}


def read_bookmarks(stream: BufferedReader, options: Options) -> Iterator[Item]:
    """Bookmarks of an exported file. Raises: BadValue: the encoding."""
    parser = _Parser(options.collection)
    for _, text in text_lines(stream, options.encoding):
        if isinstance(text, BadLine):
            yield text
            parser.feed("\n")  # keeps its line numbers right
        else:
            parser.feed(text)
        while parser.found:
            yield parser.found.popleft()
    parser.close()
    parser.finish()
    yield from parser.found


class _Parser(HTMLParser):
    """Bookmarks end where the next element begins: the format closes neither DT nor DD."""

    def __init__(self, collection: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: deque[Item] = deque()
        self._collection = collection
        self._ids = IdMaker()
        self._folders: list[str] = []  # one for each open DL
        self._heading = ""  # the last H3: it names the DL that follows
        self._open: tuple[int, Fields] | None = None
        self._text: list[str] = []
        self._into = ""  # what the text being read belongs to: title, note or heading

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag in ("dt", "dl", "h3", "hr", "a"):
            self.finish()
        if tag == "a":
            self._begin(self.getpos()[0], attributes)
        elif tag == "dd" and self._open:
            self._into = "note"
        elif tag == "h3":
            self._into = "heading"
        elif tag == "dl":
            self._folders.append(self._heading)
            self._heading = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("a", "h3"):
            self._end_text()
        elif tag == "dl":
            self.finish()
            if self._folders:
                self._folders.pop()

    def handle_data(self, data: str) -> None:
        if self._into:
            self._text.append(data)

    def _begin(self, line: int, attributes: dict[str, str]) -> None:
        url = attributes.get("href", "").strip()
        if not url:
            self.found.append(BadLine(line, "is a bookmark without an address"))
            return
        if url.startswith("place:"):
            self.found.append(LeftOut(line, "queries of Firefox, which no other program understands"))
            return
        fields: Fields = {"url": url}
        folders = [name for name in self._folders if name]
        if folders:
            fields["folders"] = folders[:_MAX_FOLDERS]
        for attribute, name in (("add_date", "added"), ("last_modified", "modified")):
            if time := _time(attributes.get(attribute, "")):
                fields[name] = time
        for attribute, name in _KEPT.items():
            if value := attributes.get(attribute, ""):
                fields[name] = [tag for tag in value.split(",") if tag] if name == "tags" else value
        self._open = (line, fields)
        self._into = "title"

    def _end_text(self) -> None:
        text = " ".join("".join(self._text).split())
        if self._into == "heading":
            self._heading = text
        elif self._into and self._open and text:
            self._open[1][self._into] = text
        self._into = ""
        self._text.clear()

    def finish(self) -> None:
        """The bookmark being read is complete."""
        self._end_text()
        if self._open:
            line, fields = self._open
            self.found.append(Record(line, self._collection, self._ids.of(self._collection, fields["url"]), fields))
            self._open = None


def _time(text: str) -> str:
    """RFC 3339 in UTC; "" if there is none. Browsers write seconds, some tools milli- or microseconds."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        return ""
    number = int(text)
    if number >= _MICROSECONDS_FROM:
        number //= 1_000_000
    elif number >= _MILLISECONDS_FROM:
        number //= 1_000
    try:
        return datetime.fromtimestamp(number, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if number else ""
    except (ValueError, OverflowError, OSError):
        return ""
