"""A second reader of frames and of authentication, from protocol/SPEC.md, "Frames", "Vectors", "Authentication", alone.

It imports none of our packages.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from nacl.bindings import crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from tests.architecture import _reader as reader
from tests.architecture._reader import FRAME_TYPES, MAX_INT, Refused
from tests.architecture._reader_operations import canonical
from tests.architecture._reader_walk import end, item, number, parts, read_map

REQUIRED = object()
LOGS = 1024


@dataclass(frozen=True)
class Key:
    """One key of a map. kind: int, bool, text, bin, versions, bins, texts, keys, words, vector, quota; sizes: of it."""

    kind: str
    default: object = REQUIRED
    least: int = 0
    most: int = 2**64 - 1


def exactly(size: int, default: object = REQUIRED) -> Key:
    return Key("bin", default, size, size)


FLAG, CLOCK = Key("bool", False), Key("int", least=-(2**63))
MAPS: dict[str, dict[str, Key]] = {
    "challenge": {
        "v": Key("versions"), "ns": exactly(32), "role": Key("text", most=16), "t": CLOCK,
        "ep": Key("text", "", most=300), "tags": Key("bins", [], most=16),
    },
    "auth": {
        "v": Key("int"), "sp": exactly(16), "pk": exactly(64), "nc": exactly(32), "ep": Key("text", most=300),
        "sig": exactly(64), "t": CLOCK, "vv": Key("vector", []), "ctl": Key("bins", [], most=256),
        "caps": Key("texts", [], most=32), "sub": Key("bool", True), "enrol": Key("bin", b"", most=1024),
    },
    "welcome": {
        "sid": Key("text", most=64), "t": CLOCK, "vv": Key("vector", []), "ctl": Key("bins", [], most=256),
        "quota": Key("quota", None), "sig": Key("bin", b""), "pk": Key("bin", b""),
    },
    "push": {"b": Key("bins", most=1024)},
    "push_ack": {"vv": Key("vector")},
    "want": {"vv": Key("vector")},
    "batches": {"b": Key("bins", most=1024), "more": FLAG},
    "credit": {"n": Key("int", least=1, most=2**40)},
    "ctl_get": {"heads": Key("bins", [], most=256)},
    "ctl": {"recs": Key("bins", most=4000), "more": FLAG},
    "ctl_put": {"recs": Key("bins", most=4000)},
    "ctl_ack": {"heads": Key("bins", most=256)},
    "msg_put": {"m": Key("bins", [], most=256), "x": Key("bins", [], most=256)},
    "msg_stored": {
        "ids": Key("keys", [], most=512), "no": Key("keys", [], most=512), "why": Key("words", [], most=512),
    },
    "msg": {"m": Key("bins", [], most=256), "x": Key("bins", [], most=256)},
    "msg_done": {"ids": Key("keys", most=512)},
    "letter_put": {"sp": exactly(16), "heads": Key("bins", [], most=256), "m": Key("bins", [], most=256)},
    "letter": {"m": Key("bins", most=256)},
    "letter_done": {"ids": Key("keys", most=512)},
    "dir_get": {"sp": exactly(16), "heads": Key("bins", [], most=256)},
    "dir": {"recs": Key("bins", most=4000), "more": FLAG},
    "pair_open": {},
    "pair_opened": {"np": Key("int", most=9999), "ttl": CLOCK},
    "pair_join": {"np": Key("int", most=9999)},
    "pair_joined": {},
    "pair_msg": {"m": Key("bin", most=524_288)},
    "pair_close": {"why": Key("text", most=64)},
    "ping": {"t": Key("int", 0, -(2**63))},
    "pong": {"t": Key("int", 0, -(2**63))},
    "err": {"code": Key("text", most=64), "msg": Key("text", most=1024), "retry": Key("int", 0, -(2**63))},
}  # fmt: skip


def need(holds: bool, why: str) -> None:
    if not holds:
        raise Refused(why)


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def judge(key: Key, raw: bytes) -> object:
    """The value, if it is what the key asks for."""
    if key.kind == "quota" and item(raw, 0).kind == "map":
        return judge_map(dict.fromkeys(("bytes", "used", "devices"), Key("int", 0, -(2**63))), raw)
    value = reader.read(raw)
    match key.kind:
        case "int":
            need(is_integer(value) and key.least <= value <= key.most, "an integer")  # type: ignore[operator]
        case "bool":
            need(isinstance(value, bool), "a boolean")
        case "text":
            need(isinstance(value, str) and len(value) <= key.most, "text")
        case "bin":
            need(isinstance(value, bytes) and key.least <= len(value) <= key.most, "bytes")
        case "versions":
            need(isinstance(value, list) and len(value) == 2 and all(map(is_integer, value)), "two versions")
        case "bins" | "texts" | "keys" | "words":
            kind = bytes if key.kind in ("bins", "keys") else str
            need(isinstance(value, list) and len(value) <= key.most, "a list")
            assert isinstance(value, list)
            need(all(isinstance(part, kind) for part in value), "items")
            need(key.kind != "keys" or all(len(part) == 32 for part in value), "items of 32 bytes")
            need(key.kind != "words" or all(len(part) <= 64 for part in value), "items of 64 characters")
        case "vector":
            return judge_vector(value)
        case "quota":
            need(value is None, "a quota")
    return value


def judge_map(keys: dict[str, Key], raw: bytes) -> dict[str, object]:
    """What a map says, defaults filled in; a key that stands twice is judged twice, and the last counts."""
    body = {name: key.default for name, key in keys.items()}
    for name, value in read_map(raw):
        key = keys.get(name.decode(errors="replace"))
        if key is not None:
            body[name.decode()] = judge(key, value)
    need(all(value is not REQUIRED for value in body.values()), "a key is missing")
    return body


def judge_vector(value: object) -> list[list[object]]:
    need(isinstance(value, list) and len(value) <= LOGS, "a vector")
    assert isinstance(value, list)
    found: dict[int, list[object]] = {}
    for entry in value:
        need(isinstance(entry, list) and len(entry) >= 3, "an entry")
        log, n, digest = entry[:3]
        need(is_integer(log) and -(2**63) <= log < 2**63 and log not in found, "a log, once")
        need(is_integer(n) and 1 <= n <= MAX_INT, "n")
        need(isinstance(digest, bytes) and len(digest) == 16, "16 bytes")
        found[log] = [str(log), n, digest]
    return list(found.values())


def read_frame(data: bytes) -> tuple[str, int, dict[str, object]]:
    """Name, id and the whole map, defaults filled in. Raises: Refused."""
    need(len(data) <= reader.MAX_FRAME_BYTES and end(data, 0) == len(data), "one value of at most 1 MiB")
    items = parts(data)
    need(len(items) >= 3, "[type, id, map]")
    name = FRAME_TYPES.get(number(items[0], 0, 255))
    need(name is not None, "an unknown type")
    assert name is not None
    request = number(items[1], 0, 2**32 - 1)
    return name, request, judge_map(MAPS[name], items[2])


def endpoint(url: str) -> str:
    """ "host:" and the authority as dialled. Raises: Refused."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Refused("no address") from error
    default = {"http": 80, "ws": 80, "https": 443, "wss": 443}.get(parts.scheme)
    need(bool(default) and bool(host), "no scheme or host")
    assert host is not None
    name = f"[{host.lower()}]" if ":" in host else host.encode("idna").decode().lower()
    return f"host:{name}" + ("" if port in (None, default) else f":{port}")


# ---- the golden file -------------------------------------------------------------------------------------------------
def plain(value: object) -> object:
    """Bytes as hex, as the golden file has them."""
    match value:
        case bytes():
            return value.hex()
        case list():
            return [plain(part) for part in value]
        case dict():
            return {name: plain(part) for name, part in value.items()}
    return value


def check(vectors: dict) -> None:
    """All of protocol/vectors/frames.json. Raises: AssertionError, Refused."""
    assert {case["type"] for case in vectors["cases"]} == set(FRAME_TYPES.values()) == MAPS.keys()
    frames = {}
    for case in vectors["cases"]:
        name, request, body = frames[case["name"]] = read_frame(bytes.fromhex(case["bytes"]))
        assert (name, request) == (case["type"], case["id"]), case["name"]
        shown = plain(body)
        assert isinstance(shown, dict)
        assert {key: shown[key] for key in case["map"]} == case["map"], case["name"]
        assert all(plain(MAPS[name][key].default) == shown[key] for key in shown.keys() - case["map"].keys())
    for case in vectors["refused"]:
        assert case["code"] == "bad_frame"
        try:
            read_frame(bytes.fromhex(case["bytes"]))
        except Refused:
            continue
        raise AssertionError(case["name"])
    for case in vectors["auth"]:
        check_auth(case, [body for name, _, body in frames.values() if name == "auth"])
    conversation = next(case for case in vectors["auth"] if case["name"] == "a peer to a device")
    for case in vectors["refused_auth"]:
        assert case["code"] == "auth"
        assert not proves(conversation, case), case["name"]
    assert proves(conversation, {"sig": conversation["sig"], "pk": conversation["sign_public"] + EXCHANGE})
    for case in vectors["recognising"]:
        check_recognising(case)
    for case in vectors["endpoints"]:
        assert endpoint(case["url"]) == case["endpoint"], case["url"]
    for url in vectors["refused_endpoints"]:
        try:
            endpoint(url)
        except Refused:
            continue
        raise AssertionError(url)


EXCHANGE = bytes(range(32, 64)).hex()


def proves(conversation: dict, answer: dict) -> bool:
    """Do these `sig` and `pk` of a welcome prove the device that they name, in that conversation."""
    sig, pk = bytes.fromhex(answer["sig"]), bytes.fromhex(answer["pk"])
    if len(sig) != 64 or len(pk) != 64:
        return False
    array = array_of(conversation)
    array[9] = reader.blake(pk, 16, "hgw-dev")
    try:
        crypto_sign_open(sig + reader.blake(canonical(array, domain=False), 32, "hgw-auth"), pk[:32])
    except BadSignatureError:
        return False
    return True


def check_recognising(case: dict) -> None:
    """Tag and mark of one space key."""
    found = {name: case[name].encode() if name == "ep" else bytes.fromhex(case[name]) for name in case}
    key = reader.blake(b"", 32, "hgw-disc", found["space_key"])
    assert key == found["discovery_key"]
    assert reader.blake(found["ep"] + found["ns"], 16, "hgw-tag", key) == found["tag"]
    assert reader.blake(found["instance"], 8, "hgw-mark", key) == found["mark"]


def array_of(case: dict) -> list:
    """What is hashed and signed."""
    label, versions, version, role, ns, nc, ep, space, pk, server, ctl, caps, enrol = case["array"]
    return [
        label, versions, version, role, *map(bytes.fromhex, (ns, nc)), ep, *map(bytes.fromhex, (space, pk, server)),
        [bytes.fromhex(head) for head in ctl], caps, bytes.fromhex(enrol),
    ]  # fmt: skip


def check_auth(case: dict, auths: list[dict[str, object]]) -> None:
    """The array is that of an auth frame above, or of one that differs in nothing but what the array says."""
    public, secret = crypto_sign_seed_keypair(bytes.fromhex(case["sign_seed"]))
    assert public.hex() == case["sign_public"]
    raw = array_of(case)
    by_peer = case["name"].startswith("a peer")
    assert raw[0] == ("hgw-auth-s" if by_peer else "hgw-auth-c")
    array = canonical(raw, domain=False)
    assert array.hex() == case["canonical"], case["name"]
    digest = reader.blake(array, 32, "hgw-auth")
    assert digest.hex() == case["digest"]
    assert crypto_sign_open(bytes.fromhex(case["sig"]) + digest, public) == digest
    assert secret[32:] == public
    assert reader.blake(public + bytes.fromhex(EXCHANGE), 16, "hgw-dev").hex() == case["device"]
    assert raw[9] == (bytes.fromhex(case["device"]) if by_peer else b"")
    assert (case["server"] or "") == case["array"][9]
    if not by_peer:
        assert raw[8] == public + bytes.fromhex(EXCHANGE)
        names = {"nc": 5, "ep": 6, "sp": 7, "pk": 8, "ctl": 10, "caps": 11, "enrol": 12}
        said = {name: raw[place] for name, place in names.items()}
        assert any({key: auth[key] for key in said} == said for auth in auths), "no auth frame says this"
