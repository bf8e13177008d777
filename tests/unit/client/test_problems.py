"""Problem details become the error that was raised at the other end."""

from __future__ import annotations

import inspect

import pytest

from hybridgw_client.problems import BY_CODE, error_of
from hybridgw_protocol import errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.HybridGWError)]


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.__subclasses__()])
def test_every_error_comes_back_as_itself(kind: type[errors.HybridGWError]) -> None:
    problem = {"type": "about:blank", "title": "T", "status": kind.http_status, "code": kind.code, "detail": "Why."}
    error = error_of(kind.http_status, problem | {"field": "x"}, {"X-Request-ID": "r1"})
    assert type(error) is kind
    assert error.message == "Why."
    assert error.detail == {"field": "x", "status": kind.http_status, "request_id": "r1"}
    assert len(BY_CODE) > 30


def test_a_code_of_a_later_version_is_kept() -> None:
    error = error_of(418, {"code": "teapot", "title": "Short and stout"}, {"Retry-After": "3"})
    assert type(error) is errors.HybridGWError
    assert (error.message, error.detail) == ("Short and stout", {"status": 418, "code": "teapot", "retry_after_s": "3"})


@pytest.mark.parametrize("problem", [{}, {"code": 5, "detail": 7}, {"code": ["x"], "title": ""}])
def test_an_answer_without_a_reason_still_becomes_an_error(problem: dict[str, object]) -> None:
    assert error_of(500, problem, {}).message == "The daemon answered 500 without a reason."
