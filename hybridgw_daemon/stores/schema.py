"""The daemon's tables. One file holds one space. Forward only: a script that has shipped is never edited.

Times are Unix milliseconds (`_ms`), stamps hybrid clock values, `n` a batch number, `log` a signed 64-bit log id.
"""

from __future__ import annotations

from typing import Final

_0001: Final = """
-- One row per fact about this installation: seq, stamp, own log, space, device, schema of builtin collections, counter.
CREATE TABLE meta(
  key   TEXT PRIMARY KEY,
  value ANY
) STRICT, WITHOUT ROWID;

-- Names get small numbers; floor_ms: documents whose id is older are gone; secret: bodies are sealed at rest.
CREATE TABLE collection(
  cid      INTEGER PRIMARY KEY,
  name     TEXT NOT NULL UNIQUE,
  floor_ms INTEGER NOT NULL DEFAULT 0,
  secret   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The replica. A row with an even cl is a tombstone and stays. seq is the place in the change feed: it rises with every
-- change of the row, so the table ordered by seq *is* the feed and never needs trimming. A rowid table with a unique
-- key, because scattered ids in a clustered one cost three times as much.
CREATE TABLE document(
  rid       INTEGER PRIMARY KEY,
  cid       INTEGER NOT NULL,
  id        ANY NOT NULL,      -- 16 bytes for a UUID, else text
  cl        INTEGER NOT NULL,  -- generation: odd alive, even deleted
  seq       INTEGER NOT NULL,
  conflicts INTEGER NOT NULL,  -- siblings to show
  body      ANY,               -- JSON text of the shown document; sealed bytes in a secret collection; NULL if deleted
  clk       BLOB NOT NULL,     -- all the rest of the merge state
  UNIQUE(cid, id)
) STRICT;
CREATE INDEX document_seq ON document(seq);
CREATE INDEX document_conflict ON document(cid, rid) WHERE conflicts > 0;

-- Writes that are applied here and not sealed yet; n is the number of the batch they will be in.
CREATE TABLE pending(
  rid    INTEGER PRIMARY KEY,
  n      INTEGER NOT NULL,
  secret INTEGER NOT NULL,
  ops    BLOB NOT NULL
) STRICT;

-- Every log of the space that we know of.
CREATE TABLE log(
  log          INTEGER PRIMARY KEY,
  device       BLOB NOT NULL,
  salt         BLOB NOT NULL,      -- prev of batch 1
  stored_n     INTEGER NOT NULL,   -- gapless and verified up to here
  stored_hash  BLOB NOT NULL,
  applied_n    INTEGER NOT NULL,
  applied_hash BLOB NOT NULL,
  last_stamp   INTEGER NOT NULL,
  deps         BLOB NOT NULL,      -- msgpack: what the writer had applied at applied_n, {log: [n, hash16]}
  control      BLOB NOT NULL,      -- msgpack: control heads the writer knew at applied_n
  waiting      TEXT                -- why the next batch waits: clock, deps, key, control, broken; NULL = nothing
) STRICT;

-- Sealed batches in order of arrival (rid), dependencies first. state: 0 stored, 1 applied; authored: sealed by this
-- very database (a copy of it elsewhere may have written the same log too).
CREATE TABLE batch(
  rid      INTEGER PRIMARY KEY,
  log      INTEGER NOT NULL,
  n        INTEGER NOT NULL,
  hash     BLOB NOT NULL,
  state    INTEGER NOT NULL,
  authored INTEGER NOT NULL,
  blob     BLOB NOT NULL,
  UNIQUE(log, n)
) STRICT;
CREATE INDEX batch_unapplied ON batch(log) WHERE state = 0;

-- What is off the live branch of a log: the other side of a fork (proof, and the batches to return to if a close names
-- them) and what lies beyond the end of a closed log.
CREATE TABLE evidence(
  log      INTEGER NOT NULL,
  n        INTEGER NOT NULL,
  hash     BLOB NOT NULL,
  at_ms    INTEGER NOT NULL,
  authored INTEGER NOT NULL,
  blob     BLOB NOT NULL,
  PRIMARY KEY(log, n, hash)
) STRICT, WITHOUT ROWID;

-- Highest heads a relay or device has confirmed: what not to send again, and the alarm when it goes back.
CREATE TABLE peer(
  peer TEXT NOT NULL,
  log  INTEGER NOT NULL,
  n    INTEGER NOT NULL,
  hash BLOB NOT NULL,
  PRIMARY KEY(peer, log)
) STRICT, WITHOUT ROWID;

CREATE TABLE control(
  rid    INTEGER PRIMARY KEY,      -- order of arrival, prevs first
  hash   BLOB NOT NULL UNIQUE,
  record BLOB NOT NULL
) STRICT;

-- Secrets sealed under the key-encryption key: device seeds, root seed, key check value.
CREATE TABLE secret(
  name   TEXT PRIMARY KEY,
  sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE relay(
  url      TEXT PRIMARY KEY,
  enrol    BLOB,                   -- sealed invite secret until the relay has admitted the space
  added_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Things a person should know: forks, rollbacks, clocks, damage. Kept until acknowledged.
CREATE TABLE alarm(
  id           INTEGER PRIMARY KEY,
  at_ms        INTEGER NOT NULL,
  code         TEXT NOT NULL,
  message      TEXT NOT NULL,
  detail       TEXT NOT NULL,      -- JSON
  acknowledged INTEGER NOT NULL DEFAULT 0,
  UNIQUE(code, detail)
) STRICT;

CREATE TABLE seen(
  device  BLOB PRIMARY KEY,
  last_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_0002: Final = """
-- Apps that a person has let in. Requests that wait for a person live two minutes and are in memory only.
CREATE TABLE app_grant(
  id           TEXT PRIMARY KEY,   -- 16 hexadecimal characters; the principal is `grant:<id>`
  kind         TEXT NOT NULL,      -- web, extension or program
  origin       TEXT,               -- exact, as browsers send it; NULL for a program
  name         TEXT NOT NULL,      -- what the app calls itself, made harmless, at most 40 characters
  scopes       TEXT NOT NULL,      -- canonical text
  lasts        TEXT NOT NULL,      -- what the person chose: session, 30d, until_revoked
  asked_ms     INTEGER NOT NULL,   -- when the app asked
  approved_ms  INTEGER NOT NULL,   -- when the person approved
  expires_ms   INTEGER,            -- when it ends by itself; NULL: never
  last_used_ms INTEGER,            -- to the minute; NULL: not yet
  claim        BLOB NOT NULL,      -- SHA-256 of the asker's secret, with which it fetches its first tokens
  claim_ms     INTEGER NOT NULL,   -- until when it may
  ended_ms     INTEGER,            -- NULL while it counts
  reason       TEXT                -- why it ended: revoked, expired, session, logged_out, reused
) STRICT, WITHOUT ROWID;

-- Who was refused and may not ask again for a while.
CREATE TABLE app_refusal(
  who      TEXT PRIMARY KEY,       -- an origin, or `program:` and the name
  until_ms INTEGER NOT NULL        -- when it may ask again
) STRICT, WITHOUT ROWID;

-- Keys for scripts. A revoked one is gone from here; the audit log remembers it.
CREATE TABLE api_key(
  id           TEXT PRIMARY KEY,   -- the 8 characters after `hgw_`; the principal is `key:<id>`
  digest       BLOB NOT NULL,      -- SHA-256 of the secret, which has 256 random bits
  version      INTEGER NOT NULL,   -- rises with every new secret; tokens made with an older one do not count
  note         TEXT NOT NULL,      -- what it is for, in the person's words
  scopes       TEXT NOT NULL,      -- canonical text
  origins      TEXT NOT NULL,      -- JSON list of origins whose pages may use it
  created_ms   INTEGER NOT NULL,   -- when it was made
  expires_ms   INTEGER,            -- when it ends by itself; NULL: never
  last_used_ms INTEGER             -- to the minute; NULL: not yet
) STRICT, WITHOUT ROWID;

-- Refresh tokens of apps: one line of descent per grant.
CREATE TABLE refresh_token(
  digest     BLOB PRIMARY KEY,     -- SHA-256 of the token
  grant_id   TEXT NOT NULL,        -- whose
  parent     BLOB,                 -- digest of the token it replaced; NULL: from a login
  jti        TEXT NOT NULL,        -- the access token that was issued with it
  mode       TEXT NOT NULL,        -- deployment mode that the app declared, for the answer only
  issued_ms  INTEGER NOT NULL,     -- when
  expires_ms INTEGER NOT NULL,     -- unused for so long, it is worth nothing
  state      INTEGER NOT NULL      -- 0 issued, 1 in use, 2 replaced and may be repeated, 3 dead: showing it is theft
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_token_grant ON refresh_token(grant_id);

-- Access tokens that ended before their time, until that time.
CREATE TABLE revoked_token(
  jti    TEXT PRIMARY KEY,         -- the token's id
  exp_ms INTEGER NOT NULL          -- after it the token is worth nothing anyway, and the row goes
) STRICT, WITHOUT ROWID;

-- What concerns who may do what. No secrets; the oldest rows go.
CREATE TABLE audit(
  id        INTEGER PRIMARY KEY,   -- order of writing
  at_ms     INTEGER NOT NULL,      -- when; of several at once, the first
  event     TEXT NOT NULL,         -- stable name, like grant.approved
  principal TEXT,                  -- whose credential; NULL: none
  origin    TEXT,                  -- the page it came from; NULL: none
  detail    TEXT NOT NULL,         -- JSON: names, scopes, reasons
  count     INTEGER NOT NULL       -- how often, for what comes in numbers
) STRICT;
"""

_0003: Final = """
-- Where a person said that another device may be reached directly.
CREATE TABLE manual_address(
  host     TEXT NOT NULL,          -- an IP address, IPv6 link-local with its zone, or a name
  port     INTEGER NOT NULL,
  added_ms INTEGER NOT NULL,
  UNIQUE(host, port)
) STRICT;

-- Where a device was dialled and proved itself: a hint where to try, the latest few per device.
CREATE TABLE device_address(
  device  BLOB NOT NULL,
  host    TEXT NOT NULL,
  port    INTEGER NOT NULL,
  last_ms INTEGER NOT NULL,        -- when it last did
  UNIQUE(device, host, port)
) STRICT;
"""

_0004: Final = """
-- Messages that programs here sent and that arrived here. A row stays when all is done: it is the history, and knows
-- the id. Empty bytes for a device are this one; it has no id before its keys are open.
CREATE TABLE message(
  rid        INTEGER PRIMARY KEY,   -- order in which it came to be known here
  sender     BLOB NOT NULL,         -- device id
  id         BLOB NOT NULL,         -- 16 bytes, of the sender's making
  kind       TEXT NOT NULL,         -- whom it is for: client, app, mode, topic, all
  name       TEXT NOT NULL,         -- which of them; empty for all
  place      TEXT NOT NULL,         -- device that the sender named; empty: every one
  type       TEXT NOT NULL,
  client     TEXT NOT NULL,         -- program that sent it: mode/client id, or a principal
  principal  TEXT NOT NULL,         -- credential that sent it here; empty: it came from another device
  priority   INTEGER NOT NULL,      -- 0 bulk to 3 urgent
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  digest     BLOB NOT NULL,         -- 16 bytes of the content: the same id with another one is refused
  reply      BLOB NOT NULL,         -- id of the message that it answers, or empty
  body       BLOB NOT NULL,         -- JSON as the program wrote it
  gap        INTEGER NOT NULL,      -- 1: shown though something before it was missing
  changes    INTEGER NOT NULL,      -- rises with every change of a delivery
  is_open    INTEGER NOT NULL,      -- 1 until its time is over
  UNIQUE(sender, id)
) STRICT;
CREATE INDEX message_type ON message(type, rid);
CREATE INDEX message_end ON message(expires_ms) WHERE is_open = 1;

-- What became of a message at one device: all recipients of one that was sent here, this device of one that arrived.
CREATE TABLE delivery(
  rid       INTEGER NOT NULL,
  recipient BLOB NOT NULL,          -- device id; one byte 3f while the devices are not known
  priority  INTEGER NOT NULL,       -- of the message
  stream    INTEGER NOT NULL,       -- log id it was numbered under
  seq       INTEGER NOT NULL,       -- its number there; 0: it does not travel
  state     TEXT NOT NULL,          -- queued, stored, handed, delivered, handled, expired, failed
  at_ms     INTEGER NOT NULL,       -- of the last change
  next_ms   INTEGER,                -- when to put it (again); NULL: never
  tries     INTEGER NOT NULL,       -- how often it was put
  error     TEXT,                   -- code of the last refusal
  PRIMARY KEY(rid, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_due ON delivery(priority, rid) WHERE next_ms IS NOT NULL;
CREATE INDEX delivery_unresolved ON delivery(rid) WHERE recipient = x'3f';
CREATE INDEX delivery_waiting ON delivery(rid) WHERE recipient = x'' AND state = 'delivered';
CREATE INDEX delivery_dead ON delivery(rid) WHERE state IN ('expired', 'failed');

-- Programs that listen for messages here.
CREATE TABLE listener(
  nr        INTEGER PRIMARY KEY,
  principal TEXT NOT NULL,          -- its credential
  mode      TEXT NOT NULL,
  client_id TEXT NOT NULL,
  app       TEXT NOT NULL,          -- by which `app:` finds it
  topics    TEXT NOT NULL,          -- with spaces between
  seen_ms   INTEGER NOT NULL,       -- when it was here last
  UNIQUE(principal, mode, client_id)
) STRICT;

-- One row per program that a message is for. state: 0 waits, 1 acknowledged, 2 its time was over.
CREATE TABLE copy(
  listener INTEGER NOT NULL,
  rid      INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  state    INTEGER NOT NULL,
  PRIMARY KEY(listener, rid)
) STRICT, WITHOUT ROWID;
CREATE INDEX copy_waiting ON copy(listener, priority, rid) WHERE state = 0;
CREATE INDEX copy_of ON copy(rid);

-- Numbers of messages: the last one given to a recipient, the last one shown of a sender.
CREATE TABLE stream(
  device   BLOB NOT NULL,
  stream   INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  is_out   INTEGER NOT NULL,
  seq      INTEGER NOT NULL,
  PRIMARY KEY(device, stream, priority, is_out)
) STRICT, WITHOUT ROWID;

-- Messages that came before their turn.
CREATE TABLE held(
  sender     BLOB NOT NULL,
  stream     INTEGER NOT NULL,
  priority   INTEGER NOT NULL,
  seq        INTEGER NOT NULL,
  id         BLOB NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  at_ms      INTEGER NOT NULL,      -- when it came
  content    BLOB,                  -- NULL: a tombstone
  PRIMARY KEY(sender, stream, priority, seq)
) STRICT, WITHOUT ROWID;

-- What is to be told to senders.
CREATE TABLE receipt(
  recipient BLOB NOT NULL,          -- who sent the message
  id        BLOB NOT NULL,
  state     TEXT NOT NULL,
  at_ms     INTEGER NOT NULL,
  PRIMARY KEY(recipient, id, state)
) STRICT, WITHOUT ROWID;

-- Rules for messages without a target, in the order in which they are asked.
CREATE TABLE route(
  place   INTEGER PRIMARY KEY,
  name    TEXT NOT NULL,
  pattern TEXT NOT NULL,            -- a type, or its beginning and *
  targets TEXT NOT NULL,            -- JSON list
  go_on   INTEGER NOT NULL          -- 1: later rules are asked too
) STRICT;
"""

_0005: Final = """
-- Messages in fewer places: an id is found without its sender, what changes stands in rows without a body, and a copy
-- is there only as long as its program has not acknowledged it.
CREATE TABLE message_new(
  rid        INTEGER PRIMARY KEY,   -- order in which it came to be known here
  sender     BLOB NOT NULL,         -- device id; empty: this one
  id         BLOB NOT NULL,         -- 16 bytes, of the sender's making
  kind       TEXT NOT NULL,         -- whom it is for: client, app, mode, topic, all
  name       TEXT NOT NULL,         -- which of them; empty for all
  place      TEXT NOT NULL,         -- device that the sender named; empty: every one
  type       TEXT NOT NULL,
  client     TEXT NOT NULL,         -- program that sent it: mode/client id, or a principal
  principal  TEXT NOT NULL,         -- credential that sent it here; empty: it came from another device
  priority   INTEGER NOT NULL,      -- 0 bulk to 3 urgent
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  digest     BLOB NOT NULL,         -- 16 bytes of the content: the same id with another one is refused
  reply      BLOB NOT NULL,         -- id of the message that it answers, or empty
  body       BLOB NOT NULL,         -- JSON as the program wrote it
  gap        INTEGER NOT NULL,      -- 1: shown though something before it was missing
  is_open    INTEGER NOT NULL,      -- 1 until its time is over
  UNIQUE(id, sender)
) STRICT;
INSERT INTO message_new SELECT rid, sender, id, kind, name, place, type, client, principal, priority, created_ms,
  expires_ms, digest, reply, body, gap, is_open FROM message;
ALTER TABLE delivery ADD COLUMN changes INTEGER NOT NULL DEFAULT 0; -- rises with every change of its state
UPDATE delivery SET changes = coalesce((SELECT changes FROM message m WHERE m.rid = delivery.rid), 0);
DROP TABLE message;
ALTER TABLE message_new RENAME TO message;
CREATE INDEX message_type ON message(type, rid);
CREATE INDEX message_end ON message(expires_ms) WHERE is_open = 1;

-- One row per program that a message is for and that has not acknowledged it; it goes when the time is over too.
CREATE TABLE copy_new(
  listener INTEGER NOT NULL,
  priority INTEGER NOT NULL,        -- of the message
  rid      INTEGER NOT NULL,
  PRIMARY KEY(listener, priority, rid)
) STRICT, WITHOUT ROWID;
INSERT INTO copy_new SELECT listener, priority, rid FROM copy WHERE state = 0;
DROP TABLE copy;
ALTER TABLE copy_new RENAME TO copy;

-- What other devices told of their programs last.
CREATE TABLE presence(
  device  BLOB PRIMARY KEY,
  at_ms   INTEGER NOT NULL,         -- when it came, by our clock
  told_ms INTEGER NOT NULL,         -- when it was said, by theirs
  said    BLOB NOT NULL             -- as it was sealed
) STRICT, WITHOUT ROWID;
"""

_0006: Final = """
-- Ed25519 public key of the app: what it was given counts only with a proof of it. NULL: it named none.
ALTER TABLE app_grant ADD COLUMN key BLOB;
"""

_0007: Final = """
-- Control records of other people, as relays told them. Only added to: nobody can take back what was known.
CREATE TABLE person_record(
  nr     INTEGER PRIMARY KEY,       -- order of arrival
  person BLOB NOT NULL,             -- 16 bytes: id of their space
  hash   BLOB NOT NULL,
  raw    BLOB NOT NULL,
  UNIQUE(person, hash)
) STRICT;

-- Who asks to be a contact. Contacts themselves are documents: they are the same on all devices.
CREATE TABLE contact_request(
  person BLOB PRIMARY KEY,
  root   BLOB NOT NULL,             -- their root key, 32 bytes
  name   TEXT NOT NULL,             -- what they call themselves
  note   TEXT NOT NULL,
  relay  TEXT NOT NULL,             -- URL of the one through which it came
  at_ms  INTEGER NOT NULL
) STRICT;

-- Letters about being contacts that are to be put until they are answered.
CREATE TABLE contact_errand(
  person  BLOB PRIMARY KEY,
  kind    TEXT NOT NULL,            -- ask, accept
  note    TEXT NOT NULL,
  next_ms INTEGER NOT NULL,
  tries   INTEGER NOT NULL
) STRICT;

-- Messages on their way to devices of other people. What became of them is in delivery, as of all others.
CREATE TABLE letter(
  rid       INTEGER NOT NULL,
  recipient BLOB NOT NULL,          -- 32 bytes: person, device
  priority  INTEGER NOT NULL,
  stream    INTEGER NOT NULL,
  seq       INTEGER NOT NULL,
  next_ms   INTEGER NOT NULL,       -- when to put it (again)
  tries     INTEGER NOT NULL,
  PRIMARY KEY(rid, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX letter_due ON letter(substr(recipient, 1, 16), next_ms);
CREATE INDEX delivery_foreign ON delivery(substr(recipient, 1, 16), rid) WHERE length(recipient) = 32;

-- Keys of this device that letters are sealed to.
CREATE TABLE message_key(
  id          BLOB PRIMARY KEY,     -- 8 bytes
  space       BLOB NOT NULL,
  sealed      BLOB NOT NULL,        -- its secret, under the key-encryption key
  made_ms     INTEGER NOT NULL,
  replaced_ms INTEGER,              -- when a newer one was published; NULL: it is the newest
  record      BLOB NOT NULL         -- control record by which it was published
) STRICT;
"""

_0008: Final = """
-- What the devices of one other person have written.
CREATE INDEX message_person ON message(substr(sender, 1, 16), rid) WHERE length(sender) = 32;
"""

MIGRATIONS: Final = [
    ("0001_replica", _0001), ("0002_access", _0002), ("0003_addresses", _0003), ("0004_messages", _0004),
    ("0005_lean_messages", _0005), ("0006_app_keys", _0006), ("0007_people", _0007), ("0008_person_index", _0008),
]  # fmt: skip
