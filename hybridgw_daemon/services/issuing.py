"""What those who give out credentials have in common: where they are kept, who is told, the clock, and chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hybridgw_storage.database import Database

from .audit import AuditService
from .credentials import Credentials


@dataclass(frozen=True, slots=True)
class Issuing:
    """By what means credentials are given out. clock: wall clock, Unix ms; entropy: so many unguessable bytes."""

    database: Database
    credentials: Credentials
    audit: AuditService
    clock: Callable[[], int]
    entropy: Callable[[int], bytes]
