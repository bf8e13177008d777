"""Tables of the relay. What stands here is all that it keeps; `hybridgw-relay audit` prints it.

A batch costs one row at the end of its table and one index entry. Its place in the order of its space needs no index:
within a log rid rises with n, so the order is the merge of the logs (stores/sqlite.py, read_page).

Nothing here can be read by the relay but who (device keys), when, how much, and in which order.
"""

from __future__ import annotations

from typing import Final

from hybridgw_storage.migrations import Migration

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        "0001-relay",
        """
-- Facts about this relay: 'urls' its public addresses, for the links of `invite`; 'stopped' 1 after a clean stop.
CREATE TABLE meta(k TEXT PRIMARY KEY, v ANY) STRICT, WITHOUT ROWID;

-- Who may store how much. The name is the operator's own text.
CREATE TABLE account(
  aid INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  max_bytes INTEGER NOT NULL,             -- over all spaces of the account
  max_devices INTEGER NOT NULL,           -- active ones, over all spaces
  created_ms INTEGER NOT NULL             -- Unix ms
) STRICT;

-- Invite links that were printed; the secret itself is not kept.
CREATE TABLE invite(
  hash BLOB PRIMARY KEY,                  -- BLAKE2b-256 of the secret
  aid INTEGER NOT NULL REFERENCES account(aid) ON DELETE CASCADE,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  used_ms INTEGER                         -- NULL: not used yet
) STRICT, WITHOUT ROWID;

-- A space that was admitted.
CREATE TABLE space(
  sid INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,                -- 16 bytes, hash of its root key
  aid INTEGER NOT NULL REFERENCES account(aid) ON DELETE CASCADE,
  rid INTEGER NOT NULL,                   -- that of its last batch
  batches INTEGER NOT NULL,               -- rows in batch
  bytes INTEGER NOT NULL,                 -- sum of their blobs
  control_heads BLOB NOT NULL,            -- hashes of the last control records, 32 bytes each
  created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX space_of_account ON space(aid);

-- Signed control records, as they came: device keys, additions, removals, wrapped keys. Names in them are sealed.
CREATE TABLE control(
  sid INTEGER NOT NULL REFERENCES space(sid) ON DELETE CASCADE,
  seq INTEGER NOT NULL,                   -- order of arrival, from 1
  hash BLOB NOT NULL,                     -- 32 bytes
  record BLOB NOT NULL,
  PRIMARY KEY(sid, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX control_hash ON control(sid, hash);

-- Devices, derived from the control records.
CREATE TABLE device(
  sid INTEGER NOT NULL REFERENCES space(sid) ON DELETE CASCADE,
  dev BLOB NOT NULL,                      -- 16 bytes
  sign BLOB NOT NULL,                     -- Ed25519 public key, 32 bytes
  active INTEGER NOT NULL,                -- 1 while it may connect
  nr INTEGER NOT NULL,                    -- order of arrival within the space, from 1
  added_ms INTEGER NOT NULL,              -- when its record came here
  seen_ms INTEGER NOT NULL,               -- last contact, to about a minute; 0 never
  PRIMARY KEY(sid, dev)
) STRICT, WITHOUT ROWID;

-- The end of each log.
CREATE TABLE head(
  sid INTEGER NOT NULL REFERENCES space(sid) ON DELETE CASCADE,
  log INTEGER NOT NULL,                   -- signed 64 bit
  dev BLOB NOT NULL,                      -- whose log it is
  n INTEGER NOT NULL,                     -- number of the last batch
  hash BLOB NOT NULL,                     -- its hash, 32 bytes
  PRIMARY KEY(sid, log)
) STRICT, WITHOUT ROWID;

-- Sealed batches, appended at the end of the table whatever their space: few pages are written per commit.
CREATE TABLE batch(
  rid INTEGER PRIMARY KEY,                -- rises in the order of commit, over all spaces
  sid INTEGER NOT NULL,
  log INTEGER NOT NULL,
  n INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,                 -- arrival, Unix ms
  blob BLOB NOT NULL                      -- clear header, ciphertext, signature
) STRICT;
CREATE UNIQUE INDEX batch_place ON batch(sid, log, n);

-- Proof that a device signed two batches for one place of its log: the one that came second. One per log.
CREATE TABLE evidence(
  sid INTEGER NOT NULL REFERENCES space(sid) ON DELETE CASCADE,
  log INTEGER NOT NULL,
  n INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  pushed_by BLOB NOT NULL,                -- device whose connection brought it
  blob BLOB NOT NULL,
  PRIMARY KEY(sid, log)
) STRICT;
""",
    ),
    (
        "0002-mail",
        """
-- Messages that wait for a device. Sealed: what stands here beside the header cannot be read.
CREATE TABLE mail(
  rid INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival; never used again
  sid INTEGER NOT NULL REFERENCES space(sid) ON DELETE CASCADE,
  dest BLOB NOT NULL,                     -- device that it is for
  sender BLOB NOT NULL,                   -- device that put it
  id BLOB NOT NULL,                       -- 16 bytes, of the sender's making
  priority INTEGER NOT NULL,              -- 0 bulk to 3 urgent
  expires_ms INTEGER NOT NULL,
  head BLOB NOT NULL,                     -- tombstone: header, hash of the ciphertext, signature
  body BLOB,                              -- ciphertext; NULL: its time is over
  UNIQUE(sid, dest, sender, id)
) STRICT;
CREATE INDEX mail_waiting ON mail(sid, dest, priority, rid);
CREATE INDEX mail_end ON mail(expires_ms);
""",
    ),
    (
        "0003-letters",
        """
-- Letters of other people that wait for a device. Sealed, and forgotten when they are over.
CREATE TABLE letter(
  rid INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival; never used again
  sid INTEGER NOT NULL REFERENCES space(sid) ON DELETE CASCADE,
  dest BLOB NOT NULL,                     -- device that it is for
  sender BLOB NOT NULL,                   -- device that put it
  id BLOB NOT NULL,                       -- 16 bytes, of the sender's making
  person BLOB NOT NULL,                   -- the sender's space
  priority INTEGER NOT NULL,              -- 0 bulk to 3 urgent
  expires_ms INTEGER NOT NULL,
  blob BLOB NOT NULL,                     -- clear header, sealed key, ciphertext
  UNIQUE(sid, dest, sender, id)
) STRICT;
CREATE INDEX letter_waiting ON letter(sid, dest, priority, rid);
CREATE INDEX letter_from ON letter(sid, dest, person);
CREATE INDEX letter_end ON letter(expires_ms);
""",
    ),
    (
        "0004-acquaintance",
        """
-- To whom devices of a space have written: letters of these people have more room than those of strangers.
CREATE TABLE acquaintance(
  sid INTEGER NOT NULL REFERENCES space(sid) ON DELETE CASCADE,
  person BLOB NOT NULL,                   -- the space that it wrote to
  at_ms INTEGER NOT NULL,                 -- when last, give or take a day
  PRIMARY KEY(sid, person)
) STRICT, WITHOUT ROWID;
CREATE INDEX acquaintance_end ON acquaintance(at_ms);
""",
    ),
)
