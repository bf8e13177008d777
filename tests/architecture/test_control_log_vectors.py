"""The golden control records, read by a reader that shares no code with ours."""

import ast
import json
import sys

import pytest

from tests.architecture import _reader_control_log as control_log
from tests.architecture._tree import ROOT, syntax
from tools.vectors.__main__ import render
from tools.vectors.control_log import vectors


def test_the_reader_and_the_model_share_no_code_with_ours():
    allowed = {"nacl", "tests", *sys.stdlib_module_names}
    for path in ("tests/architecture/_reader_control_log.py", "tests/models/membership_model.py"):
        for node in ast.walk(syntax(ROOT / path)):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed
            elif isinstance(node, ast.ImportFrom):
                assert str(node.module).split(".")[0] in allowed


def test_golden_control_records_are_what_the_page_says():
    control_log.check(json.loads(render(vectors())))


def test_the_reader_tells_when_a_golden_byte_is_wrong():
    golden = json.loads(render(vectors()))
    golden["outcomes"][-1]["seats"][0]["sealing_epoch"] = None
    with pytest.raises(AssertionError):
        control_log.check(golden)


def test_golden_control_records_are_made_the_same_each_time():
    assert render(vectors()) == render(vectors())
