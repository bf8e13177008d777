"""The error tree: every class has a code of its own form, a docstring, and a place in the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hybridgw_protocol import errors
from hybridgw_protocol.errors import (
    HybridGWError,
    LocalError,
    NotAdmitted,
    PairingFailed,
    QuotaExceeded,
    RemoteError,
    Revoked,
    StateError,
)


def tree(kind: type[HybridGWError] = HybridGWError) -> Iterator[type[HybridGWError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


CLASSES = list(tree())


def test_every_class_of_the_module_hangs_in_the_tree() -> None:
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__}
    assert defined == set(CLASSES)
    assert len(CLASSES) > 30
    for kind in CLASSES:
        assert kind in (HybridGWError, LocalError, RemoteError, StateError) or sum(
            issubclass(kind, branch) for branch in (LocalError, RemoteError, StateError)
        ) == 1  # fmt: skip


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_has_a_code_a_status_and_words(kind: type[HybridGWError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert len(kind.code) <= 64  # fits an err frame
    assert 400 <= kind.http_status < 600
    assert isinstance(kind.retryable, bool)
    assert kind.__doc__
    assert "code" in vars(kind)  # its own, not one it inherits


def test_codes_tell_the_classes_apart() -> None:
    """Only a branch itself shares the code of its plainest child, and the one that older pages call otherwise."""
    by_code: dict[str, set[str]] = {}
    for kind in CLASSES:
        by_code.setdefault(kind.code, set()).add(kind.__name__)
    assert {code: names for code, names in by_code.items() if len(names) > 1} == {
        "bad_frame": {"RemoteError", "BadFrame"}
    }


def test_an_error_carries_its_message_and_facts() -> None:
    error = errors.Gap("Batch 7 does not follow 5.", log=-3, have=5)
    assert str(error) == error.message == "Batch 7 does not follow 5."
    assert error.detail == {"log": -3, "have": 5}
    assert error.retryable
    assert error.code == "gap"


@pytest.mark.parametrize("kind", [NotAdmitted, PairingFailed, QuotaExceeded, Revoked])
def test_what_the_other_end_refuses_is_no_fault_of_the_daemon(kind: type[RemoteError]) -> None:
    """A used invite is counted as a mistake of the caller, not among the errors that the health report tells of."""
    assert 400 <= kind.http_status < 500
