"""A whole device that shares no code with ours. It reads with the readers of tests/architecture, which were written
from protocol/SPEC.md; here is what such a device says and writes.

It joins a space by the code that another device shows, proves itself to a relay, judges control records, opens space
keys, applies and merges batches, and seals its own. It keeps nothing on disk, and leaves to others what the page lets
it leave: it admits nobody, makes no keys, takes no messages, and looks for no closes of logs. Names of sections in
brackets are those of the page.
"""

from __future__ import annotations

import hmac
import os
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult_base,
    crypto_sign,
    crypto_sign_seed_keypair,
)
from websockets.sync.client import connect

from tests.architecture import _reader as reader
from tests.architecture import _reader_pairing as pairing
from tests.architecture._reader_control_log import open_all
from tests.architecture._reader_frames import endpoint, read_frame
from tests.architecture._reader_logs import Replica
from tests.architecture._reader_operations import CREATE, EDIT, canonical, from_text, to_text
from tests.e2e.second_records import Records

NUMBERS = {name: number for number, name in reader.FRAME_TYPES.items()}
HEADER = struct.Struct(">BB16s16sqQ8s32s24s")
WAIT_S = 60.0  # for a frame that must come


class Ended(Exception):
    """The other side ended it, or refused a request: the code of its err frame, or why it closed a pairing."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def pack(value: object) -> bytes:
    """msgpack in canonical form, bytes and 64-bit integers allowed."""
    return canonical(value, domain=False)


class Keys:
    """[Identifiers, Keys] What makes a device: an Ed25519 and an X25519 key, both random."""

    def __init__(self) -> None:
        self.sign_public, self._sign_secret = crypto_sign_seed_keypair(os.urandom(32))
        exchange = os.urandom(32)
        self.exchange = crypto_scalarmult_base(exchange), exchange
        self.public = self.sign_public + self.exchange[0]
        self.device = reader.blake(self.public, 16, "hgw-dev")

    def sign(self, digest: bytes) -> bytes:
        return crypto_sign(digest, self._sign_secret)[:64]


class Link:
    """[Frames, Link] One connection to a relay."""

    def __init__(self, url: str) -> None:
        self.endpoint = endpoint(url)
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(
                f"ws{url.removeprefix('http')}/hgw/1", compression=None, proxy=None, max_size=2**20, ping_interval=None
            )
        )
        self._request = 0

    def send(self, name: str, answer: int = 0, **fields: object) -> None:
        self._socket.send(pack([NUMBERS[name], answer, fields]))

    def ask(self, name: str, **fields: object) -> None:
        """Something that is answered, or refused with its id."""
        self._request += 1
        self.send(name, self._request, **fields)

    def receive(self) -> tuple[str, int, dict, int]:
        """The next frame that is no ping: name, id, map and size. Raises: Ended."""
        while True:
            data = self._socket.recv(WAIT_S)
            assert isinstance(data, bytes)
            name, request, fields = read_frame(data)
            if name == "ping":
                self.send("pong", request, t=fields["t"])
            elif name == "err":
                raise Ended(fields["code"])
            elif name != "pong":
                return name, request, fields, len(data)

    def expect(self, name: str) -> dict:
        """The next frame, which must be this one. Raises: Ended."""
        got, _, fields, _ = self.receive()
        if got == "pair_close" != name:
            raise Ended(fields["why"])
        assert got == name, (got, fields)
        return fields

    def close(self) -> None:
        self._open.close()


class SecondDevice:
    """One device of a space, in memory."""

    def __init__(self, name: str) -> None:
        self.name, self.keys = name, Keys()
        self.url = ""
        self._salt = os.urandom(32)  # [Identifiers] of its log
        self.log = reader.signed64(reader.blake(self.keys.device + self._salt, 8, "hgw-log"))
        self._clock = 0  # [Stamps]
        self._told: list[bytes] = []  # heads of the control log that the last own batch names
        self._early: list[bytes] = []  # batches that came before the records that admit their devices
        self._named: list[bytes] = []  # heads of the relay's control log

    def _begin(self, root_public: bytes) -> None:
        """In the space of this root key."""
        self.control = Records(root_public)
        self._replica = Replica(self.control.log.space, [], set(), now_ms())

    # ---- [Pairing] ---------------------------------------------------------------------------------------------------
    def join(self, code: str, url: str, agree: Callable[[bytes], None]) -> None:
        """As N, with the code that E shows. Args: agree: told the four words, as their places. Raises: Ended."""
        self.url = url
        link = self._link = Link(url)
        link.expect("challenge")
        plate, secret = f"{pairing.read_code(code)['nameplate']:03}", str(pairing.read_code(code)["digits"]).encode()
        link.ask("pair_join", np=int(plate))
        link.expect("pair_joined")

        def take(phase: int) -> bytes:
            got, body = pairing.read_message(link.expect("pair_msg")["m"])
            assert got == phase, (got, body)
            return body

        def put(phase: int, body: bytes) -> None:
            link.send("pair_msg", m=pack([phase, body]))

        ids = tuple(f"hgw-pair-1|{side}|{plate}".encode() for side in "EN")
        random, nonce = os.urandom(64), os.urandom(16)
        own = pairing.spake2_message(b"B", random, pairing.N, secret)
        put(pairing.HELLO, b"\1\0" + own)
        answer = take(pairing.ANSWER)
        theirs, commitment = answer[2:35], answer[35:]
        assert answer[:3] == b"\1\0A"
        assert pairing.is_point(theirs[1:])
        assert theirs[1:] != own[1:]
        key = pairing.spake2_key(secret, ids, theirs, own, random, is_a=False)
        transcript = pack(["hgw-pair-1", 0, *ids, link.endpoint, own, theirs, commitment])

        def derive(person: str, *nonces: bytes, size: int = 32) -> bytes:
            return reader.blake(transcript + b"".join(nonces), size, person, key=key)

        put(pairing.PROOF, nonce + derive("hgw-pair-cN", nonce))
        counterproof = take(pairing.COUNTERPROOF)
        theirs = counterproof[:16]
        assert hmac.compare_digest(counterproof[16:], derive("hgw-pair-cE", nonce, theirs))
        assert reader.blake(theirs, 32, "hgw-pair-commit") == commitment
        words = derive("hgw-pair-words", nonce, theirs, size=4)
        from_e, to_e, sealed = pairing.Direction(derive("hgw-pair-kE")), derive("hgw-pair-kN"), iter(range(2))

        def put_sealed(phase: int, plain: bytes) -> None:
            nonce = next(sealed).to_bytes(24, "big")
            put(phase, crypto_aead_xchacha20poly1305_ietf_encrypt(plain, b"hgw-pair-1" + bytes([phase]), nonce, to_e))

        offer = reader.read(from_e.open(pairing.OFFER, take(pairing.OFFER)))
        self._begin(offer["root_public"])
        assert self.control.log.space == offer["space"]
        digest = self.control.log.joiner(offer["seat"], offer["prevs"], self.keys.device)
        introduction = {
            "sign_public": self.keys.sign_public, "exchange_public": self.keys.exchange[0], "name": self.name,
            "platform": "another", "signature": self.keys.sign(digest),
        }  # fmt: skip
        put_sealed(pairing.INTRODUCTION, pack(introduction))
        agree(words)
        said, index, total = b"", 0, 1
        while index < total:
            part = from_e.open(pairing.ADMISSION, take(pairing.ADMISSION))
            assert int.from_bytes(part[:2], "big") == index
            index, total, said = index + 1, int.from_bytes(part[2:4], "big"), said + part[4:]
        self._take_records(reader.read(said)["records"])
        assert self.control.active_seats(self.keys.device)
        assert self._space_keys
        put_sealed(pairing.DONE, b"")
        assert link.expect("pair_close") == {"why": "done"}
        link.close()

    # ---- [Authentication], [Link] ------------------------------------------------------------------------------------
    def connect(self, enrol: bytes = b"") -> None:
        """Prove itself to the relay, and catch up. Args: enrol: the secret of an invite. Raises: Ended."""
        link = self._link = Link(self.url)
        challenge, nonce, heads = link.expect("challenge"), os.urandom(32), self.control.short_heads
        assert challenge["role"] == "relay"
        assert challenge["v"][0] <= 1 <= challenge["v"][1]
        space, public = self.control.log.space, self.keys.public
        said = [
            "hgw-auth-c", challenge["v"], 1, "relay", challenge["ns"], nonce, link.endpoint, space, public, b"", heads,
            [], enrol,
        ]  # fmt: skip
        signature = self.keys.sign(reader.blake(pack(said), 32, "hgw-auth"))
        link.send(
            "auth", v=1, sp=space, pk=public, nc=nonce, ep=link.endpoint, sig=signature, t=now_ms(), ctl=heads,
            vv=self._vector(), enrol=enrol,
        )  # fmt: skip
        name, request, welcome, _ = link.receive()
        while name == "ctl_get":
            link.send("ctl", request, recs=self.control.missing_from(welcome["heads"]))
            name, request, welcome, _ = link.receive()
        assert name == "welcome", name
        self._named = welcome["ctl"]
        if self._lacks_records:
            link.ask("ctl_get", heads=heads)
        if missing := self.control.missing_from(self._named):
            link.ask("ctl_put", recs=missing)
        while (got := self.take())[0] != "batches" or got[1]["more"]:
            pass
        self.take_until(lambda: not self._lacks_records)

    def take(self) -> tuple[str, dict]:
        """Take what comes next, and do what it asks for. Returns its name and map. Raises: Ended."""
        name, request, fields, size = self._link.receive()
        if name == "batches":
            self._early += fields["b"]
            self._link.send("credit", n=size)
        elif name == "ctl":
            self._take_records(fields["recs"])
        elif name == "ctl_get":
            self._link.send("ctl", request, recs=self.control.missing_from(fields["heads"]))
        if not self._lacks_records:
            for blob in self._early:
                self._store(blob)
            self._early.clear()
        return name, fields

    def take_until(self, is_so: Callable[[], object]) -> None:
        """Take what comes until something is so. Raises: Ended."""
        while not is_so():
            self.take()

    def push(self, *blobs: bytes) -> None:
        """Give batches to the relay; returns when they are durable there. Raises: Ended."""
        self._link.ask("push", b=list(blobs))
        while self.take()[0] != "push_ack":
            pass

    def close(self) -> None:
        """Go offline."""
        self._link.close()

    # ---- [Control log], [Keys] ---------------------------------------------------------------------------------------
    def _take_records(self, records: list[bytes]) -> None:
        self.control.take(records)
        self._space_keys = open_all(self.control.log, self.keys.exchange, is_root=False)
        self._replica.key_by_id = {reader.blake(key, 8, "hgw-kid"): key for key in self._space_keys.values()}
        self._replica.control = self.control.short
        self._apply()

    @property
    def _lacks_records(self) -> bool:
        return not self.control.short.issuperset(self._named)

    @property
    def _seat(self) -> str:
        """Its own, as the model names it."""
        [seat] = self.control.active_seats(self.keys.device)
        return seat

    @property
    def _sealing_key(self) -> bytes:
        epoch = self.control.log.model.sealing_epoch(self._seat)
        assert epoch is not None, "a new epoch is due"
        return self._space_keys[bytes.fromhex(epoch)]

    # ---- [Batches], [Vectors], [Logs] --------------------------------------------------------------------------------
    def _vector(self) -> list[list[object]]:
        """What it holds, all of it gapless and of one branch."""
        chains = {log: self._replica.chain(log)[0] for log in sorted(self._replica.held)}
        return [[log, len(chain), reader.batch_hash(chain[-1])[:16]] for log, chain in chains.items() if chain]

    def _store(self, blob: bytes) -> None:
        """Check it, keep it, and apply what can be applied then."""
        sign_public = self.control.sign_public(reader.read_header(blob).device)
        assert sign_public is not None, "a gap: its record is not here"
        assert self._replica.take(blob, sign_public), "a gap"
        self._apply()

    def _apply(self) -> None:
        self._replica.now_ms = now_ms()
        self._replica.drain()
        self._clock = max(self._clock, *self._replica.stamps.values(), 0)

    # ---- [Operations], [Sealing] -------------------------------------------------------------------------------------
    def write(self, collection: str, document: str, **puts: object) -> bytes:
        """Create or edit a document: one transaction, sealed at once and applied here. Returns: the batch."""
        place = from_text(document)
        held = self._replica.documents.get((collection, place))
        generation = held.generation if held else 0
        kind, generation = (EDIT, generation) if generation % 2 else (CREATE, generation + 1)
        self._clock = max(self._clock + 1, now_ms() << 16)
        values = [[canonical(value)] if isinstance(value, list | dict) else value for value in puts.values()]
        name = place if isinstance(place, bytes) else [place]
        body: dict[str, object] = {
            "t": self._clock, "s": [collection], "f": [list(puts)],
            "x": [[kind, 0, 0, name, generation, 0, values]],
        }  # fmt: skip
        before, applied = self._replica.deps.get(self.log, {}), self._replica.applied
        others = {log: done for log, done in applied.items() if done and log != self.log}
        deps = {log: (len(done), reader.batch_hash(done[-1])[:16]) for log, done in others.items()}
        if moved := [[log, *deps[log]] for log in sorted(deps) if before.get(log) != deps[log]]:
            body["d"] = moved
        if self._told != self.control.short_heads:
            body["c"] = self._told = self.control.short_heads
        blob = self._seal(pack(body))
        self._store(blob)
        return blob

    def _seal(self, body: bytes) -> bytes:
        chain = self._replica.chain(self.log)[0]
        n, prev = len(chain) + 1, reader.batch_hash(chain[-1]) if chain else self._salt
        space_key, nonce = self._sealing_key, os.urandom(24)
        kid = reader.blake(space_key, 8, "hgw-kid")
        header = HEADER.pack(1, 0, self.control.log.space, self.keys.device, self.log, n, kid, prev, nonce)
        plain = len(body).to_bytes(4, "big") + body
        plain = plain.ljust(max(256, reader.padme(len(plain))), b"\0")
        key = reader.blake(header[34:42], 32, "hgw-batch-key", key=space_key)
        sealed = header + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, header, nonce, key)
        return sealed + self.keys.sign(reader.blake(sealed, 32, "hgw-batch1"))

    # ---- [Merge] -----------------------------------------------------------------------------------------------------
    def documents(self, collection: str) -> dict[object, dict[str, object]]:
        """Those that are alive, by id: their fields, null being none."""
        return {
            to_text(document): {name: value for name, value in (held.shown() or {}).items() if value is not None}
            for (within, document), held in self._replica.documents.items()
            if within == collection and held.generation % 2
        }

    def conflicts(self, collection: str, document: str) -> list[object]:
        """The values beside those that are shown."""
        held = self._replica.documents[collection, from_text(document)]
        return [conflict["value"] for conflict in held.conflicts()]
