"""The golden bytes of values, bodies and merge, against the reference model, which shares no code with the product."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.models import merge_model as model
from tools.vectors import operations
from tools.vectors.__main__ import render

VECTORS: dict[str, Any] = json.loads(render(operations.vectors()))


def names(cases: list[dict[str, Any]]) -> list[str]:
    return [case["name"] for case in cases]


def test_names_are_told_apart() -> None:
    bodies = VECTORS["bodies"]
    for cases in (bodies["cases"], bodies["void"], bodies["refused"], VECTORS["merge"], VECTORS["values"]["refused"]):
        assert len(set(names(cases))) == len(cases)


@pytest.mark.parametrize("case", VECTORS["values"]["cases"], ids=names(VECTORS["values"]["cases"]))
def test_values(case: dict[str, Any]) -> None:
    assert model.canonical(case["value"]).hex() == case["bytes"]


@pytest.mark.parametrize("case", VECTORS["merge"], ids=names(VECTORS["merge"]))
def test_merge(case: dict[str, Any]) -> None:
    assert len(case["orders"]) >= 1
    for order in case["orders"]:
        state = model.State()
        for at in order:
            step = case["steps"][at]
            doc = model.Doc(step["collection"], uuid.UUID(step["document"]).bytes)
            changes = [model.Change("put", name, value) for name, value in step.get("puts", {}).items()]
            for name, adds, removes in step.get("sets", ()):
                changes += [model.Change("add", name, value) for value in adds]
                changes += [model.Change("remove", name, value) for value in removes]
            kind = ("edit", "create", "delete")[step["kind"]]
            stamp, log = int(step["stamp"]), int(step["log"])
            op = model.Op(kind, doc, step["generation"], stamp, tuple(changes))
            assert not model.is_void_by_rule(op)
            state.apply(op, model.Dot(stamp, log, step["n"]), {int(other): n for other, n in step["seen"]})
        shown, conflicts = state.view()
        assert state.docs[doc].cl == case["generation"]
        assert (doc in shown) == (case["shown"] is not None)
        told = {
            name: sorted(value) if isinstance(value, frozenset) else model.canonical(value)
            for name, value in shown.get(doc, {}).items()
        }
        assert told == {
            name: list(map(model.canonical, value))
            if isinstance(shown[doc][name], frozenset)
            else model.canonical(value)
            for name, value in (case["shown"] or {}).items()
        }
        assert conflicts == sorted(
            ((doc, c["generation"], c["field"], c["kind"], model.canonical(c["value"])) for c in case["conflicts"]),
            key=repr,
        )
        assert all(c["buried"] == (c["generation"] != case["generation"]) for c in case["conflicts"])


def test_what_the_cases_show() -> None:
    """The vectors cover every kind, void operations, conflicts of both kinds, and a tie of stamps."""
    kinds = {op["kind"] for case in VECTORS["bodies"]["cases"] for op in case["operations"]}
    assert kinds == {0, 1, 2, 5}
    assert {c["kind"] for case in VECTORS["merge"] for c in case["conflicts"]} == {"value", "element"}
    assert any(len({step["stamp"] for step in case["steps"]}) < len(case["steps"]) for case in VECTORS["merge"])
    assert {case["code"] for case in VECTORS["bodies"]["refused"]} == {"malformed_body"}
