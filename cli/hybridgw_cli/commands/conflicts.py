"""conflicts: what two devices wrote without seeing each other; all values are kept until somebody decides."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click

from hybridgw_client.client import path_of
from hybridgw_protocol.errors import Deleted, NotFound

from ..context import App, Command, Group, json_option, pass_app
from ..output import clean, count_text, time_text, to_json
from ..values import parse_json, parse_value

Json = dict[str, Any]


@click.group(cls=Group, invoke_without_command=True)
@click.option("--collection", help="Only of this collection.")
@json_option
@click.pass_context
def conflicts(ctx: click.Context, collection: str | None) -> None:
    """List and resolve what was written at the same time.

    That is: on devices that had not seen each other's write. All of them show the same value and keep the others until
    somebody decides; sync never waits for it.
    """
    if ctx.invoked_subcommand is not None:
        return
    app = ctx.ensure_object(App)
    found = list(app.client.pages("/api/conflicts", collection=collection))
    if app.out.as_json:
        app.out.json({"items": found, "total": len(found), "next_cursor": None})
        return
    if not found:
        app.out.say("No conflicts.")
    names = {device["id"]: device["name"] for device in app.client.pages("/api/devices")} if found else {}
    for conflict in found:
        show(app, conflict, names)
    if found:
        first = found[0]
        place = f"{clean(first['collection'])} {_word(first['id'])}"
        app.out.say(f"Decide: {app.command(f'conflicts resolve {place}')} --keep | --use N | --value VALUE")


def show(app: App, conflict: Json, names: Mapping[str, str]) -> None:
    """One document's conflicts, each field with what is shown and the numbered others. Args: names: by device id."""
    out = app.out
    gone = " (deleted)" if conflict["deleted"] else ""
    out.result(f"{out.paint(clean(conflict['collection']), 'dim')} {out.paint(clean(conflict['id']), 'bold')}{gone}")
    for name, fields in _by_field(conflict).items():
        buried = "  (written before the document was deleted)" if any(f["buried"] for f in fields) else ""
        shown = next((clean(to_json(f["shown"]), 200) for f in fields if "shown" in f), "(nothing)")
        out.result(f"  {clean(name)}{buried}")
        out.result(f"    shown   {shown}")
        for number, other in enumerate(_others(fields), 1):
            device = clean(names.get(other.get("device") or "", ""), 40)
            at = time_text(other["at_ms"]) if other.get("at_ms") else ""
            out.result(
                f"    use {number}   {clean(to_json(other['value']), 200)}  {out.paint(f'{at}  {device}', 'dim')}"
            )


def _by_field(conflict: Json) -> dict[str, list[Json]]:
    """A field may stand there twice: values of this life of the document, and of one before it was deleted."""
    found: dict[str, list[Json]] = {}
    for field in conflict["fields"]:
        found.setdefault(field["field"], []).append(field)
    return found


def _others(fields: list[Json]) -> list[Json]:
    return [other for field in fields for other in field["others"]]


def _word(text: str) -> str:
    """As a shell takes it back."""
    import shlex

    return shlex.quote(clean(text))


@conflicts.command(cls=Command)
@click.argument("place", nargs=-1, required=True, metavar="COLLECTION ID [FIELD]")
@click.option("--keep", is_flag=True, help="Keep what is shown; without a FIELD, for all fields.")
@click.option("--use", "number", type=click.IntRange(1), metavar="N", help="Take the N-th of the other values.")
@click.option("--value", metavar="VALUE", help="Write this value instead, JSON or text; null removes the field.")
@json_option
@pass_app
def resolve(app: App, place: tuple[str, ...], keep: bool, number: int | None, value: str | None) -> None:
    """Decide one conflict: keep what is shown, take another value, or write a new one.

    The decision travels to the other devices like any edit.
    """
    if sum((keep, number is not None, value is not None)) != 1:
        raise click.UsageError("Choose one of --keep, --use N and --value VALUE.")
    collection, document, field = _place(place)
    path = path_of("conflicts", collection, document)
    try:
        conflict: Json = app.client.get(path)
    except NotFound:
        _check_is_there(app, collection, document)
        raise
    body: Json = {"version": conflict["version"]}
    if keep and field is None:
        body["keep"] = "shown"
        decided = list(_by_field(conflict))
    else:
        name, fields = _chosen(conflict, field)
        decided = [name]
        body["choices"] = {name: _choice(name, fields, keep=keep, number=number, value=value)}
    result = app.client.post(path, body)
    if app.out.as_json:
        app.out.json(result)
        return
    app.out.say(
        f"{clean(collection)}/{clean(document)}: {count_text(len(decided), 'field')} decided"
        f" ({', '.join(map(clean, decided))})."
    )


def _check_is_there(app: App, collection: str, document: str) -> None:
    try:
        with suppress(Deleted):
            app.client.document(collection, document)
    except NotFound as error:
        raise NotFound(
            f"There is no document {document!r} in {collection}; 'hybridgw conflicts' lists those with a conflict."
        ) from error


def _place(words: tuple[str, ...]) -> tuple[str, str, str | None]:
    if len(words) == 1 and "/" in words[0]:
        collection, _, document = words[0].partition("/")
        return collection, document, None
    if len(words) == 2:
        return words[0], words[1], None
    if len(words) == 3:
        return words[0], words[1], words[2]
    raise click.UsageError(
        "Which conflict? COLLECTION ID, and FIELD if there are several; 'hybridgw conflicts' lists them."
    )


def _chosen(conflict: Json, name: str | None) -> tuple[str, list[Json]]:
    """The field that is meant. Raises: UsageError: several, and none is named; NotFound."""
    fields = _by_field(conflict)
    names = ", ".join(map(clean, fields))
    if name is None:
        if len(fields) != 1:
            raise click.UsageError(f"Several fields are in conflict: {names}. Name one.")
        return next(iter(fields.items()))
    if name not in fields:
        raise NotFound(f"The field {clean(name)} is not in conflict; these are: {names}.")
    return name, fields[name]


def _choice(name: str, fields: list[Json], *, keep: bool, number: int | None, value: str | None) -> Json:
    if keep:
        return {"keep": "shown"}
    if value is not None:
        is_json = value.lstrip()[:1] in ("{", "[", '"')  # else as in `data put title=Foo`
        return {"value": parse_json(value, "--value") if is_json else parse_value(value)}
    others = _others(fields)
    assert number is not None  # noqa: S101 - by the check of the options
    if number > len(others):
        raise click.UsageError(f"{clean(name)} has {count_text(len(others), 'other value')}, no number {number}.")
    return {"key": others[number - 1]["key"]}
