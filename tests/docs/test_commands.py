"""Every command that README and docs show is run; and the runner itself is shown to find faults."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import _node
from tests.docs._commands import Block, PageFault, blocks, run_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", *ROOT.glob("docs/tutorial/*.md"), *ROOT.glob("docs/how-to/*.md"))
)

EXAMPLE = """\
# A page
```sh
mkdir box
echo "one  two" > box/file   # indentation and quotes stay
```
Not this one:
```text
rm box/file
```
- in a list:
  ```sh save=WORD
  cat box/file | cut -d' ' -f1
  ```
<!-- norun: needs a second machine -->
```sh norun
never
```
```sh answer=yes exit=3
read word; [ "$word" = yes ]; test WORD = one; exit 3
```
"""


def page(folder: Path, text: str) -> Path:
    """A page on disk."""
    path = folder / "page.md"
    path.write_text(text)
    return path


def test_blocks_are_found() -> None:
    first, second, third, fourth = blocks(EXAMPLE)
    assert first == Block(3, 'mkdir box\necho "one  two" > box/file   # indentation and quotes stay')
    assert (second.line, second.commands, second.save) == (12, "cat box/file | cut -d' ' -f1", "WORD")
    assert third.norun == "needs a second machine"
    assert (fourth.answer, fourth.exit_code) == ("yes\n", 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```sh norun\nls\n```\n", "norun and its reason"),
        ("<!-- norun: because -->\n```sh\nls\n```\n", "norun and its reason"),
        ("```sh later\nls\n```\n", "unknown word"),
        ("```sh\nls\n", "never closed"),
        ("<!-- sh\nls\n", "never closed"),
        ("<!-- shows: this -->\ntext\n```sh\nls\n```\n", "no block behind it"),
    ],
)
def test_a_page_written_wrongly_is_refused(text: str, says: str) -> None:
    with pytest.raises(PageFault, match=says):
        blocks(text)


def test_blocks_run_in_order_in_one_home(tmp_path: Path) -> None:
    ran = list(run_page(page(tmp_path, EXAMPLE), tmp_path))
    assert [printed for _, printed in ran] == ["", "one\n", "", ""]
    assert (tmp_path / "home" / "box" / "file").read_text() == "one  two\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```sh\ntrue\n```\n```sh\necho here; false; echo no\n```\n", "line 5: exit code 1, not 0\n(.|\n)*here"),
        ("```sh\nno_such_command_of_ours\n```\n", "line 2: exit code 127"),
        ("```sh save=CODE\necho nothing here\n```\n", "nothing to save as CODE"),
        ("```sh stop\ntrue\n```\n", "nothing runs"),
        ("<!-- shows: there -->\n```sh\necho here\n```\n", "does not show 'there'"),
        ("<!-- shows: here -->\n<!-- hides: and -->\n```sh\necho here and there\n```\n", "shows 'and'"),
        ("```sh background save=LINK\necho nothing here\n```\n", "never came up"),
    ],
)
def test_a_command_that_fails_fails_the_page(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PageFault, match=says):
        list(run_page(page(tmp_path, text), tmp_path))


def test_what_a_page_takes_for_granted_is_run_unseen(tmp_path: Path) -> None:
    text = "<!-- sh\necho prepared > file\n-->\n<!-- shows: prepared -->\n<!-- hides: other -->\n```sh\ncat file\n```\n"
    first, second = blocks(text)
    assert (first.line, first.commands, second.shows, second.hides) == (
        2,
        "echo prepared > file",
        ("prepared",),
        ("other",),
    )
    assert [printed for _, printed in run_page(page(tmp_path, text), tmp_path)] == ["", "prepared\n"]


def test_the_input_of_a_program_stays_open_where_the_page_says_so(tmp_path: Path) -> None:
    reads = "timeout 0.3 cat || test $? = {}"
    text = f"```sh open\n{reads.format(124)}\n```\n```sh\n{reads.format(0)}; cat\n```\n"
    assert [printed for _, printed in run_page(page(tmp_path, text), tmp_path)] == ["", ""]


def test_a_background_block_runs_until_the_page_ends(tmp_path: Path) -> None:
    text = (
        "```sh background save=LINK\necho $$ > pid; echo 'open http://127.0.0.1:1/#k=abc now'; exec sleep 600\n```\n"
        '```sh\ntest "LINK" = "http://127.0.0.1:1/#k=abc"; kill -0 $(cat pid)\n```\n'
        "```sh background save=CODE\necho 'code 417-803-265@127.0.0.1:8080'; exec sleep 600\n```\n"
        "```sh stop\ntest CODE = 417-803-265@127.0.0.1:8080; kill -0 $(cat pid)\n```\n"
    )
    list(run_page(page(tmp_path, text), tmp_path))
    pid = (tmp_path / "home" / "pid").read_text().strip()
    assert subprocess.run(["ps", "-p", pid, "-o", "comm="], capture_output=True, check=False).stdout.strip() == b""


def test_stop_means_what_runs_for_good_and_not_a_dialogue_that_is_about_to_end(tmp_path: Path) -> None:
    text = (
        "```sh background\necho $$ > pid; echo up; exec sleep 600\n```\n"
        "```sh background answer=y\nread answer; echo asked; sleep 0.5; echo ended > dialogue\n```\n"
        "```sh stop\ntest -e dialogue; ! kill -0 $(cat pid) 2>/dev/null\n```\n"
    )
    list(run_page(page(tmp_path, text), tmp_path))


def test_what_a_page_leaves_behind_is_ended(tmp_path: Path) -> None:
    """A daemon in a session of its own, after a command that failed."""
    text = "```sh\nsetsid sleep 600 & echo $! > pid\n```\n```sh\nfalse\n```\n"
    with pytest.raises(PageFault, match="exit code 1"):
        list(run_page(page(tmp_path, text), tmp_path))
    pid = (tmp_path / "home" / "pid").read_text().strip()
    assert subprocess.run(["ps", "-p", pid, "-o", "comm="], capture_output=True, check=False).stdout.strip() == b""


# Its one block is a web page, which tests/clients/test_browsers.py runs as printed.
IN_A_BROWSER = {"docs/tutorial/web-app-in-five-lines.md"}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_read(name: str) -> None:
    """Fences close, words after sh are known, norun has its reason."""
    blocks((ROOT / name).read_text())


# What Node runs on them is pinned in clients/package-lock.json.
WITH_NODE = {"docs/how-to/follow-changes-live.md", "docs/how-to/look-for-trouble.md"}


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_every_page_work(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From top to bottom in an empty home, each with the exit code that the page says."""
    if name in WITH_NODE:
        _node.built(tmp_path_factory.getbasetemp())
    named = {"README.md", "docs/tutorial/two-devices.md", "docs/how-to/headless-secrets.md"}  # the store, in the page
    without = ("HYBRIDGW_SECRET_STORE",) if name in named else ()
    if "HYBRIDGW_LAN_ENABLED=false" in (ROOT / name).read_text():  # it says so itself where it matters
        without += ("HYBRIDGW_LAN_ENABLED",)
    ran = [block for block, _ in run_page(ROOT / name, tmp_path, without=without)]
    if name not in IN_A_BROWSER:
        assert [block for block in ran if not block.norun], "a page that shows nothing that can be run"
