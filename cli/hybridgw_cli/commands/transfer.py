"""import and export: files people have, into documents and back."""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Final

import click

from hybridgw_protocol.errors import BadValue, StateError
from hybridgw_protocol.ids import check_collection

from ..context import App, Command, json_option, pass_app
from ..exits import Exit, Finished
from ..formats.csvfile import write_csv
from ..formats.detect import FORMATS, Format, detect
from ..formats.record import BadLine, Item, Options, Record
from ..importing import Importer, Summary
from ..output import Progress, clean, count_text, to_json

Json = dict[str, Any]
_BUFFER_BYTES: Final = 128 * 1024
_SHOWN_BAD: Final = 20
_WHERE: Final = "Which collection do these documents go to? --collection NAME"


# ---- import --------------------------------------------------------------------------------------------------------
@click.command("import", cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--format", "format_name", type=click.Choice(list(FORMATS)), help="Without it, it is found out.")
@click.option("--collection", help="Where the documents go; tasks and bookmarks know it themselves.")
@click.option("--id", "id_field", metavar="FIELD", help="Column or field that holds each document's id.")
@click.option("--encoding", help="Of the file, if it is neither UTF-8 nor UTF-16: cp1252, for example.")
@click.option("--text", is_flag=True, help="CSV: keep every cell as text, numbers too.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would happen, write nothing; schemas and limits are not checked."
)
@json_option
@pass_app
def import_(
    app: App,
    file: str,
    format_name: str | None,
    collection: str | None,
    id_field: str | None,
    encoding: str | None,
    text: bool,
    dry_run: bool,
) -> None:
    """Bring in a file: JSON Lines, CSV, Taskwarrior, bookmarks.

    FILE may be "-" for stdin. The same file again changes nothing; a newer one changes what differs. Lines that cannot
    be taken are named, the others are imported, and the exit code is 5.
    """
    if collection:
        _check_name(collection)
    with _opened(file) as stream:
        chosen = FORMATS[format_name] if format_name else detect(stream, file)
        place = collection or chosen.collection
        if not place and chosen.name == "csv":
            raise click.UsageError(_WHERE)
        options = Options(place, id_field=id_field or "", encoding=encoding or "", text=text)
        importer = Importer(app.client, dry_run=dry_run, told=_Teller(app))
        try:
            with app.out.progress(f"Importing {os.path.basename(file)}", _size(stream)) as bar:
                for summary in importer.run(_read(chosen, stream, options, bar)):
                    bar.tell(count_text(summary.created + summary.changed, "document"))
        except KeyboardInterrupt:
            if not dry_run:  # "at least": what was on its way when it was stopped may be written, too
                app.out.say(
                    f"At least {count_text(importer.summary.taken, 'document')} of the file are here now."
                    " Import it again: those stay as they are, the others follow."
                )
            raise
    _summarise(app, chosen, importer.summary, dry_run=dry_run)
    if importer.summary.refused:
        raise Finished(Exit.PARTIAL)
    if not importer.summary.collections and not importer.summary.left_out:
        raise BadValue(f"No document was found in {clean(file)}, read as {chosen.name}; see --format.")


def _check_name(collection: str) -> None:
    try:
        check_collection(collection)
    except BadValue as error:
        raise click.UsageError(error.message) from error


@contextmanager
def _opened(file: str) -> Iterator[BufferedReader]:
    if file == "-":
        stdin = sys.stdin.buffer
        assert isinstance(stdin, BufferedReader)  # noqa: S101 - whatever Python opens for descriptor 0
        yield stdin
        return
    try:
        stream: BufferedReader = BufferedReader(io.FileIO(file), _BUFFER_BYTES)
    except FileNotFoundError as error:
        raise BadValue(f"There is no file {clean(file)}.") from error
    except OSError as error:
        raise BadValue(f"{clean(file)} cannot be read: {error.strerror}.") from error
    with stream:
        yield stream


def _size(stream: BufferedReader) -> int | None:
    with suppress(OSError, io.UnsupportedOperation):
        about = os.fstat(stream.fileno())
        return about.st_size if stat.S_ISREG(about.st_mode) else None
    return None


def _read(chosen: Format, stream: BufferedReader, options: Options, bar: Progress) -> Iterator[Item]:
    """The items, telling the bar how much of the file is behind us.

    Raises: UsageError: the first document names no collection; then it is not one bad line among others.
    """
    done, is_first = 0, True
    for number, item in enumerate(chosen.read(stream, options)):
        if is_first and isinstance(item, Record):
            is_first = False
            if not item.collection:
                raise click.UsageError(_WHERE)
        if number % 256 == 0:
            with suppress(OSError, io.UnsupportedOperation):
                now = stream.tell()
                bar.advance(now - done)
                done = now
        yield item


class _Teller:
    """Names the first bad lines as they come; the summary says how many there are."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._told = 0

    def __call__(self, bad: BadLine) -> None:
        self._told += 1
        if self._told <= _SHOWN_BAD:
            self._app.out.say(f"line {bad.line}: {clean(bad.why, 300)}")
        elif self._told == _SHOWN_BAD + 1:
            self._app.out.say("Further bad lines are only counted; --json lists up to 1,000.")


def _summarise(app: App, chosen: Format, summary: Summary, *, dry_run: bool) -> None:
    if app.out.as_json:
        app.out.json({"format": chosen.name, "dry_run": dry_run, **summary.to_json()})
        return
    total = sum(summary.collections.values())
    are_several = len(summary.collections) > 1
    where = ", ".join(
        f"{clean(name)} ({count:,})" if are_several else clean(name) for name, count in summary.collections.items()
    )
    would = "would be " if dry_run else ""
    app.out.result(
        f"{count_text(total, 'document')} read as {chosen.name}"
        + (f" for {where}" if where else "")
        + f": {summary.created:,} {would}new, {summary.changed:,} {would}changed, {summary.unchanged:,} as they were"
        + (f", {total - summary.taken:,} refused." if total > summary.taken else ".")
    )
    if dry_run and summary.created + summary.changed:
        app.out.result("What a schema or a limit refuses is seen only when it is imported.")
    for why, count in summary.left_out.items():
        app.out.result(f"Left out: {count:,} {why}.")
    if summary.refused:
        app.out.result(f"Not imported: {count_text(summary.refused, 'bad line')}.")


# ---- export --------------------------------------------------------------------------------------------------------
@click.command("export", cls=Command)
@click.argument("collection")
@click.option(
    "--format", "format_name", type=click.Choice(["jsonl", "csv"]), help="Without it, as FILE ends; else jsonl."
)
@click.option("--output", "-o", metavar="FILE", help="Write to a file: whole or not at all. Without it, to stdout.")
@pass_app
def export_(app: App, collection: str, format_name: str | None, output: str | None) -> None:
    """Write a collection to a file or stdout.

    `hybridgw import` reads it back as it was. Deleted documents are not in it, and of conflicts only what is shown.
    """
    chosen = format_name or ("csv" if output and output.lower().endswith(".csv") else "jsonl")
    documents = (d for d in app.client.documents(collection, sort="$id") if not d.get("deleted"))
    lines = _jsonl(documents) if chosen == "jsonl" else _csv(app, collection, documents)
    if output is None or output == "-":
        count = 0
        for count, line in enumerate(lines, 1):  # noqa: B007 - how many there were
            app.out.raw(line)
    else:
        count = _written(Path(output), lines)
    count -= chosen == "csv"  # its first line is no document
    if count <= 0:
        app.out.say(f"There is no document in {clean(collection)}. What there is: {app.command('data list')}")
    note = {"collection": collection, "documents": max(0, count), "format": chosen}
    app.client.post("/api/auth/audit/exports", note)
    if output is not None and output != "-":
        app.out.say(f"{count_text(count, 'document')} of {clean(collection)} written to {clean(output)}.")


def _jsonl(documents: Iterable[Json]) -> Iterator[str]:
    for document in documents:
        _check_readable(document)
        yield to_json({name: document[name] for name in ("collection", "id", "data")}) + "\n"


def _csv(app: App, collection: str, documents: Iterable[Json]) -> Iterator[str]:
    """Columns are all fields that any document has, so everything is read twice."""
    columns: dict[str, None] = {}
    for document in app.client.documents(collection):
        columns.update(dict.fromkeys(document.get("data") or ()))
    yield from write_csv(((d["id"], _check_readable(d)) for d in documents), list(columns))


def _check_readable(document: Json) -> Json:
    if "data" not in document:
        raise StateError("This collection is sealed and its key is locked. What helps: hybridgw doctor")
    return document["data"]  # type: ignore[no-any-return]


def _written(path: Path, lines: Iterable[str]) -> int:
    """Write all lines beside the file, then put it in place. Returns how many. Raises: StateError."""
    count = 0
    try:
        with _replacement(path) as file:
            for line in lines:
                file.write(line)
                count += 1
    except OSError as error:
        raise StateError(f"{clean(path)} cannot be written: {error.strerror}.") from error
    return count


@contextmanager
def _replacement(path: Path) -> Iterator[IO[str]]:
    path = Path(os.path.realpath(path))  # the file that a link names, not the link
    if path.exists() and not path.is_file():  # a device or a pipe, like /dev/stdout: nothing takes its place
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
