"""The audit log is for people: every event that the daemon notes has its sentence, and every sentence its event."""

from __future__ import annotations

import re

from hybridgw_daemon.services.audit import SENTENCES
from tests.architecture._tree import ROOT, texts

NAMED = re.compile(r"\"([a-z]+(?:\.[a-z_]+)?)\"")
NOTES = re.compile(r"(?:noted|note|refused|write|audit\.add)\((?:[^()]|\([^()]*\))*?\"([a-z]+\.[a-z_]+)\"")


def test_every_event_has_a_sentence_and_every_sentence_an_event() -> None:
    folder = ROOT / "hybridgw_daemon"
    sources = [text for path, text in texts().items() if path.suffix == ".py" and folder in path.parents]
    noted = {name for text in sources for name in NOTES.findall(text)}
    known = {family.partition(".")[0] for family in SENTENCES}
    assert {name for name in noted if name.partition(".")[0] in known} <= SENTENCES.keys()
    named = [name for text in sources for name in NAMED.findall(text)]
    assert not {event for event in SENTENCES if named.count(event) < 2}  # its sentence, and where it is noted
