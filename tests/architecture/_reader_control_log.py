"""A second reader of control records, from protocol/SPEC.md alone: bytes, signatures, keys, and who belongs.

It imports none of our packages. Bytes are read by _reader.py; what follows from a set of records is asked of the
reference model, which is as independent (standard library only).
"""

from __future__ import annotations

import itertools

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_box_seal_open,
    crypto_scalarmult_base,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from tests.architecture import _reader as reader
from tests.models import membership_model as mm

FIELDS = {
    "genesis": {"root_public", "root_exchange", "sign_public", "exchange_public", "name"},
    "add": {"sign_public", "exchange_public", "name", "joiner_sig", "wraps"},
    "remove": {"target"},
    "restore": {"ends"},
    "leave": set(),
    "expel": {"target", "keep"},
    "epoch": {"kid", "commitment", "wraps", "root_wrap", "prev_wraps"},
    "wrap": {"target", "wraps"},
    "log_close": {"device", "log", "n", "hash", "fork"},
    "xkey": {"body"},
    "endorse": {"body"},
    "trim": {"body"},
}
SIZES = {
    "target": 32, "kid": 8, "commitment": 32, "root_wrap": 80, "device": 16, "hash": 32, "joiner_sig": 64, "space": 16,
    "root_public": 32, "root_exchange": 32, "sign_public": 32, "exchange_public": 32,
}  # fmt: skip
LEAVES = {"xkey", "endorse", "trim"}


class BadSignature(reader.Refused):
    """The form is right, the signature is not."""


def need(holds: bool, why: str) -> None:
    if not holds:
        raise reader.Refused(why)


def canonical(items: list[object]) -> bytes:
    """The canonical array that a joiner signs the hash of: byte strings, and one short array of them."""
    out = bytes([0x90 | len(items)])
    for item in items:
        if isinstance(item, bytes):
            out += bytes([0xC4, len(item)]) + item
        else:
            assert isinstance(item, list)
            out += (bytes([0x90 | len(item)]) if len(item) < 16 else b"\xdc\x00" + bytes([len(item)])) + canonical(
                item
            )[1:]
    return out


class Reader:
    """One control log: takes records in order, keeps the model's view of them."""

    def __init__(self, root_public: bytes) -> None:
        self.root_public = root_public
        self.space = reader.blake(root_public, 16, "hgw-uid")
        self.bodies: dict[bytes, dict] = {}
        self.leaves: set[bytes] = set()
        self.model: mm.ControlLog | None = None

    def take(self, raw: bytes) -> bytes:
        """The hash of a record that is accepted. Raises: Refused, BadSignature."""
        need(len(raw) <= 8192, "too big")
        body, payload, signature = reader.read_record(raw)
        head = (
            b"\x92\xc4" + bytes([len(payload)]) if len(payload) < 256 else b"\x92\xc5" + len(payload).to_bytes(2, "big")
        )
        need(raw == head + payload + b"\xc4\x40" + signature, "not in its shortest form")
        digest = reader.blake(payload, 32, "hgw-rec")
        kind = self.form(body)
        by, prevs = body["by"], body["prevs"]
        need(all(p in self.bodies for p in prevs), "prevs not here (it would wait)")
        need(by == b"" or self.bodies.get(by, {}).get("type") in ("genesis", "add"), "signer")
        key = self.root_public if by == b"" else self.bodies[by]["sign_public"]
        self.verify(signature, digest, key)
        if kind == "add":
            self.verify(body["joiner_sig"], self.joiner(by, prevs, device(body)), body["sign_public"])
        if kind in LEAVES:
            self.leaves.add(digest)
            return digest
        record = self.translate(body, digest)
        if self.model is None:
            need(kind == "genesis", "genesis first")
            self.model = mm.ControlLog(record)
        else:
            need(self.model.insert(record), "malformed by its own past")
        self.bodies[digest] = body
        return digest

    def joiner(self, by: bytes, prevs: list[bytes], new: bytes) -> bytes:
        return reader.blake(canonical([self.space, by, sorted(prevs), new]), 32, "hgw-join")

    @staticmethod
    def verify(signature: bytes, digest: bytes, key: bytes) -> None:
        try:
            crypto_sign_open(signature + digest, key)
        except (CryptoError, ValueError) as error:
            raise BadSignature("signature") from error

    def form(self, body: dict) -> str:
        """What the record says of itself. Returns its type."""
        kind = body.get("type")
        need(isinstance(kind, str) and kind in FIELDS, "type")
        need(body.keys() == {"v", "type", "space", "prevs", "by", "ts"} | FIELDS[kind], "fields")
        need(body["v"] == 1 and body["space"] == self.space, "version or space")
        need(isinstance(body["by"], bytes) and len(body["by"]) in (0, 32), "by")
        need(type(body["ts"]) is int and 0 <= body["ts"] < 2**53, "ts")
        for name in body.keys() & SIZES.keys():
            need(isinstance(body[name], bytes) and len(body[name]) == SIZES[name], name)
        for name in body.keys() & {"prevs", "ends", "keep"}:
            ascending(body[name], 64)
        for name in body.keys() & {"wraps", "prev_wraps"}:
            pairs, size = body[name], 72 if name == "prev_wraps" else 80
            need(isinstance(pairs, list) and all(isinstance(p, list) and len(p) == 2 for p in pairs), "pairs")
            ascending([p[0] for p in pairs], 8192)
            need(all(isinstance(p[1], bytes) and len(p[1]) == size for p in pairs), "boxes")
        need(bool(body["prevs"]) != (kind == "genesis"), "prevs")
        if kind == "genesis":
            need(body["root_public"] == self.root_public and body["by"] == b"", "root")
        if kind in ("remove", "leave"):
            need(body["by"] != b"", "root does not do this")
        if kind == "log_close":
            need(0 <= body["fork"] <= body["n"] < 2**53 and (body["n"] > 0 or not any(body["hash"])), "close")
        return kind

    def translate(self, body: dict, digest: bytes) -> mm.Record:
        """The same record as the model has it, under its real hash."""

        def names(field: str) -> frozenset[str]:
            items = body.get(field, [])
            return frozenset((item[0] if isinstance(item, list) else item).hex() for item in items)

        kind = body["type"]
        by = body["by"].hex() or mm.ROOT
        who = device(body).hex() if kind in ("genesis", "add") else body.get("device", b"").hex()
        record = mm.Record(
            type=kind,
            by=by,
            prevs=names("prevs"),
            target=body.get("target", b"").hex(),
            device=who,
            joiner_sig=(who, by, names("prevs")) if kind == "add" else (),  # verified above
            keep=names("keep"),
            ends=names("ends"),
            recipients=names("wraps") if kind == "epoch" else mm.NONE,
            prev_wraps=names("prev_wraps"),
            wraps=names("wraps") if kind != "epoch" else mm.NONE,
            log=str(body.get("log", "")),
            n=body.get("n", 0),
        )
        record.__dict__["hash"] = digest.hex()
        return record


def device(body: dict) -> bytes:
    return reader.blake(body["sign_public"] + body["exchange_public"], 16, "hgw-dev")


def ascending(items: object, most: int) -> None:
    need(isinstance(items, list) and len(items) <= most, "list")
    assert isinstance(items, list)
    need(all(isinstance(i, bytes) and len(i) == 32 for i in items), "hashes")
    need(all(a < b for a, b in itertools.pairwise(items)), "ascending")


# ---- the golden file -------------------------------------------------------------------------------------------------
def check(vectors: dict) -> None:
    """All of protocol/vectors/control_log.json. Raises: AssertionError, Refused."""
    secrets = check_keys(vectors["keys"])
    check_wraps(vectors["wraps"], secrets["a"])
    log = Reader(bytes.fromhex(vectors["keys"]["root_public"]))
    joiner = {name: value for name, value in vectors["joiner"].items() if name != "prevs"}
    prevs = [bytes.fromhex(p) for p in vectors["joiner"]["prevs"]]
    assert log.space.hex() == joiner["space"]
    digest = log.joiner(bytes.fromhex(joiner["adder_seat"]), prevs, bytes.fromhex(joiner["device"]))
    assert digest.hex() == joiner["digest"]

    outcomes = {outcome["records"]: outcome for outcome in vectors["outcomes"]}
    seen = set()
    for position, record in enumerate(vectors["records"], start=1):
        assert log.take(bytes.fromhex(record["raw"])).hex() == record["hash"]
        if position in outcomes:
            check_outcome(log, outcomes[position])
            seen.add(position)
    assert seen == outcomes.keys()
    for refused in vectors["refused"]:
        assert refused["records"] == len(vectors["records"])
        try:
            log.take(bytes.fromhex(refused["bytes"]))
        except BadSignature:
            assert refused["code"] == "bad_signature", refused["name"]
        except reader.Refused:
            assert refused["code"] in ("bad_record", "too_big"), refused["name"]
        else:
            raise AssertionError(refused["name"])
    for opened in vectors["opened"]:
        found = open_all(log, secrets[opened["name"]], opened["name"] == "root")
        assert found == {bytes.fromhex(k["epoch"]): bytes.fromhex(k["key"]) for k in opened["keys"]}, opened["name"]


def check_keys(keys: dict) -> dict[str, tuple[bytes, bytes]]:
    """Every key from its seed. Returns: name -> X25519 public and secret key."""
    seed = bytes.fromhex(keys["root_seed"])
    assert crypto_sign_seed_keypair(reader.blake(b"", 32, "hgw-root-sign", seed))[0].hex() == keys["root_public"]
    exchange = reader.blake(b"", 32, "hgw-root-xchg", seed)
    assert crypto_scalarmult_base(exchange).hex() == keys["root_exchange"]
    assert reader.blake(bytes.fromhex(keys["root_public"]), 16, "hgw-uid").hex() == keys["space"]
    secrets = {"root": (crypto_scalarmult_base(exchange), exchange)}
    for one in keys["devices"]:
        seed = bytes.fromhex(one["seed"])
        sign, exchange = crypto_sign_seed_keypair(seed[:32])[0], crypto_scalarmult_base(seed[32:])
        assert (sign.hex(), exchange.hex()) == (one["sign_public"], one["exchange_public"])
        assert reader.blake(sign + exchange, 16, "hgw-dev").hex() == one["device"]
        secrets[one["name"]] = (exchange, seed[32:])
    return secrets


def check_wraps(wraps: dict, keys: tuple[bytes, bytes]) -> None:
    w = {name: bytes.fromhex(value) for name, value in wraps.items() if name not in ("name", "platform")}
    key = w["space_key"]
    assert reader.blake(key, 8, "hgw-kid") == w["kid"]
    assert reader.blake(key, 32, "hgw-commit") == w["commitment"]
    assert crypto_box_seal_open(w["sealed_to_a"], *keys) == key
    assert w["sealed_to_a"][:32] == crypto_scalarmult_base(w["ephemeral_secret"])
    carrier = reader.blake(b"", 32, "hgw-prev-wrap", key)
    associated = w["commitment"] + w["older_epoch"]
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(w["older_key"], associated, w["nonce"], carrier)
    assert w["carried"] == w["nonce"] + sealed
    sealed = w["sealed_name_of_a"]
    assert sealed[:32] == w["kid"] + w["nonce"]
    plain = crypto_aead_xchacha20poly1305_ietf_decrypt(
        sealed[32:], w["device_a"], sealed[8:32], reader.blake(b"", 32, "hgw-name", key)
    )
    size = int.from_bytes(plain[:2], "big")
    label = {"name": wraps["name"], "platform": wraps["platform"]}
    assert reader.read(plain[2 : 2 + size], canonical=True, binary=False) == label
    assert len(plain) % 64 == 0
    assert not any(plain[2 + size :])


def check_outcome(log: Reader, outcome: dict) -> None:
    model = log.model
    assert model is not None
    status = model.status
    assert sorted(model.heads) == outcome["heads"]
    assert [seat["seat"] for seat in outcome["seats"]] == model.seats
    for seat in outcome["seats"]:
        name = seat["seat"]
        assert model.device_of(name) == seat["device"]
        assert (model.records[name].by if seat["added_by"] else mm.ROOT) == (seat["added_by"] or mm.ROOT)
        assert (seat["status"] == "active") == (name in status.active)
        assert (seat["status"] in ("removed", "left")) == (name in status.inactive)
        assert sorted(model.knows[name]) == seat["known_epochs"]
        assert model.sealing_epoch(name) == seat["sealing_epoch"]
    usable = sorted((e for e in model.epochs if model.usable(e)), key=model.preference, reverse=True)
    assert usable == outcome["usable_epochs"]
    for end in outcome["ends"]:
        assert model.cut(end["device"], end["log"]) == (end["end"][0] if end["end"] else None)


def open_all(log: Reader, keys: tuple[bytes, bytes], is_root: bool) -> dict[bytes, bytes]:
    """Every space key that one can get to."""
    own = [h for h, b in log.bodies.items() if b["type"] in ("genesis", "add") and b["exchange_public"] == keys[0]]
    found: dict[bytes, bytes] = {}
    todo: list[tuple[bytes, bytes]] = []
    for digest, body in log.bodies.items():
        boxes: list[tuple[bytes, bytes]] = []
        if body["type"] == "epoch":
            boxes = [(digest, body["root_wrap"])] if is_root else [(digest, b) for s, b in body["wraps"] if s in own]
        elif (body["type"] == "add" and digest in own) or (body["type"] == "wrap" and body["target"] in own):
            boxes = [(e, b) for e, b in body["wraps"]]
        todo += [(epoch, crypto_box_seal_open(box, *keys)) for epoch, box in boxes]
    while todo:
        epoch, key = todo.pop()
        body = log.bodies[epoch]
        assert reader.blake(key, 32, "hgw-commit") == body["commitment"]
        assert reader.blake(key, 8, "hgw-kid") == body["kid"]
        found[epoch] = key
        for older, carried in body["prev_wraps"]:
            if older not in found:
                plain = crypto_aead_xchacha20poly1305_ietf_decrypt(
                    carried[24:], body["commitment"] + older, carried[:24], reader.blake(b"", 32, "hgw-prev-wrap", key)
                )
                todo.append((older, plain))
    return found
