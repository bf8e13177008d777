"""Filters, sorting and cursors mean the same in SQL and, for sealed collections, in Python."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core.rest import RestSealer
from hybridgw_daemon.services.space import RestVault
from hybridgw_daemon.stores import queries
from hybridgw_daemon.stores.documents import Collection, place_of
from hybridgw_daemon.stores.queries import Query, parse_filter, parse_sort
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_protocol.errors import BadValue, SecretsLocked
from hybridgw_storage.database import connect
from hybridgw_storage.migrations import prepare_file

PLAIN = Collection(1, "plain", 0, False)
SEALED = Collection(2, "sealed", 0, True)
VAULT = RestVault(RestSealer(bytes(range(32))), os.urandom)


class Store:
    """The same documents twice: as they are, and sealed."""

    def __init__(self, path: Path) -> None:
        prepare_file(path, MIGRATIONS, stamp="x")
        self.connection = connect(path)
        self.connection.execute("PRAGMA synchronous=OFF")
        for where in (PLAIN, SEALED):
            self.connection.execute(
                "INSERT INTO collection(cid, name, secret) VALUES(?, ?, ?)", (where.cid, where.name, where.secret)
            )
        self.seq = 0

    def fill(self, documents: list[tuple[Any, dict[str, Any] | None]]) -> None:
        self.connection.execute("BEGIN")
        self.connection.execute("DELETE FROM document")
        for where in (PLAIN, SEALED):
            for document, body in documents:
                self.seq += 1
                text: Any = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
                if text is not None and where.secret:
                    text = VAULT.seal(place_of(where.cid, document) + b"b", text.encode())
                self.connection.execute(
                    "INSERT INTO document(cid, id, cl, seq, conflicts, body, clk) VALUES(?, ?, ?, ?, 0, ?, x'')",
                    (where.cid, document, 2 if body is None else 1, self.seq, text),
                )
        self.connection.execute("COMMIT")

    def all_pages(self, where: Collection, query: Query) -> list[Any]:
        """Ids of every page, one after the other; cursors go through their text form."""
        found: list[Any] = []
        for _ in range(1_000):
            page, after = queries.find(self.connection, where, query, VAULT)
            assert len(page) <= query.limit
            found += [f.id for f in page]
            if after is None:
                return found
            text = queries.encode_cursor(query, where.name, after)
            query = query._replace(after=queries.decode_cursor(query, where.name, text))
        raise AssertionError("the pages never end")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("queries") / "a.db")
    yield made
    made.connection.close()


NAMES = ["a", "b", "ü", "a b"]
NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -1.5, 2**53 - 1, 1e20, -1e-9]))
TEXTS = st.sampled_from(["", "a", "A", "ab", "ä", "z", "10", "9", "\U0001f600", "\uffff"])
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.sampled_from(["x", "a"]), SCALARS, max_size=2)
)
BODIES = st.one_of(st.none(), st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
IDS = st.one_of(st.binary(min_size=16, max_size=16), st.text("abc0ä", min_size=1, max_size=4))
DOCUMENTS = st.lists(st.tuples(IDS, BODIES), max_size=25, unique_by=lambda d: d[0])
PATHS = st.sampled_from([*NAMES, "a.x", "a.a", "missing"])
ORDERED = st.one_of(NUMBERS, TEXTS)
CONDITIONS = st.one_of(
    SCALARS,
    st.fixed_dictionaries({}, optional={"$eq": SCALARS, "$ne": SCALARS}).filter(bool),
    st.fixed_dictionaries({}, optional={"$lt": ORDERED, "$lte": ORDERED, "$gt": ORDERED, "$gte": ORDERED}).filter(bool),
    st.fixed_dictionaries({"$in": st.lists(SCALARS, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"$has": SCALARS}),
    st.fixed_dictionaries({"$prefix": TEXTS}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
SORTS = st.lists(st.sampled_from(["a", "b", "a.x", "$id", "$version"]), max_size=3, unique=True).flatmap(
    lambda names: st.tuples(*(st.sampled_from([n, f"-{n}"]) for n in names))
)


@given(
    documents=DOCUMENTS,
    wanted=st.dictionaries(PATHS, CONDITIONS, max_size=2),
    sort=SORTS,
    limit=st.integers(1, 7),
    deleted=st.booleans(),
)
def test_spec_S5_sql_and_python_agree_page_by_page(
    store: Store, documents: Any, wanted: Any, sort: Any, limit: int, deleted: bool
) -> None:
    store.fill(documents)
    query = Query(parse_filter(wanted), parse_sort(",".join(sort)), limit, None, deleted)
    plain, sealed = store.all_pages(PLAIN, query), store.all_pages(SEALED, query)
    assert plain == sealed
    assert len(set(plain)) == len(plain)
    bodies = dict(documents)
    expected = {
        document
        for document, body in bodies.items()
        if (body is not None and queries.matches(body, query.conditions)) or (body is None and deleted and not wanted)
    }
    assert set(plain) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"n": 1}, "ij"), ({"n": 1.0}, "ij"), ({"n": "1"}, "t"), ({"n": True}, "b"), ({"n": None}, "em"),
        ({"n": {"$ne": 1}}, "bemt"), ({"n": {"$gt": 0}}, "ij"), ({"n": {"$gt": ""}}, "t"),
        ({"n": {"$exists": False}}, "em"),
        ({"n": {"$in": [True, "1"]}}, "bt"), ({"n": {"$gte": 1, "$lt": 2}}, "ij"),
    ],
)  # fmt: skip
def test_values_of_different_kinds_never_compare(store: Store, wanted: Any, expected: str) -> None:
    store.fill(
        [("b", {"n": True}), ("e", {}), ("i", {"n": 1}), ("j", {"n": 1.0}), ("m", {"n": None}), ("t", {"n": "1"})]
    )
    for where in (PLAIN, SEALED):
        assert "".join(store.all_pages(where, Query(parse_filter(wanted)))) == expected


@pytest.mark.parametrize(
    "wanted",
    [
        {"": 1}, {"a": {}}, {"a": {"$like": "x"}}, {"a": [1]}, {"a": {"b": 1}}, {"a": {"$in": []}},
        {"a": {"$in": [[1]]}},
        {"a": {"$lt": None}}, {"a": {"$lt": True}}, {"a": {"$exists": 1}}, {"a": {"$prefix": 1}}, {'a"b': 1},
        {"a\\": 1},
        {"a..b": 1}, {"x" * 129: 1}, {".".join("abcdefghi"): 1}, {"a": 2**60}, {"a": {"$in": list(range(201))}},
        {f"f{k}": 1 for k in range(21)}, {"a\n": 1},
    ],
)  # fmt: skip
def test_bad_filters_name_what_is_wrong(wanted: Any) -> None:
    with pytest.raises(BadValue):
        parse_filter(wanted)


@pytest.mark.parametrize("sort", [",", "a,,b", "-", "a,-a", "a,b,c,d", 'a"', "$nothing..x"])
def test_bad_sorts_are_refused(sort: str) -> None:
    with pytest.raises(BadValue):
        parse_sort(sort)


def test_field_names_never_become_sql(store: Store) -> None:
    evil = "a') OR 1=1 --"
    store.fill([("x", {evil: 1, "b": 2}), ("y", {"b": 2})])
    assert store.all_pages(PLAIN, Query(parse_filter({evil: 1}))) == ["x"]
    assert store.all_pages(PLAIN, Query((), parse_sort(evil))) == ["y", "x"]


@pytest.mark.parametrize("text", ["", "!!", "AAAA", "kA", "x" * 5_000])
def test_damaged_cursors_are_refused(text: str) -> None:
    with pytest.raises(BadValue, match="cursor"):
        queries.decode_cursor(Query(), "plain", text)


def test_a_cursor_is_bound_to_its_query(store: Store) -> None:
    store.fill([(str(k), {"a": k}) for k in range(5)])
    query = Query(sort=parse_sort("a"), limit=2)
    _, after = queries.find(store.connection, PLAIN, query, None)
    assert after is not None
    text = queries.encode_cursor(query, "plain", after)
    assert queries.decode_cursor(query, "plain", text) == after
    for other in (
        query._replace(deleted=True),
        query._replace(sort=()),
        query._replace(conditions=parse_filter({"a": 1})),
    ):
        with pytest.raises(BadValue, match="another query"):
            queries.decode_cursor(other, "plain", text)
    with pytest.raises(BadValue, match="another query"):
        queries.decode_cursor(query, "other", text)


def test_pages_stay_in_step_while_documents_come_and_go(store: Store) -> None:
    store.fill([(f"{k:03}", {"a": k}) for k in range(30)])
    query = Query(sort=parse_sort("-a"), limit=10)
    first, after = queries.find(store.connection, PLAIN, query, None)
    store.connection.execute("DELETE FROM document WHERE cid = 1 AND id IN ('029', '019')")
    store.connection.execute(
        "INSERT INTO document(cid, id, cl, seq, conflicts, body, clk) VALUES(1, 'new', 1, 9999, 0, '{\"a\":99}', x'')"
    )
    second, _ = queries.find(store.connection, PLAIN, query._replace(after=after), None)
    assert [f.id for f in first] == [f"{k:03}" for k in range(29, 19, -1)]
    assert [f.id for f in second] == [f"{k:03}" for k in range(18, 8, -1)]


def test_spec_S8_a_sealed_collection_needs_its_key(store: Store) -> None:
    store.fill([("x", {"a": 1})])
    with pytest.raises(SecretsLocked):
        queries.find(store.connection, SEALED, Query(), None)
    with pytest.raises(SecretsLocked):
        queries.get_one(store.connection, "sealed", "x", None)
    found = queries.get_one(store.connection, "sealed", "x", VAULT)
    assert found is not None
    assert found.body == b'{"a":1}'
    rows = queries.feed(store.connection, 0, None)
    assert [(r.collection, r.body) for r in rows] == [("plain", b'{"a":1}'), ("sealed", None)]


def test_the_feed_is_in_the_order_of_change(store: Store) -> None:
    store.fill([("x", {"a": 1}), ("y", None), ("z", {})])
    everything = queries.feed(store.connection, 0, VAULT)
    assert [r.seq for r in everything] == sorted(r.seq for r in everything)
    assert len(everything) == 6
    assert queries.last_seq(store.connection) == everything[-1].seq
    assert queries.feed(store.connection, everything[2].seq, VAULT) == everything[3:]
    assert [r.id for r in queries.feed(store.connection, 0, VAULT, collection=PLAIN, alive_only=True)] == ["x", "z"]
    assert len(queries.feed(store.connection, 0, VAULT, limit=4)) == 4
    assert queries.feed(store.connection, everything[-1].seq, VAULT) == []


def test_counts(store: Store) -> None:
    store.fill([("x", {"a": 1}), ("y", None), ("z", {})])
    assert queries.counts(store.connection) == {"plain": (2, 0), "sealed": (2, 0)}
    assert queries.count_at_most(store.connection, 1, 10) == 2
    assert queries.count_at_most(store.connection, 1, 1) == 1
    assert isinstance(store.connection, sqlite3.Connection)
