"""The local API over HTTP: forms, codes, headers, and what bad input gets."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from hybridgw_daemon.transports.local.commands import build
from hybridgw_protocol import localapi
from tests.integration._local_api import TOKEN, Api, running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as made:
        yield made


# ---- a document's life -----------------------------------------------------------------------------------------------
async def test_spec_G3_a_document_from_birth_to_death(api: Api) -> None:
    made = await api.call("POST", "/api/data/tasks", {"title": "write", "tags": ["b", "a"]})
    assert made.status == 201
    where = made.headers["Location"]
    assert where == f"/api/data/tasks/{made.body['id']}"
    assert made.headers["ETag"] == f'"{made.body["version"]}"'
    assert made.headers["Content-Type"] == "application/json"

    read = await api.call("GET", where)
    assert (read.status, read.body, read.headers["ETag"]) == (200, made.body, made.headers["ETag"])
    assert read.body["data"]["tags"] == ["a", "b"]
    same = await api.call("GET", where, If_None_Match=read.headers["ETag"])
    assert (same.status, same.raw, same.headers["ETag"]) == (304, b"", read.headers["ETag"])

    changed = await api.call("PATCH", where, {"tags": {"$remove": ["a"]}, "notes": "x"}, If_Match=read.headers["ETag"])
    assert (changed.status, changed.body["data"]["tags"]) == (200, ["b"])
    late = await api.call("PATCH", where, {"notes": "y"}, If_Match=read.headers["ETag"])
    assert (late.status, late.code, late.body["version"]) == (412, "precondition_failed", changed.body["version"])

    replaced = await api.call("PUT", where, {"title": "rewrite"}, If_Match="*")
    assert "notes" not in replaced.body["data"]
    gone = await api.call("DELETE", where, If_Match=replaced.headers["ETag"])
    assert (gone.status, gone.body["deleted"], "data" in gone.body) == (200, True, False)
    assert (await api.call("GET", where)).code == "deleted"
    assert (await api.call("PATCH", where, {})).status == 410
    back = await api.call("POST", f"{where}/restore", {"title": "again"})
    assert (back.status, back.body["data"]["title"]) == (200, "again")


async def test_spec_G3_a_put_that_must_be_new_or_must_not(api: Api) -> None:
    made = await api.call("PUT", "/api/data/notes/x", {"a": 1}, If_None_Match="*")
    assert made.status == 200
    assert (await api.call("PUT", "/api/data/notes/x", {"a": 2}, If_None_Match="*")).status == 412
    assert (await api.call("PUT", "/api/data/notes/y", {"a": 2}, If_Match="*")).status == 412
    assert (await api.call("PUT", "/api/data/notes/x", {"a": 2}, If_Match='"999"')).status == 412
    assert (await api.call("PUT", "/api/data/notes/x", {"a": 2}, If_Match='W/"1"')).status == 412
    assert (await api.call("GET", "/api/data/notes/x")).body["data"] == {"a": 1}


@pytest.mark.parametrize("header", ["1", '"x"', '"1", "2"', "", '"-1"', '"1"x', '"' + "1" * 30 + '"'])
async def test_conditions_that_are_none_are_refused_not_ignored(api: Api, header: str) -> None:
    await api.call("PUT", "/api/data/notes/x", {"a": 1})
    assert (await api.call("PATCH", "/api/data/notes/x", {"a": 2}, If_Match=header)).status in (400, 412)
    assert (await api.call("GET", "/api/data/notes/x")).body["data"] == {"a": 1}


async def test_conditions_where_they_mean_nothing_are_refused(api: Api) -> None:
    assert (await api.call("POST", "/api/data/notes", {}, If_Match="*")).status == 400
    assert (await api.call("DELETE", "/api/data/notes/x", If_None_Match="*")).status == 400
    assert (await api.call("POST", "/api/data", {"operations": []}, If_Match='"1"')).status == 400


@pytest.mark.parametrize(
    "id", ["a/b", "a b", "ä", "?", "#", "%2F", "..", "a.b", "x" * 64, "01a20dc6-2082-7756-8e5c-12079a1b2c76"]
)
async def test_sec_P5_any_id_is_one_part_of_a_path(api: Api, id: str) -> None:
    path = f"/api/data/notes/{quote(id, safe='')}"
    assert (await api.call("PUT", path, {"a": 1})).body["id"] == id
    assert (await api.call("GET", path)).body["data"] == {"a": 1}
    assert (await api.call("POST", f"/api/data/other?id={quote(id, safe='')}", {"a": 1})).body["id"] == id


async def test_spec_G3_spec_S5_lists_filter_sort_and_page(api: Api) -> None:
    operations = [
        {"op": "put", "collection": "notes", "id": f"{k:02}", "data": {"n": k, "even": k % 2 == 0}} for k in range(30)
    ]
    made = await api.call("POST", "/api/data", {"operations": operations})
    assert (made.status, len(made.body["items"]), made.body["transactions"]) == (200, 30, 1)
    wanted = quote(json.dumps({"even": True, "n": {"$gte": 10}}))
    path = f"/api/data/notes?filter={wanted}&sort=-n&limit=4"
    seen: list[int] = []
    cursor = ""
    while True:
        page = await api.call("GET", path + cursor)
        assert page.status == 200
        seen += [d["data"]["n"] for d in page.body["items"]]
        if page.body["next_cursor"] is None:
            break
        cursor = f"&cursor={page.body['next_cursor']}"
    assert seen == list(range(28, 8, -2))
    assert page.body["since"].endswith("-30")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=x", "limit=", "limit", "filter=x", "filter=[]", "filter={", "sort=,",
        "cursor=x",
        "limt=5", "limit=1&limit=2", "deleted=maybe", "&&", "=x", "%ff=1", "filter=%7B%22a%22:NaN%7D", "token=abc",
        "&".join(f"a{k}=1" for k in range(30)),
    ],
)  # fmt: skip
async def test_bad_queries_name_what_is_wrong(api: Api, query: str) -> None:
    got = await api.call("GET", f"/api/data/notes?{query}")
    assert got.status in (400, 422), got.raw
    assert got.body["detail"]


# ---- errors ----------------------------------------------------------------------------------------------------------
async def test_spec_G3_errors_are_problem_details(api: Api) -> None:
    got = await api.call("PUT", "/api/data/tasks/x", {"title": 1}, X_Request_ID="mine-17")
    assert got.status == 422
    assert got.headers["Content-Type"] == "application/problem+json"
    assert got.headers["X-Request-ID"] == "mine-17"
    assert got.body == {
        "type": "urn:hybridgw:error:invalid_document", "title": "Invalid document", "status": 422,
        "detail": "The document does not fit the schema of tasks: title: must be string.", "code": "invalid_document",
        "retryable": False, "request_id": "mine-17", "errors": ["title: must be string"],
    }  # fmt: skip


@pytest.mark.parametrize("given", ["x" * 65, "a b", "<script>", "a\tb", "ä"])
async def test_a_request_id_that_is_none_is_replaced(api: Api, given: str) -> None:
    got = await api.call("GET", "/health", X_Request_ID=given)
    assert got.headers["X-Request-ID"].startswith("t-")


async def test_spec_G3_every_answer_has_an_id_of_its_own(api: Api) -> None:
    ids = {
        (await api.call("GET", path)).headers["X-Request-ID"] for path in ("/health", "/api/data/x", "/nothing", "/")
    }
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404), ("POST", "/", 405), ("GET", "//", 404), ("GET", "/assets", 404),
        ("GET", "/assets/", 404), ("GET", "/api", 404), ("GET", "/api/data/", 404), ("GET", "//health", 404),
        ("GET", "/health/", 404), ("GET", "/HEALTH", 404), ("GET", "/api/data/a/b/c", 404), ("GET", "/api/data", 405),
        ("DELETE", "/api/data/notes", 405), ("POST", "/health", 405), ("OPTIONS", "/api/data/notes", 405),
        ("TRACE", "/health", 405), ("GET", "/api/data/%2e%2e/x", 422), ("GET", "/api/data/%ff/x", 400),
        ("GET", "/api//data/x", 404), ("GET", "/health;x=1", 404), ("GET", "/api/data/notes%2fx", 422),
    ],
)  # fmt: skip
async def test_paths_and_methods_that_are_none(api: Api, method: str, path: str, status: int) -> None:
    got = await api.call(method, path)
    assert got.status == status, got.raw
    if status == 405:
        assert got.headers["Allow"]


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"1", b'"x"', b"null", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e999}', b'{"a":"\xff"}',
        b'{"a":"\\ud800"}', b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}", b'{"a":1}{"b":2}', b"\xef\xbb\xbf{}",
        b'{"a":' + b"1" * 400 + b"}", b"{'a':1}", b'{"a":1,}',
    ],
)  # fmt: skip
async def test_bodies_that_are_no_document(api: Api, raw: bytes) -> None:
    if raw == b"":
        assert (await api.call("PUT", "/api/data/notes/x", raw=raw, Content_Type="application/json")).status == 200
        return
    got = await api.call("PUT", "/api/data/notes/x", raw=raw)
    assert got.status == 422, got.raw
    assert (await api.call("GET", "/api/data/notes/x")).status == 404


@pytest.mark.parametrize(
    "raw",
    [b'{"a":1,"a":2}', b'{"a":{"b":1,"b":1}}', b'{"a":[{"b":1},{"b":1,"\\u0062":2}]}', b'{"a" :"x:y",\n"a"\t: 1}'],
)
async def test_sec_L22_a_name_that_stands_twice_is_refused_and_named(api: Api, raw: bytes) -> None:
    """Parsers disagree about which of the two counts."""
    got = await api.call("PUT", "/api/data/notes/x", raw=raw)
    assert (got.status, got.code, got.body["field"]) == (422, "bad_value", "b" if b"b" in raw else "a")
    assert (await api.call("GET", "/api/data/notes/x")).status == 404
    twice = quote('{"a":1,"a":2}')
    assert (await api.call("GET", f"/api/data/notes?filter={twice}")).status == 422
    assert (await api.call("PUT", "/api/data/notes/x", raw=b'{"a":{"a":"a:a"},"b":[{"a":1},{"a":2}]}')).status == 200


async def test_spec_G5_the_largest_body_and_one_byte_more(api: Api) -> None:
    for extra, status in ((0, 413), (1, 413)):
        raw = b'{"a":"' + b"x" * (1024 * 1024 - 8 + extra) + b'"}'
        got = await api.call("PUT", "/api/data/notes/x", raw=raw)
        assert got.status == status
        assert ("one request" in got.body["detail"] or "body" in got.body["detail"]) is (extra == 1), got.body
    # within the body limit it is the document that is too big; a batch may carry more
    small = [{"op": "put", "collection": "notes", "id": str(k), "data": {"t": "x" * 60_000}} for k in range(40)]
    assert (await api.call("POST", "/api/data", {"operations": small, "atomic": False})).status == 200
    assert (await api.call("POST", "/api/data", raw=b" " * (8 * 1024 * 1024 + 1))).status == 413


async def test_a_caller_that_asks_before_it_sends(api: Api) -> None:
    head = f"PUT /api/data/notes/x HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head.encode())
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b'{"a":1}')
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_spec_G5_a_chunked_body_is_bounded_too(api: Api) -> None:
    head = f"PUT /api/data/notes/x HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    got = await api.send(head.encode() + chunk * 20)
    assert got.startswith(b"HTTP/1.1 413 ")
    whole = await api.send(head.encode() + b'7\r\n{"a":1}\r\n0\r\n\r\n')
    assert whole.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json5", "", "json",
             "application/json; charset=utf-16", "text/json"]
)  # fmt: skip
async def test_sec_L10_only_json_is_taken(api: Api, kind: str) -> None:
    for method, path in (("PUT", "/api/data/notes/x"), ("POST", "/api/data/notes"), ("POST", "/api/sync/trigger")):
        got = await api.call(method, path, raw=b"{}", Content_Type=kind)
        assert (got.status, got.code) == (415, "unsupported_media_type")
    assert (
        await api.call("PUT", "/api/data/notes/x", raw=b"{}", Content_Type="Application/JSON; charset=UTF-8")
    ).status == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity"])
async def test_compressed_bodies_are_refused_unread(api: Api, coding: str) -> None:
    got = await api.call("PUT", "/api/data/notes/x", raw=b"\x1f\x8b" + b"\0" * 100, Content_Encoding=coding)
    assert got.status == 415


async def test_a_body_where_none_belongs_is_refused(api: Api) -> None:
    for method in ("GET", "DELETE"):
        assert (await api.call(method, "/api/data/notes/x", {"a": 1})).status == 400


async def test_sec_L10_get_changes_nothing(api: Api) -> None:
    await api.call("PUT", "/api/data/notes/x", {"a": 1})

    def count() -> Any:
        return api.database.peek(lambda c: c.execute("SELECT count(*), max(seq) FROM document").fetchone())

    before = count()
    for row in build(api.services):
        if row.method == "GET" and row.stream is None:
            path = row.path.replace("/api/messages/{id}", "/api/messages/01a223a9-2c8b-7ca3-aecf-f549e02d0e57")
            path = path.replace("{collection}", "notes").replace("{id}", "x").replace("{name}", "notes")
            got = await api.call("GET", path)
            assert got.status in (200, 404, 503), (path, got.raw)
    assert count() == before


async def test_head_is_get_without_a_body(api: Api) -> None:
    await api.call("PUT", "/api/data/notes/x", {"a": 1})
    got = await api.call("HEAD", "/api/data/notes/x")
    read = await api.call("GET", "/api/data/notes/x")
    assert (got.status, got.raw, got.headers["Content-Length"]) == (200, b"", str(len(read.raw)))


# ---- other commands --------------------------------------------------------------------------------------------------
async def test_unknown_fields_of_a_command_are_named(api: Api) -> None:
    got = await api.call(
        "POST", "/api/data", {"operations": [{"op": "delete", "collection": "x", "id": "x"}], "atomc": True}
    )
    assert (got.status, "atomc" in got.body["detail"]) == (422, True)
    got = await api.call("POST", "/api/data", {"operations": [{"op": "burn", "collection": "x"}]})
    assert got.body["field"] == "operations[0].op"
    got = await api.call("POST", "/api/conflicts/notes/x", {"collection": "other", "version": 1})
    assert got.status == 422


async def test_collections_are_defined_and_listed(api: Api) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    made = await api.call("PUT", "/api/collections/counts", {"schema": schema, "title": "Counts"})
    assert (made.status, made.body["schema"], made.body["read_only"]) == (200, schema, False)
    assert (await api.call("PUT", "/api/data/counts/x", {"n": "no"})).code == "invalid_document"
    assert (await api.call("PUT", "/api/data/hgw.collections/counts", {})).code == "read_only"
    listed = await api.call("GET", "/api/collections")
    assert {"counts", "tasks", "settings", "activities"} <= {c["name"] for c in listed.body["items"]}
    assert (await api.call("GET", "/api/collections/nothing")).status == 404
    assert (await api.call("PUT", "/api/collections/Bad", {})).status == 422


async def test_what_needs_keys_says_so_while_they_are_locked(tmp_path: Path) -> None:
    async with running(tmp_path, locked=True) as api:
        assert (await api.call("GET", "/api/sync/status")).body["state"] == "locked"
        for method, path, body in (
            ("POST", "/api/sync/trigger", {}), ("GET", "/api/devices", None), ("POST", "/api/devices/pair", {}),
            ("POST", "/api/devices/pair/join", {"code": "417-803-265"}), ("GET", "/api/relays", None),
            ("POST", "/api/relays", {"link": "x"}), ("PUT", "/api/data/settings/x", {"value": 1}),
        ):  # fmt: skip
            got = await api.call(method, path, body)
            assert (got.status, got.code, got.headers["Retry-After"]) == (503, "secrets_locked", "1")
        assert (await api.call("PUT", "/api/data/notes/x", {"a": 1})).status == 200


async def test_a_mass_delete_asks_through_http_too(api: Api) -> None:
    operations = [{"op": "put", "collection": "notes", "id": f"{k}", "data": {}} for k in range(20)]
    await api.call("POST", "/api/data", {"operations": operations})
    deletes = [{"op": "delete", "collection": "notes", "id": f"{k}"} for k in range(10)]
    got = await api.call("POST", "/api/data", {"operations": deletes})
    assert (got.status, got.code, got.body["documents"]) == (409, "needs_person", 10)
    assert (await api.call("POST", "/api/data", {"operations": deletes, "confirm": True})).status == 200
    assert (await api.call("DELETE", "/api/data/notes/15")).status == 409
    assert (await api.call("DELETE", "/api/data/notes/15?confirm=true")).status == 200


async def test_spec_G8_sync_is_asked_for_a_collection(api: Api) -> None:
    status = await api.call("GET", "/api/sync/status?sync_type=settings")
    assert (status.status, status.body["conflicts"]) == (200, 0)
    assert (await api.call("GET", "/api/sync/status?sync_type=Bad")).status == 422
    for body, status_code in (
        ({"sync_type": "settings", "deployment_mode": "web_app"}, 503),  # understood; there are no keys in this test
        ({"sync_type": "settings", "deployment_mode": "toaster"}, 422),
        ({"sync_type": "Bad"}, 422),
        ({"timeout_s": 1e9}, 422),
    ):
        assert (await api.call("POST", "/api/sync/trigger", body)).status == status_code


async def test_the_daemon_is_stopped_by_its_owner(api: Api) -> None:
    assert (await api.call("POST", "/api/daemon/stop", {}, token=None)).status == 401
    assert not api.daemon.stopped
    assert (await api.call("POST", "/api/daemon/stop", {})).status == 200
    assert api.daemon.stopped


async def test_every_row_has_types_a_right_and_a_place_of_its_own(api: Api) -> None:
    table = build(api.services)
    assert len({row.name for row in table}) == len({(row.method, row.path) for row in table}) == len(table)
    for row in table:
        assert issubclass(row.kind, localapi.Command)
        assert (row.handler is None) is (row.stream is not None)
        assert row.scope == "open" or row.name != "health"
        assert (row.body is None) is (row.method in ("GET", "DELETE")), row.name


async def test_spec_G3_the_reference_page_has_every_call(api: Api) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "http-api.md").read_text()
    for row in build(api.services):
        assert f"`{row.method} {row.path}`" in page, f"{row.method} {row.path} is not documented"


async def test_spec_O2_one_access_line_per_call_with_the_template_of_its_path(api: Api) -> None:
    await api.call("PUT", "/api/data/notes/private-name", {"a": 1})
    await api.call("GET", "/private-path")
    await api.call("GET", "/api/data/notes/x", token="wrong")
    await api.call("GET", "/health", Host="evil.example")
    assert [(call[0], call[1], call[2], call[5]) for call in api.calls] == [
        ("PUT", "/api/data/{collection}/{id}", 200, None),
        ("GET", "-", 404, "not_found"),
        ("GET", "/api/data/{collection}/{id}", 401, "unauthorized"),
        ("GET", "-", 421, "misdirected"),
    ]


async def test_pipelined_and_kept_connections(api: Api) -> None:
    one = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(one * 50)
    found = b""
    while found.count(b'{"status":"ok"}') < 50:
        found += await asyncio.wait_for(reader.read(65_536), 30)
    assert found.count(b"HTTP/1.1 200 OK") == 50
    writer.write(one.replace(b"HTTP/1.1", b"HTTP/1.0"))
    rest = await asyncio.wait_for(reader.read(), 30)
    assert b"Connection: close" in rest
    writer.close()


async def test_an_error_of_ours_tells_nothing_but_a_reference(api: Api) -> None:
    api.daemon.fault = RuntimeError("planted-detail")
    got = await api.call("GET", "/api/paths")
    assert (got.status, got.code) == (500, "internal")
    assert "planted-detail" not in got.raw.decode()
    assert got.headers["X-Request-ID"] in got.body["detail"]


WORDS = [
    "tasks",
    "notes",
    "settings",
    "x",
    "",
    "..",
    "%00",
    "a" * 70,
    "hgw.collections",
    "01a20dc6-2082-7756-8e5c-12079a1b2c76",
]
SCRAPS: list[Any] = [
    None, True, 0, -1, 2**53, 1e308, "", "x", "\x00", "$add", [], [None], {}, {"$add": [1]}, {"a": {"b": [{}]}},
    "2027-01-15T08:00:00Z",
]  # fmt: skip
NAMES = [
    "title", "tags", "value", "op", "collection", "id", "data", "operations", "schema", "version", "keep", "choices",
    "sync_type", "code", "link", "url", "accept", "relay", "name", "properties", "type", "min_reader", "status", "$set",
    "",
]  # fmt: skip


def scrap(rng: random.Random, depth: int = 0) -> Any:
    """Something that could stand in a body."""
    kind = rng.random()
    if depth < 3 and kind < 0.25:
        return [scrap(rng, depth + 1) for _ in range(rng.randrange(4))]
    if depth < 3 and kind < 0.6:
        return {rng.choice(NAMES): scrap(rng, depth + 1) for _ in range(rng.randrange(5))}
    return rng.choice([*SCRAPS, *WORDS])


@pytest.mark.parametrize("seed", range(4))
async def test_random_requests_get_an_answer_and_never_break_it(api: Api, seed: int) -> None:
    rng = random.Random(seed)
    rows = [row for row in build(api.services) if row.stream is None]
    statuses: Counter[int] = Counter()
    for _ in range(300):
        row = rng.choice(rows)
        path = "/".join(quote(rng.choice(WORDS)) if part.startswith("{") else part for part in row.path.split("/"))
        if rng.random() < 0.5:
            names = [*NAMES, "filter", "sort", "limit", "cursor", "deleted", "confirm"]
            path += "?" + "&".join(
                f"{rng.choice(names)}={quote(json.dumps(scrap(rng)))}" for _ in range(rng.randrange(3))
            )
        body = (
            None
            if row.body is None
            else scrap(rng)
            if rng.random() < 0.3
            else {rng.choice(NAMES): scrap(rng) for _ in range(3)}
        )
        raw = None if row.body is None else json.dumps(body).encode()
        got = await api.call(row.method, path, raw=raw)
        assert got.status < 500 or got.code == "secrets_locked", (row.method, path, raw, got.raw)
        assert got.status < 400 or got.body["detail"]
        statuses[got.status] += 1
    assert len(statuses) >= 5
    assert (await api.call("GET", "/health")).status == 200
