"""Every error of the project: one tree, each class with a stable code, a message for a person, and `retryable`.

HybridGWError
├── LocalError        our own user or caller asked for something that cannot be done; nothing was written
├── RemoteError       the other end of a link broke the protocol; it costs that link, never our data
└── StateError        this installation cannot go on as it is: disk, keyring, version, second daemon

Codes are snake_case and the same on the wire, in HTTP problem details, in logs and in the CLI. A message says what
happened, why, and what to do next. `detail` carries machine-readable facts (never secrets, never document content).
"""

from __future__ import annotations

from typing import ClassVar


class HybridGWError(Exception):
    """Base of the tree; `code` and `retryable` are fixed per class."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, **detail: object) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


# ---- what a caller asked for ---------------------------------------------------------------------------------------
class LocalError(HybridGWError):
    """A request that is refused with nothing written."""

    code = "bad_request"
    http_status = 400


class BadValue(LocalError):
    """A value outside the value domain (limits.py, codec.py)."""

    code = "bad_value"
    http_status = 422


class TooBig(LocalError):
    """A document, field, transaction or request above its limit."""

    code = "too_big"
    http_status = 413


class NotFound(LocalError):
    """No such document, conflict, device or path."""

    code = "not_found"
    http_status = 404


class Deleted(LocalError):
    """The document is deleted: create it again (restore) before writing to it."""

    code = "deleted"
    http_status = 410


class AlreadyExists(LocalError):
    """Create of a document that is alive."""

    code = "already_exists"
    http_status = 409


class PreconditionFailed(LocalError):
    """If-Match named another version than the one stored."""

    code = "precondition_failed"
    http_status = 412


class Unauthorized(LocalError):
    """No credential, or not a valid one."""

    code = "unauthorized"
    http_status = 401


class Forbidden(LocalError):
    """A valid credential that does not allow this."""

    code = "forbidden"
    http_status = 403


class InvalidCredentials(LocalError):
    """A login or refresh with a key, approval or refresh token that does not count, or no longer."""

    code = "invalid_credentials"
    http_status = 401


class LinkOver(LocalError):
    """A link to the dashboard that does not open it: used already, too old, or of another run of the daemon."""

    code = "link_over"
    http_status = 410


class SupabaseNotConfigured(LocalError):
    """A login with a Supabase token, and no Supabase project is configured here."""

    code = "supabase_not_configured"
    http_status = 501


class Refused(LocalError):
    """A person refused this app a short while ago; `retry_after_s` tells when it may ask again."""

    code = "refused"
    http_status = 403


class WrongCode(LocalError):
    """The six digits are not those of the request; `tries_left` tells how often one may still try. CLI exit code 4."""

    code = "wrong_code"
    http_status = 409


class TooManyRequests(LocalError):
    """More than is allowed in a time, or than the budget of this credential holds; wait `retry_after_s`."""

    code = "too_many_requests"
    retryable = True
    http_status = 429


class Busy(LocalError):
    """A bounded queue is full; the same request may succeed later."""

    code = "busy"
    retryable = True
    http_status = 503


class TooMany(LocalError):
    """A bound on how many of something there may be at one time: subscriptions of a program, keys, apps let in."""

    code = "too_many"
    http_status = 429


class UpgradeRequired(LocalError):
    """The path is a WebSocket, and the request does not ask for one that we speak."""

    code = "upgrade_required"
    http_status = 426


class NeedsPerson(LocalError):
    """Only a person can go on: unlock a keyring, confirm words, approve. CLI exit code 4."""

    code = "needs_person"
    http_status = 409


class Offline(LocalError):
    """The other end cannot be reached now. CLI exit code 5."""

    code = "offline"
    retryable = True
    http_status = 503


class InvalidDocument(LocalError):
    """A local write that the schema of its collection does not allow; `errors` names each field."""

    code = "invalid_document"
    http_status = 422


class ReadOnly(LocalError):
    """A collection that this version may read but not write: its schema asks for a newer one, or it is the system's."""

    code = "read_only"
    http_status = 409


class MethodNotAllowed(LocalError):
    """The path exists, not with this method."""

    code = "method_not_allowed"
    http_status = 405


class UnsupportedMediaType(LocalError):
    """A body that is not plain application/json."""

    code = "unsupported_media_type"
    http_status = 415


class Misdirected(LocalError):
    """The Host header does not name this daemon."""

    code = "misdirected"
    http_status = 421


class RequestTimeout(LocalError):
    """A request that did not arrive in time."""

    code = "request_timeout"
    retryable = True
    http_status = 408


# ---- what another machine did ----------------------------------------------------------------------------------------
class RemoteError(HybridGWError):
    """A violation by the other end. Its link is closed with this code; nothing it sent is applied.

    Where it refuses what a caller here asked for, that is no fault of this daemon either: HTTP 409.
    """

    code = "bad_frame"


class BadFrame(RemoteError):
    """Bytes that are no frame, a frame out of turn, or a field of the wrong type or size."""

    code = "bad_frame"


class UnsupportedVersion(RemoteError):
    """No protocol version in common."""

    code = "version"


class AuthFailed(RemoteError):
    """The peer did not prove the device key it claims, or proved it for another place."""

    code = "auth"


class Revoked(RemoteError):
    """The device is not, or no longer, an active member of the space."""

    code = "revoked"
    http_status = 409


class NotAdmitted(RemoteError):
    """The relay does not know the space, and no usable invite came with it."""

    code = "not_admitted"
    http_status = 409


class QuotaExceeded(RemoteError):
    """Bytes or devices of an account are used up."""

    code = "quota"
    http_status = 409


class RateLimited(RemoteError):
    """Too many requests; wait `retry_ms`."""

    code = "rate"
    retryable = True


class Gap(RemoteError):
    """A batch does not follow the last one held; `have` tells the head."""

    code = "gap"
    retryable = True


class Fork(RemoteError):
    """Two signed batches for one place of a log: evidence is kept, a person decides."""

    code = "fork"


class BadSignature(RemoteError):
    """A batch or record whose signature does not verify; it is not stored."""

    code = "bad_signature"


class CannotOpen(RemoteError):
    """Sealed bytes that the key does not open, or whose padding or compression is wrong; nothing is applied."""

    code = "cannot_open"


class BadRecord(RemoteError):
    """A control record that is malformed by a fact of its own past; refused for ever."""

    code = "bad_record"


class PairingFailed(RemoteError):
    """Wrong code, expired code, or an attack on the pairing; the code is burned."""

    code = "pairing_failed"
    http_status = 409


class RemoteClosed(RemoteError):
    """The other end sent an error frame and closed; carries its code as `detail['remote_code']`."""

    code = "closed"
    retryable = True


# ---- what this installation is in ----------------------------------------------------------------------
class StateError(HybridGWError):
    """The daemon or relay cannot work as it is."""

    code = "state"
    http_status = 503


class DatabaseDamaged(StateError):
    """quick_check failed; the file was set aside under a new name."""

    code = "database_damaged"


class DatabaseTooNew(StateError):
    """The file was written by a newer version; upgrade the program."""

    code = "database_too_new"


class DiskFull(StateError):
    """No space left; nothing half-written, reads go on."""

    code = "disk_full"
    retryable = True
    http_status = 507


class StorageUnavailable(StateError):
    """Folder not writable, or a file system on which SQLite is not safe."""

    code = "storage_unavailable"


class AlreadyRunning(StateError):
    """Another daemon holds this profile."""

    code = "already_running"


class PortTaken(StateError):
    """The port that this profile uses is taken by another program."""

    code = "port_taken"


class NotRunning(StateError):
    """No daemon answers for this profile. CLI exit code 3."""

    code = "not_running"


class UnknownOutcome(StateError):
    """A connection broke between a command and its answer, and it may not be sent twice; `documents` tells it."""

    code = "unknown_outcome"


class SecretsLocked(StateError):
    """No usable keyring, wrong passphrase, or locked; local data is served, sync waits. CLI exit code 4."""

    code = "secrets_locked"
    retryable = True


class ConfigInvalid(StateError):
    """Configuration faults, all told at once."""

    code = "config_invalid"


class ClockDrift(StateError):
    """Our clock disagrees with every other source by more than the bound; writes are parked."""

    code = "clock_drift"
    retryable = True
