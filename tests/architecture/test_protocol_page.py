"""protocol/SPEC.md and the code say the same: hashes, frames, states, errors, limits; every section cited is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import msgspec
import pytest

from hybridgw_daemon.core.wire import MalformedBody
from hybridgw_daemon.services import collections, device_names, people
from hybridgw_daemon.services.builtin import BUILTIN
from hybridgw_daemon.services.replica import SECRET_COLLECTIONS
from hybridgw_daemon.services.schemas import SET_KEYWORD
from hybridgw_protocol import errors, limits, messages
from hybridgw_protocol.frames import Frame, FrameType
from hybridgw_protocol.link import CLIENT_SENDS, SERVER_SENDS, State
from tests.architecture._tree import ROOT, modules, syntax, texts

PAGE = ROOT / "protocol" / "SPEC.md"
CITED = re.compile(r"SPEC\.md`?,?((?:\s*(?:,|and|or)?\s*\"[A-Z][^\"]{2,40}\")+)")


@cache
def page() -> str:
    return PAGE.read_text()


@cache
def sections() -> dict[str, str]:
    """Title of every `##` heading -> its text, in order."""
    parts = re.split(r"^## (.+)$", page(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> Iterator[list[str]]:
    """Cells of the table rows of a section, heads and rules left out."""
    for line in sections()[section].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and not set(cells[0]) <= {"-", " "}:
            yield cells


# ---- what the page is ------------------------------------------------------------------------------------------------
def test_the_sections_are_there_in_order() -> None:
    assert list(sections()) == [
        "Hashes", "Identifiers", "Values", "Stamps", "Operations", "Merge", "Batches", "Sealing", "Vectors", "Logs",
        "Control log", "Keys", "Frames", "Link", "Authentication", "Discovery", "Pairing", "Messages", "People",
        "Relay", "Errors", "Limits",
    ]  # fmt: skip
    listed = re.findall(r"^\| [a-z ]+ \| ([A-Z][A-Za-z, ]+) \|$", page(), re.MULTILINE)
    assert ", ".join(listed).split(", ") == list(sections())


def test_every_section_that_is_cited_exists() -> None:
    """In code, docs and in the page itself. A word in brackets behind a title is a part of that section."""
    cited = set()
    for path, text in texts().items():
        flat = re.sub(r"\s+", " ", text)
        for match in CITED.finditer(flat):
            cited |= {(path.relative_to(ROOT).as_posix(), title) for title in re.findall(r'"([^"]+)"', match[1])}
    assert len(cited) > 30
    assert {title.split(" (")[0] for _, title in cited} > {"Merge", "Control log", "Frames", "Relay", "Pairing"}
    assert not [(path, title) for path, title in cited if title.split(" (")[0] not in sections()]
    titles = {*sections(), *re.findall(r"^### (.+)$", page(), re.MULTILINE)}
    within = set(re.findall(r'(?:see|\(|as|in|to)\s"([A-Z][a-z][A-Za-z ]+)"', re.sub(r"\s+", " ", page())))
    assert len(within) > 8
    assert not within - titles


def test_the_golden_files_are_named() -> None:
    assert {path.stem for path in (ROOT / "protocol/vectors").glob("*.json")} == set(
        re.findall(r"`vectors/([a-z_]+)\.json`", page())
    )


# ---- hashes ----------------------------------------------------------------------------------------------------------
def labels() -> dict[str, set[str]]:
    """Every text or byte string in the packages that begins with `hgw-` -> the files it is in."""
    found: dict[str, set[str]] = {}
    for name, path in modules().items():
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                text = node.value if isinstance(node.value, str) else node.value.decode("ascii", "replace")
                if re.match(r"hgw-[\w|-]+=?$", text):
                    found.setdefault(text, set()).add(name)
    return found


def hashed() -> dict[str, set[int]]:
    """Person of every call that hashes -> sizes, as far as they stand there as numbers."""
    found: dict[str, set[int]] = {}
    for path in modules().values():
        for node in ast.walk(syntax(path)):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rsplit(".", 1)[-1]
            if name not in ("blake2b", "_derive"):
                continue
            given = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
            for person in (p if isinstance(p, str) else p.decode() for p in given if isinstance(p, str | bytes) and p):
                found.setdefault(person, set()).update(v for v in given if isinstance(v, int))
    return found


def test_every_person_string_is_in_the_table_of_hashes() -> None:
    table = {cells[0].strip("`"): int(cells[1]) for cells in rows("Hashes") if cells[0].startswith("`")}
    assert len(table) > 20
    assert table.keys() == hashed().keys()
    wrong = {person: sizes for person, sizes in hashed().items() if sizes - {table[person]}}
    assert not wrong
    assert all(len(person) <= 16 for person in table)


def test_every_label_is_on_the_page() -> None:
    """Labels of signed and sealed arrays, and prefixes, beside the persons."""
    assert len(labels()) > 25
    missing = {label: where for label, where in labels().items() if label not in page()}
    assert not missing


# ---- collections -----------------------------------------------------------------------------------------------------
def test_the_table_of_collections_is_that_of_the_code() -> None:
    """Their names, the fields of the built-in ones, which of them are sets, and which collection is secret."""
    table = {cells[0].strip("`"): cells[2] for cells in rows("Operations") if re.match(r"`[a-z.]{5,}`$", cells[0])}
    assert table.keys() == {*BUILTIN, device_names.NAMES, collections.DESCRIPTORS, people.COLLECTION}
    for name, builtin in BUILTIN.items():
        fields = builtin.schema["properties"]
        told = re.sub(r"\(.*?\)", "", table[name])  # the words that a field may be
        assert set(re.findall(r"`(\w+)`", told)) == fields.keys()
        assert set(re.findall(r"`(\w+)`, a set", told)) == {f for f, rule in fields.items() if rule.get(SET_KEYWORD)}
        choices = {word for rule in fields.values() for word in rule.get("enum", ())}
        assert set(re.findall(r"`(\w+)`", table[name])) == fields.keys() | choices
    assert {"settings"} == SECRET_COLLECTIONS
    assert "`settings` is the one *secret* collection" in page()
    assert f"`{collections.RESERVED}`" in page()
    assert f'"{SET_KEYWORD}": true' in page()


# ---- frames and states -----------------------------------------------------------------------------------------------
DEFAULTS = {'""': (b"", ""), "[]": ([],), "0": (0,), "true": (True,), "false": (False,), "null": (None,)}


def test_the_table_of_frames_is_that_of_the_code() -> None:
    classes = {kind.type: kind for kind in Frame.__subclasses__()}
    assert classes.keys() == set(FrameType)
    table = {cells[1]: cells for cells in rows("Frames") if cells[0].startswith("0x")}
    assert {name: int(cells[0], 16) for name, cells in table.items()} == {t.name.lower(): t for t in FrameType}
    for kind, frame in classes.items():
        keys = {}
        for part in re.split(r", (?=`)", table[kind.name.lower()][3]):
            if match := re.match(r'`(\w+)`:? ?(""|\[\]|0|true|false|null)?(?=[ :,;]|$)', part):
                keys[match[1]] = match[2]
        fields = {field.encode_name: field for field in msgspec.structs.fields(frame)}
        assert keys.keys() == fields.keys(), kind
        for name, field in fields.items():
            default = field.default
            if field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory()
            if keys[name] is None:
                assert default is msgspec.NODEFAULT, f"{kind.name} {name} has a default"
            else:
                assert default in DEFAULTS[keys[name]], f"{kind.name} {name}"
                assert type(default) in {type(allowed) for allowed in DEFAULTS[keys[name]]}


def test_who_sends_is_what_the_states_allow() -> None:
    sent = {
        who: {t for allowed in table.values() for t in allowed}
        for who, table in (("client", CLIENT_SENDS), ("server", SERVER_SENDS))
    }
    for cells in rows("Frames"):
        if cells[0].startswith("0x") and cells[1] not in ("ping", "pong", "err"):
            kind = FrameType[cells[1].upper()]
            senders = {who for who in sent if kind in sent[who]}
            assert senders == ({"client", "server"} if cells[2] == "both" else {cells[2]}), cells[1]


def test_the_table_of_states_is_that_of_the_code() -> None:
    table = {cells[0]: cells[1:] for cells in rows("Link") if cells[0] != "state"}
    assert {State[name.upper()] for name in table} == set(State) - {State.CLOSED}
    for name, cells in table.items():
        for cell, code in zip(cells, (CLIENT_SENDS, SERVER_SENDS), strict=True):
            told = {}
            for part in cell.split(";"):
                kinds, _, after = part.partition("→")
                for kind in filter(None, (word.strip() for word in kinds.split(","))):
                    told[FrameType[kind.upper()]] = State[(after.strip() or name).upper()]
            assert told == code.get(State[name.upper()], {}), name


def test_the_table_of_message_states_is_that_of_the_code() -> None:
    table = {c[0]: set(filter(None, c[2].split(", "))) for c in rows("Messages") if c[0] in list(messages.MessageState)}
    assert table == {str(state): set(map(str, after)) for state, after in messages.AFTER.items()}


# ---- errors ----------------------------------------------------------------------------------------------------------
WIRE = (
    "hybridgw_relay.core", "hybridgw_relay.services", "hybridgw_relay.stores.sqlite", "hybridgw_protocol.auth",
    "hybridgw_protocol.batch", "hybridgw_protocol.envelope", "hybridgw_protocol.frames", "hybridgw_protocol.letters",
    "hybridgw_protocol.link",
    "hybridgw_protocol.membership", "hybridgw_protocol.records", "hybridgw_protocol.vectors",
)  # fmt: skip


def classes() -> dict[str, type[errors.HybridGWError]]:
    """Names of the errors that somebody else's bytes can cause, and of those that a relay answers with."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    remote = [kind for kind in kinds if issubclass(kind, errors.RemoteError)]
    return {kind.__name__: kind for kind in (*remote, errors.Busy, errors.TooBig, errors.HybridGWError, MalformedBody)}


def test_the_table_of_errors_is_that_of_the_code() -> None:
    table = {cells[0].strip("`"): cells[1:3] for cells in rows("Errors") if cells[0].startswith("`")}
    known = {kind.code: kind for kind in classes().values()}
    assert table.keys() == known.keys()
    assert {code: again for code, (_, again) in table.items()} == {
        code: "yes" if kind.retryable else "no" for code, kind in known.items()
    }


def test_the_errors_that_are_sent_are_those_that_a_relay_makes() -> None:
    """Every error class that is called in what a relay runs for a connection; `internal` is what nobody foresaw."""
    made = {"internal"}
    for name, path in modules().items():
        if name.startswith(WIRE):
            calls = (node.func for node in ast.walk(syntax(path)) if isinstance(node, ast.Call))
            made |= {classes()[f.id].code for f in calls if isinstance(f, ast.Name) and f.id in classes()}
    assert made == {cells[0].strip("`") for cells in rows("Errors") if cells[1] == "yes"}


# ---- limits ----------------------------------------------------------------------------------------------------------
def test_the_table_of_limits_is_that_of_the_code() -> None:
    table = {
        cells[0].strip("`"): ast.literal_eval(cells[1].replace(",", ""))
        for cells in rows("Limits")
        if cells[0][0] == "`"
    }
    constants = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert len(constants) > 50
    assert table == constants


@pytest.mark.parametrize(
    ("number", "constant"),
    [
        ("65,536 bytes", limits.MAX_FIELD_BYTES), ("131,072 bytes", limits.MAX_DOCUMENT_BYTES),
        ("2,000 operations", limits.MAX_TX_OPS), ("4,000 records", limits.MAX_RECORDS),
        ("8,192 bytes", limits.MAX_RECORD_BYTES), ("262,144 bytes", limits.MAX_BATCH_BYTES),
        ("900,000", limits.CLOCK_BOUND_MS), ("86,400,000 ms", limits.FLOOR_MARGIN_MS),
        ("512 records", limits.MAX_WAITING_RECORDS), ("200 records", limits.ROOT_RESERVE),
        ("at most 65,536 bytes", limits.MAX_MESSAGE_BODY_BYTES), ("2,592,000,000 ms", limits.MAX_MESSAGE_TTL_MS),
        ("30,000 ms at most", limits.HOLD_MS), ("room for 20,000", limits.MAX_MAIL_ROWS),
        ("1,000 letters", limits.MAX_LETTER_ROWS), ("71,680 bytes", limits.MAX_LETTER_BYTES),
        ("at most 32 deep", limits.MAX_DEPTH), ("524,288 bytes", limits.MAX_PAIRING_BYTES),
    ],
)  # fmt: skip
def test_numbers_in_the_text_are_the_same(number: str, constant: int) -> None:
    text = re.sub(r"\s+", " ", page())
    assert number in text
    match = re.search(r"\d[\d,]*", number)
    assert match
    assert int(match[0].replace(",", "")) == constant
