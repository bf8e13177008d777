"""Exit codes that scripts rely on, and which error leads to which: docs/reference/exit-codes-and-errors.md."""

from __future__ import annotations

from enum import IntEnum

from hybridgw_protocol.errors import HybridGWError, NeedsPerson, NotRunning, Offline, SecretsLocked, WrongCode


class Exit(IntEnum):
    """What a command ends with."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_RUNNING = 3
    NEEDS_PERSON = 4
    PARTIAL = 5  # offline, or only part of it was done
    INTERRUPTED = 130  # 128 + SIGINT, as shells count
    BROKEN_PIPE = 141  # 128 + SIGPIPE


def exit_of(error: HybridGWError) -> Exit:
    """The exit code that tells of this error."""
    match error:
        case NotRunning():
            return Exit.NOT_RUNNING
        case NeedsPerson() | SecretsLocked() | WrongCode():
            return Exit.NEEDS_PERSON
        case Offline():
            return Exit.PARTIAL
        case _:
            return Exit.ERROR


class Finished(Exception):
    """An outcome, not an error: ends a command with an exit code when its output already says why."""

    def __init__(self, code: Exit) -> None:
        super().__init__(code)
        self.code = code
