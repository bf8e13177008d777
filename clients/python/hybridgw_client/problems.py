"""Problem details (RFC 9457) of an answer, turned back into the error that the daemon raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hybridgw_protocol.errors import HybridGWError

_STANDARD: Final = frozenset({"type", "title", "status", "detail", "instance", "code"})


def _by_code() -> dict[str, type[HybridGWError]]:
    """Where a group of errors shares its code with one of them, the one counts."""
    found: dict[str, type[HybridGWError]] = {}
    left = [HybridGWError]
    while left:
        kind = left.pop(0)
        left += kind.__subclasses__()
        found[kind.code] = kind
    return found


BY_CODE: Final = _by_code()


def error_of(status: int, problem: Mapping[str, Any], headers: Mapping[str, str]) -> HybridGWError:
    """The error that an answer tells. `detail` of it holds the problem's further members, `status` and `request_id`.

    A code that this version does not know becomes a plain HybridGWError with `detail['code']`.
    """
    code = problem.get("code")
    message = problem.get("detail") or problem.get("title")
    kind = BY_CODE.get(code) if isinstance(code, str) else None
    detail: dict[str, Any] = {key: value for key, value in problem.items() if key not in _STANDARD and key != "message"}
    detail["status"] = status
    if kind is None:
        kind = HybridGWError
        detail["code"] = code
    for header, name in (("X-Request-ID", "request_id"), ("Retry-After", "retry_after_s")):
        if header in headers:
            detail.setdefault(name, headers[header])
    text = message if isinstance(message, str) and message else f"The daemon answered {status} without a reason."
    return kind(text, **detail)
