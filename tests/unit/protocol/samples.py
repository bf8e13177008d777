"""Real batches, identities and one frame of every type, for the tests beside this file. Seeded: no entropy."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from hybridgw_protocol import frames as f
from hybridgw_protocol.batch import batch_hash, encode_header
from hybridgw_protocol.ids import DeviceId, KeyId, LogId, SpaceId, device_id, log_id
from hybridgw_protocol.vectors import Entry


@dataclass
class Author:
    """A device that writes one log. `seal` signs batches that follow each other; the ciphertext is random bytes."""

    seed: int = 0
    random: random.Random = field(init=False)
    n: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.sign_public, self.sign_secret = crypto_sign_seed_keypair(self.random.randbytes(32))
        self.exchange_public = self.random.randbytes(32)
        self.device: DeviceId = device_id(self.sign_public, self.exchange_public)
        self.space = SpaceId(self.random.randbytes(16))
        self.salt = self.random.randbytes(32)
        self.log: LogId = log_id(self.device, self.salt)
        self.prev: bytes = self.salt

    def seal(self, size: int = 450, flags: int = 0) -> bytes:
        """The next batch of the log, with so many bytes in all."""
        self.n += 1
        unsigned = encode_header(
            flags=flags, space=self.space, device=self.device, log=self.log, n=self.n,
            kid=KeyId(self.random.randbytes(8)), prev=self.prev, nonce=self.random.randbytes(24),
        ) + self.random.randbytes(size - 114 - 64)  # fmt: skip
        self.prev = batch_hash(unsigned)
        return unsigned + crypto_sign(self.prev, self.sign_secret)[:64]


def entries(count: int, seed: int = 1) -> list[Entry]:
    """A vector of so many logs with real sizes."""
    r = random.Random(seed)
    logs = sorted(r.randrange(-(2**63), 2**63) for _ in range(count))
    return [Entry(log, r.randrange(1, 200_000), r.randbytes(16)) for log in logs]


def every_frame() -> list[f.Frame]:
    """At least one of each type; the second of a type leaves out what can be left out."""
    r = random.Random(5)
    author = Author()
    blobs = [author.seal(), author.seal(900)]
    return [
        f.Challenge(v=(1, 1), ns=r.randbytes(32), role="relay", t=1_790_000_000_000),
        f.Challenge(v=(1, 3), ns=r.randbytes(32), role="peer", t=0, ep="fp:" + "ab" * 32, tags=[r.randbytes(16)]),
        f.Auth(
            v=1, sp=author.space, pk=author.sign_public + author.exchange_public, nc=r.randbytes(32),
            ep="host:relay.example.com", sig=r.randbytes(64), t=1_790_000_000_000, vv=entries(3),
            ctl=[r.randbytes(16)], caps=["x"], sub=False, enrol=r.randbytes(32),
        ),
        f.Auth(v=1, sp=bytes(16), pk=bytes(64), nc=bytes(32), ep="host:a", sig=bytes(64), t=0),
        f.Welcome(
            sid="c-17", t=1_790_000_000_000, vv=entries(3), ctl=[r.randbytes(16)],
            quota=f.Quota(bytes=2**30, used=5, devices=3), sig=r.randbytes(64), pk=r.randbytes(64),
        ),
        f.Welcome(sid="", t=0),
        f.Push(b=blobs),
        f.PushAck(vv=entries(2)),
        f.Want(vv=entries(2)),
        f.Want(vv=[]),
        f.Batches(b=blobs, more=True),
        f.Batches(b=[]),
        f.Credit(n=123_456),
        f.CtlGet(heads=[r.randbytes(16)]),
        f.CtlGet(),
        f.Ctl(recs=[r.randbytes(300), r.randbytes(200)], more=True),
        f.CtlPut(recs=[r.randbytes(300)]),
        f.CtlAck(heads=[r.randbytes(16)]),
        f.MsgPut(m=[r.randbytes(467)], x=[r.randbytes(227)]),
        f.MsgPut(),
        f.MsgStored(ids=[r.randbytes(32)], no=[r.randbytes(32)], why=["quota"]),
        f.Msg(m=[r.randbytes(467)], x=[r.randbytes(227)]),
        f.MsgDone(ids=[r.randbytes(32)]),
        f.LetterPut(sp=r.randbytes(16), heads=[r.randbytes(16)], m=[r.randbytes(499)]),
        f.LetterFrame(m=[r.randbytes(499)]),
        f.LetterDone(ids=[r.randbytes(32)]),
        f.DirGet(sp=r.randbytes(16), heads=[r.randbytes(16)]),
        f.Dir(recs=[r.randbytes(300)], more=True),
        f.PairOpen(),
        f.PairOpened(np=417, ttl=600_000),
        f.PairJoin(np=417),
        f.PairJoined(),
        f.PairMsg(m=r.randbytes(80)),
        f.PairClose(why="done"),
        f.Ping(t=1_790_000_000_000),
        f.Pong(),
        f.Err(code="busy", msg="Try again.", retry=500),
        f.Err(code="auth", msg=""),
    ]  # fmt: skip
