"""data: read and write documents."""

from __future__ import annotations

import difflib
import shutil
import sys
from typing import Any

import click

from hybridgw_client.client import path_of
from hybridgw_protocol.errors import NeedsPerson, NotFound

from ..context import App, Group, json_option, pass_app
from ..exits import Exit, Finished
from ..output import clean, count_text, to_json
from ..values import parse_data, parse_filter, parse_json

Json = dict[str, Any]
_EXAMPLE_PUT = "For example: hybridgw data put tasks milk title='Buy milk'"
_EXAMPLE_PATCH = "For example: hybridgw data patch tasks milk status=done"


@click.group(cls=Group)
def data() -> None:
    """Read and write documents.

    Fields are given as one JSON object, as FIELD=VALUE words (a value is JSON where it is one, else text; null removes
    a field), or on stdin with "-".
    """


@data.command("list")
@click.argument("collection", required=False)
@click.option("--limit", type=click.IntRange(1), help="At most so many; without it all.")
@click.option("--deleted", is_flag=True, help="The deleted ones too.")
@json_option
@pass_app
def list_(app: App, collection: str | None, limit: int | None, deleted: bool) -> None:
    """List the documents of a collection; without one, the collections."""
    if collection is None:
        _list_collections(app)
        return
    _list(app, collection, limit, {"deleted": deleted or None})


@data.command()
@click.argument("collection")
@click.argument("conditions", nargs=-1)
@click.option("--filter", "json_filter", metavar="JSON", help="Conditions as the HTTP API takes them.")
@click.option("--sort", metavar="FIELD", help="Field to sort by, '-' before it for descending; several with commas.")
@click.option("--limit", type=click.IntRange(1), help="At most so many; without it all.")
@click.option("--deleted", is_flag=True, help="The deleted ones too.")
@json_option
@pass_app
def query(
    app: App,
    collection: str,
    conditions: tuple[str, ...],
    json_filter: str | None,
    sort: str | None,
    limit: int | None,
    deleted: bool,
) -> None:
    """Find documents that meet all CONDITIONS.

    They look like status=open, status!=done, 'due<2027-01-01', 'size>=10', title^=Buy (begins with), tags~=home (has).
    """
    wanted = parse_filter(conditions)
    if json_filter is not None:
        given = parse_json(json_filter, "--filter")
        if not isinstance(given, dict):
            raise click.UsageError('--filter is a JSON object, like {"status": "open"}.')
        wanted |= given
    _list(app, collection, limit, {"filter": wanted or None, "sort": sort, "deleted": deleted or None})


def _list_collections(app: App) -> None:
    found = list(app.client.pages("/api/collections"))
    if app.out.as_json:
        app.out.json({"items": found, "next_cursor": None})
        return
    app.out.table(
        [[c["name"], f"{c['documents']:,}", f"{c.get('conflicts', 0):,}", c.get("title") or ""] for c in found],
        ["collection", "documents", "conflicts", "what"],
    )


def _list(app: App, collection: str, limit: int | None, query: Json) -> None:
    """Documents, a line each: they are shown as they come, however many there are."""
    count = 0
    found = app.client.documents(collection, **query, limit=min(limit or 1_000, 1_000))
    width = shutil.get_terminal_size().columns if app.out.is_watched else 0
    if app.out.as_json:
        app.out.raw('{"items":[')
    for document in found:
        if app.out.as_json:
            app.out.raw((",\n" if count else "\n") + to_json(document))
        else:
            _line(app, document, width)
        count += 1
        if count == limit:
            break
    if app.out.as_json:
        app.out.raw('\n],"next_cursor":null}\n')
    elif count == 0:
        app.out.say(_why_none(app, collection, query.get("filter") or {}))


def _why_none(app: App, collection: str, conditions: Json) -> str:
    try:
        about: Json = app.client.get(path_of("collections", collection)) if conditions else {}
    except NotFound:
        about = {}
    if not about.get("documents"):
        return f"No documents in {clean(collection)}."
    fields = (about.get("schema") or {}).get("properties") or {}
    unknown = [clean(name) for name in conditions if fields and name.partition(".")[0] not in fields]
    told = f"None of the documents in {clean(collection)} meets that."
    if unknown:
        told += f" Its schema names no {' and no '.join(unknown)}; it names {', '.join(map(clean, fields))}."
    return told


def _line(app: App, document: Json, width: int) -> None:
    name = clean(document["id"])
    if document.get("deleted"):
        body = "(deleted)"
    else:
        body = to_json(document.get("data", "(locked)"))
    mark = app.out.paint(" (conflict)", "yellow") if document.get("conflicts") else ""
    room = max(20, width - len(name) - 2 - (11 if mark else 0)) if width else 0
    app.out.result(f"{app.out.paint(name, 'bold')}  {clean(body, room)}{mark}")


@data.command()
@click.argument("collection")
@click.argument("document", metavar="ID")
@json_option
@pass_app
def get(app: App, collection: str, document: str) -> None:
    """Show one document: its fields as JSON; with --json, its version and conflicts too."""
    found = app.client.document(collection, document)
    app.out.json(found if app.out.as_json else found.get("data"))
    if found.get("conflicts") and not app.out.as_json:
        app.out.warn(f"It has {count_text(found['conflicts'], 'conflict')}. Look: {app.command('conflicts')}")


@data.command()
@click.argument("collection")
@click.argument("document", metavar="ID")
@click.argument("fields", nargs=-1)
@click.option("--version", type=int, help="Only if the document has this version.")
@json_option
@pass_app
def put(app: App, collection: str, document: str, fields: tuple[str, ...], version: int | None) -> None:
    """Write a whole document: fields that are not named go. Makes it, or brings a deleted one back."""
    content = parse_data(fields, example=_EXAMPLE_PUT)
    known = set() if app.out.as_json else {one["name"] for one in app.client.pages("/api/collections")}
    _wrote(app, app.client.put(collection, document, content, version=version))
    if not app.out.as_json and collection not in known:
        like = difflib.get_close_matches(collection, known, n=1)
        app.out.say(f"{clean(collection)} is a new collection{f', beside {clean(like[0])}' if like else ''}.")


@data.command()
@click.argument("collection")
@click.argument("document", metavar="ID")
@click.argument("fields", nargs=-1)
@click.option("--version", type=int, help="Only if the document has this version.")
@json_option
@pass_app
def patch(app: App, collection: str, document: str, fields: tuple[str, ...], version: int | None) -> None:
    """Change the fields that are named; null removes one."""
    content = parse_data(fields, example=_EXAMPLE_PATCH)
    _wrote(app, app.client.patch(collection, document, content, version=version))


def _wrote(app: App, document: Json) -> None:
    if app.out.as_json:
        app.out.json(document)
    else:
        app.out.say(
            f"{clean(document['collection'])}/{clean(document['id'])} is saved (version {document['version']})."
        )


@data.command()
@click.argument("collection")
@click.argument("documents", metavar="ID...", nargs=-1, required=True)
@click.option("--version", type=int, help="Only if the document has this version; for one ID.")
@click.option("--yes", is_flag=True, help="Do not ask when many are deleted at once.")
@json_option
@pass_app
def delete(app: App, collection: str, documents: tuple[str, ...], version: int | None, yes: bool) -> None:
    """Delete documents on all devices: all that are named, or none."""
    if version is not None and len(documents) > 1:
        raise click.UsageError("--version goes with one ID.")

    def run(confirm: bool) -> list[Json]:
        if len(documents) == 1:
            return [app.client.delete(collection, documents[0], version=version, confirm=confirm)]
        operations = [{"op": "delete", "collection": collection, "id": document} for document in documents]
        return app.client.write(operations, confirm=confirm)["items"]  # type: ignore[no-any-return]

    try:
        deleted = run(yes)
    except NeedsPerson as error:
        if yes or not _is_asked(app):
            raise
        app.out.say(clean(error.message.partition(". ")[0]) + ".")
        if not click.confirm("Delete them on all devices?", err=True):
            raise Finished(Exit.NEEDS_PERSON) from error
        deleted = run(True)
    if app.out.as_json:
        app.out.json({"items": deleted})
        return
    app.out.say(f"{count_text(len(documents), 'document')} of {clean(collection)} deleted.")


def _is_asked(app: App) -> bool:
    return sys.stdin.isatty() and not app.out.as_json
