"""The other half of a device that shares no code with ours: it founds a space, admits devices and makes space keys.

Names of sections of protocol/SPEC.md stand in brackets.
"""

from __future__ import annotations

import hmac
import os
import struct

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_box_seal,
    crypto_scalarmult_base,
    crypto_sign,
    crypto_sign_seed_keypair,
)

from tests.architecture import _reader as reader
from tests.architecture import _reader_pairing as pairing
from tests.e2e.second_device import Link, SecondDevice, now_ms, pack


def seal(plain: bytes, key: bytes, associated: bytes) -> bytes:
    """Nonce and ciphertext."""
    nonce = os.urandom(24)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, associated, nonce, key)


class SecondFounder(SecondDevice):
    """The first device of a space. It has no recovery words: it forgets root when the space is there."""

    # ---- [Control log], [Keys] ---------------------------------------------------------------------------------------
    def found(self, url: str, invite: bytes) -> None:
        """A new space, at a relay that lets it in for an invite. Raises: Ended."""
        self.url = url
        seed = os.urandom(32)
        root_public, root_secret = crypto_sign_seed_keypair(reader.blake(b"", 32, "hgw-root-sign", key=seed))
        self._root_exchange = crypto_scalarmult_base(reader.blake(b"", 32, "hgw-root-xchg", key=seed))
        self._begin(root_public)
        space_key = os.urandom(32)
        payload = self._payload("genesis", b"", [], name=self._label(self.keys.device, self.name, space_key)) | {
            "root_public": root_public, "root_exchange": self._root_exchange,
            "sign_public": self.keys.sign_public, "exchange_public": self.keys.exchange[0],
        }  # fmt: skip
        digest = reader.blake(pack(payload), 32, "hgw-rec")
        self._take_records([pack([pack(payload), crypto_sign(digest, root_secret)[:64]])])
        self.make_epoch(space_key)
        self.connect(invite)

    def make_epoch(self, space_key: bytes) -> bytes:
        """A key for all active seats, and under it those before. Returns: the record."""
        commitment = reader.blake(space_key, 32, "hgw-commit")
        carrier = reader.blake(b"", 32, "hgw-prev-wrap", key=space_key)
        return self._sign(
            "epoch", None, kid=reader.blake(space_key, 8, "hgw-kid"), commitment=commitment,
            wraps=[[seat, crypto_box_seal(space_key, self.control.log.bodies[seat]["exchange_public"])]
                   for seat in map(bytes.fromhex, sorted(self.control.log.model.status.active))],
            root_wrap=crypto_box_seal(space_key, self._root_exchange),
            prev_wraps=[[epoch, seal(self._space_keys[epoch], carrier, commitment + epoch)] for epoch in self._tops],
        )  # fmt: skip

    def put(self, *records: bytes) -> None:
        """Give records to the relay; returns when they are durable there. Raises: Ended."""
        self._link.ask("ctl_put", recs=list(records))
        while self.take()[0] != "ctl_ack":
            pass

    @property
    def _tops(self) -> list[bytes]:
        """The keys that none of the others carries."""
        model = self.control.log.model
        return [bytes.fromhex(epoch) for epoch in sorted(model.tops({key.hex() for key in self._space_keys}))]

    def _payload(self, kind: str, by: bytes, prevs: list[bytes], **fields: object) -> dict[str, object]:
        common = {"v": 1, "type": kind, "space": self.control.log.space, "prevs": prevs, "by": by, "ts": now_ms()}
        return common | fields

    def _sign(self, kind: str, prevs: list[bytes] | None, **fields: object) -> bytes:
        """A record of its own, which it takes itself. Args: prevs: None: all heads."""
        heads = self.control.heads if prevs is None else prevs
        payload = pack(self._payload(kind, bytes.fromhex(self._seat), heads, **fields))
        record = pack([payload, self.keys.sign(reader.blake(payload, 32, "hgw-rec"))])
        self._take_records([record])
        return record

    def _label(self, device: bytes, name: str, space_key: bytes, platform: str = "another") -> bytes:
        """A device's name, sealed."""
        label = pack({"name": name, "platform": platform})
        plain = len(label).to_bytes(2, "big") + label
        plain += bytes(-len(plain) % 64)
        key = reader.blake(b"", 32, "hgw-name", key=space_key)
        return reader.blake(space_key, 8, "hgw-kid") + seal(plain, key, device)

    # ---- [Pairing] ---------------------------------------------------------------------------------------------------
    def show_code(self) -> str:
        """A code for one device, at the relay. Raises: Ended."""
        self._link.ask("pair_open")
        while (got := self.take())[0] != "pair_opened":
            pass
        self._plate, self._secret = f"{got[1]['np']:03}", f"{int.from_bytes(os.urandom(8), 'big') % 10**6:06}"
        relay = self._link.endpoint.removeprefix("host:")
        return f"{self._plate}-{self._secret[:3]}-{self._secret[3:]}@{relay}"

    def admit(self) -> list[int]:
        """As E: let in whoever proves to know the code. Returns: the places of the four words. Raises: Ended."""
        link: Link = self._link
        while self.take()[0] != "pair_joined":
            pass

        def take(phase: int) -> bytes:
            while (got := self.take())[0] != "pair_msg":  # what else comes is not of the pairing
                assert got[0] != "pair_close", got
            found, body = pairing.read_message(got[1]["m"])
            assert found == phase, (found, body)
            return body

        def put(phase: int, body: bytes) -> None:
            link.send("pair_msg", m=pack([phase, body]))

        ids = tuple(f"hgw-pair-1|{side}|{self._plate}".encode() for side in "EN")
        secret, random, nonce = self._secret.encode(), os.urandom(64), os.urandom(16)
        hello = take(pairing.HELLO)
        theirs, own = hello[2:], pairing.spake2_message(b"A", random, pairing.M, secret)
        assert hello[:3] == b"\1\0B"
        assert pairing.is_point(theirs[1:])
        commitment = reader.blake(nonce, 32, "hgw-pair-commit")
        key = pairing.spake2_key(secret, ids, own, theirs, random, is_a=True)
        transcript = pack(["hgw-pair-1", 0, *ids, link.endpoint, theirs, own, commitment])

        def derive(person: str, *nonces: bytes, size: int = 32) -> bytes:
            return reader.blake(transcript + b"".join(nonces), size, person, key=key)

        put(pairing.ANSWER, b"\1\0" + own + commitment)
        proof = take(pairing.PROOF)
        assert hmac.compare_digest(proof[16:], derive("hgw-pair-cN", proof[:16]))
        put(pairing.COUNTERPROOF, nonce + derive("hgw-pair-cE", proof[:16], nonce))
        from_n, to_n, sealed = pairing.Direction(derive("hgw-pair-kN")), derive("hgw-pair-kE"), iter(range(2))

        def put_sealed(phase: int, plain: bytes) -> None:
            number = next(sealed).to_bytes(24, "big")
            put(phase, crypto_aead_xchacha20poly1305_ietf_encrypt(plain, b"hgw-pair-1" + bytes([phase]), number, to_n))

        log, heads = self.control.log, self.control.heads
        seat = bytes.fromhex(self._seat)
        offer = {"space": log.space, "root_public": log.root_public, "seat": seat, "prevs": heads}
        put_sealed(pairing.OFFER, pack(offer))
        joiner = reader.read(from_n.open(pairing.INTRODUCTION, take(pairing.INTRODUCTION)))
        self.put(self._add(joiner, heads))  # a person has compared the words
        said = {
            "records": list(self.control.raws.values()),
            "relays": [{"url": self.url, "enrol": b""}],
            "now_ms": now_ms(),
        }
        put_sealed(pairing.ADMISSION, struct.pack(">HH", 0, 1) + pack(said))
        assert from_n.open(pairing.DONE, take(pairing.DONE)) == b""
        link.send("pair_close", why="done")
        return list(derive("hgw-pair-words", proof[:16], nonce, size=4))

    def _add(self, joiner: dict, prevs: list[bytes]) -> bytes:
        """The record of a new device, which has signed that it joins here, with the keys that unlock all others."""
        device = reader.blake(joiner["sign_public"] + joiner["exchange_public"], 16, "hgw-dev")
        name = self._label(device, joiner["name"], self._sealing_key, joiner["platform"])
        return self._sign(
            "add", prevs, sign_public=joiner["sign_public"], exchange_public=joiner["exchange_public"],
            name=name, joiner_sig=joiner["signature"],
            wraps=[[top, crypto_box_seal(self._space_keys[top], joiner["exchange_public"])] for top in self._tops],
        )  # fmt: skip
