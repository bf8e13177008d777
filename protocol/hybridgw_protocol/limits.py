"""Every shared constant, with its unit and its reason. What only one module needs stands in that module.

Names end in their unit (_ms, _s, _bytes) where they have one.
"""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1
BATCH_VERSION: Final = 1

# ---- values and documents ------------------------------------------------------------------------------------------
MAX_INT: Final = 2**53 - 1  # the integers that JavaScript and JSON readers keep exact
MAX_DEPTH: Final = 32  # nesting of arrays and maps in one value; far below any parser's stack
MAX_ELEMENT_BYTES: Final = 256  # one set element, canonical bytes
MAX_SET_ELEMENTS: Final = 1_000  # changed in one operation
MAX_FIELD_BYTES: Final = 64 * 1024  # one field value, canonical bytes
MAX_DOCUMENT_BYTES: Final = 128 * 1024  # all fields of one operation, canonical bytes
MAX_TX_BYTES: Final = 192 * 1024  # one transaction, encoded: fits one batch even if it does not compress
MAX_TX_OPS: Final = 2_000
MAX_DOCUMENT_ID_BYTES: Final = 64
MAX_COLLECTION_BYTES: Final = 64
MAX_FIELD_NAME_BYTES: Final = 128
GENERATION_END: Final = 2**31  # first generation that is void; the last valid one is alive (odd)

# ---- clock ---------------------------------------------------------------------------------------------------------
STAMP_BITS: Final = 16  # stamp = unix_ms << 16 | counter
CLOCK_BOUND_MS: Final = 15 * 60_000  # batches further ahead are parked, never dropped, never clamped
CLOCK_WARN_MS: Final = 60_000
FLOOR_MARGIN_MS: Final = 86_400_000  # a floor may not come closer than a day to its own stamp
MAX_STAMP: Final = 2**63 - 1

# ---- batches -------------------------------------------------------------------------------------------------------
BATCH_HEADER_BYTES: Final = 114
SIGNATURE_BYTES: Final = 64
BATCH_MIN_BYTES: Final = 450  # header + 256 padded + 16 tag + 64 signature
BATCH_TARGET_BYTES: Final = 64 * 1024  # plaintext body; XChaCha20 and L2 cache like this size best
MAX_BATCH_BYTES: Final = 256 * 1024  # whole blob
MAX_BODY_BYTES: Final = 1024 * 1024  # after inflating: a bomb stops here
PAD_FLOOR_BYTES: Final = 256
DEFLATE_FLOOR_BYTES: Final = 512  # below, deflate rarely pays
SEAL_WINDOW_MS: Final = 20
EARLY_SEAL_BYTES: Final = 48 * 1024
MAX_PENDING_BYTES: Final = 64 * 1024 * 1024  # writes not yet sealed (keyring locked); beyond: busy
LOGS_PER_DEVICE: Final = 16  # open ones; closed logs do not count
LOGS_PER_SPACE: Final = 512  # 32 devices x 16 logs
SHORT_HASH_BYTES: Final = 16  # hashes in version vectors and deps; 64 bits could be collided

# ---- control log ---------------------------------------------------------------------------------------------------
MAX_RECORD_BYTES: Final = 8 * 1024
MAX_RECORDS: Final = 4_000  # per space; as many again that are dead or void, so that a flood can be expelled
MAX_CONTROL_BYTES: Final = 4 * 1024 * 1024  # per space; likewise
ROOT_RESERVE: Final = 200  # records beyond MAX_RECORDS that only root may add: an expel has always room
MAX_HEADS: Final = 256  # of the control log, in one frame
MAX_WAITING_RECORDS: Final = 512  # records whose prevs are not here yet; the oldest is dropped
MAX_WAITING_BYTES: Final = 1024 * 1024
MAX_DEVICES: Final = 32  # active, per space

# ---- links ---------------------------------------------------------------------------------------------------------
MAX_FRAME_BYTES: Final = 1024 * 1024
CREDIT_START_BYTES: Final = 4 * 1024 * 1024
MAX_FRAME_BATCHES: Final = 1_024
FRAME_TARGET_BYTES: Final = 512 * 1024  # batches packed into one frame up to here
UNAPPLIED_BYTES_PER_LOG: Final = (
    8 * 1024 * 1024
)  # stored but parked or waiting, per log; above, the log is not asked for
PING_S: Final = 25.0
PING_DEADLINE_S: Final = 8.0
AUTH_TIMEOUT_S: Final = 10.0
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0

# ---- pairing -------------------------------------------------------------------------------------------------------
PAIRING_TTL_MS: Final = 10 * 60_000
PAIRING_CODE_DIGITS: Final = 6
PAIRING_NAMEPLATE_DIGITS: Final = 3
PAIRING_DEAD_CODES_PER_HOUR: Final = 3
MAX_PAIRING_BYTES: Final = 512 * 1024  # one mailbox message; the whole control log travels in it

# ---- messages ------------------------------------------------------------------------------------------------------
ENVELOPE_VERSION: Final = 1
ENVELOPE_HEADER_BYTES: Final = 131
TOMBSTONE_BYTES: Final = 227  # header + hash of the ciphertext 32 + signature 64
ENVELOPE_MIN_BYTES: Final = 467  # header + 256 padded + 16 tag + 64 signature
MAX_ENVELOPE_BYTES: Final = 68 * 1024  # a greatest body, its address, padding: 67,795 bytes are reached
MAX_MESSAGE_BODY_BYTES: Final = 64 * 1024  # JSON, as the program wrote it; larger things are documents or files
MESSAGE_TTL_MS: Final = 7 * 86_400_000
MAX_MESSAGE_TTL_MS: Final = 30 * 86_400_000
DEDUPE_MS: Final = 7 * 86_400_000  # so long after its end the id of a message is still known
EARLY_MS: Final = 600_000  # a tombstone is believed so long before the end of its message: clocks differ
HEARTBEAT_MS: Final = 120_000  # a device tells the others so often that it is here
AWAY_MS: Final = 300_000  # one that was not heard of for so long is away: two heartbeats may get lost
HOLD_MS: Final = 30_000  # a message waits so long for the one before it
MAX_FRAME_ENVELOPES: Final = 256
MAX_RECEIPTS: Final = 500  # of one envelope
MAX_MAIL_ROWS: Final = 20_000  # that a relay keeps for one device
MAX_MAIL_BYTES: Final = 64 * 1024 * 1024  # likewise

# ---- people --------------------------------------------------------------------------------------------------------
LETTER_VERSION: Final = 1
LETTER_HEADER_BYTES: Final = 147
LETTER_BOX_BYTES: Final = 80  # libsodium's sealed box of 32 bytes
LETTER_MIN_BYTES: Final = 499  # header + box + 256 padded + 16 tag
MAX_LETTER_BYTES: Final = 70 * 1024  # a greatest body, what goes with it, padding: 69,875 bytes are reached
MESSAGE_KEY_MS: Final = 30 * 86_400_000  # a device makes a new message key so often
MESSAGE_KEY_KEPT_MS: Final = 30 * 86_400_000  # the secret of the one before it stays so long: longest ttl
MAX_LETTER_ROWS: Final = 1_000  # that a relay keeps from one person for one device
MAX_LETTER_ROW_BYTES: Final = 16 * 1024 * 1024  # bytes of these
MAX_LETTERS: Final = 20_000  # that it keeps from all other people for one device
MAX_LETTERS_BYTES: Final = 64 * 1024 * 1024  # bytes of these
LETTER_PART: Final = 4  # one person takes at most this part of what all others leave free
MAX_STRANGER_LETTERS: Final = 2_000  # of MAX_LETTERS from people to whom the device's person has not written
MAX_STRANGER_BYTES: Final = 8 * 1024 * 1024  # bytes of these: seven eighths are for contacts, whoever else writes
STRANGER_PART: Final = 16  # likewise one stranger, of what other strangers leave: an ask has 1 KiB
ACQUAINTED_MS: Final = (
    90 * 86_400_000
)  # a relay knows so long that one person wrote to another: three times MAX_MESSAGE_TTL_MS
MAX_ACQUAINTED: Final = 5_000  # people of whom it knows that, per person: as many contacts as one can have

MAX_FROM_ONE: Final = 100_000  # messages of one person that a device has: a week's and its DEDUPE_MS at 7,000 a day
MAX_FROM_ONE_BYTES: Final = 64 * 1024 * 1024  # bytes of what they say

# ---- kept ----------------------------------------------------------------------------------------------------------
RESOLVED_CONFLICT_DAYS: Final = 180
QUARANTINE_DAYS: Final = 90
SPACE_KEY_DAYS: Final = 90  # a key seals so long; who got hold of one without being a member reads no more than that
