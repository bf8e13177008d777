"""The JavaScript client's own tests, by Node's test runner: its parts, and its behaviour beside a real daemon."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hybridgw_daemon.services.access import AccessSettings
from tests._node import JS
from tests.conftest import ROOT
from tests.integration._local_api import Api, running

from .conftest import Owner, environment

FILES = sorted(path.name for path in (JS / "test").glob("*.test.mjs"))


def test_the_files_are_seen() -> None:
    assert {"behaviour.test.mjs", "parts.test.mjs"} <= set(FILES)


@pytest.mark.spec("F5")
@pytest.mark.parametrize("file", FILES)
def test_spec_F5_node(built: Path, file: str) -> None:
    done = subprocess.run(
        ["node", "--test", "--test-timeout=120000", "--test-reporter=tap", f"test/{file}"],
        cwd=built, env=environment() | {"HYBRIDGW_PYTHON": sys.executable}, capture_output=True, text=True, timeout=150,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert "\n# skipped 0\n" in done.stdout
    assert "\n# pass 0\n" not in done.stdout


def test_spec_F5_the_package_depends_on_nothing_at_run_time(built: Path) -> None:
    import json
    import re

    package = json.loads((built / "package.json").read_text())
    assert "dependencies" not in package
    for path in (built / "dist").glob("*.js"):
        wanted = set(re.findall(r"""(?:from|import)\s*\(?["']([^."'][^"']*)["']""", path.read_text()))
        allowed = {name for name in wanted if name.startswith("node:")} if path.name.startswith("node") else set()
        assert wanted == allowed, path.name


def test_no_module_of_the_client_needs_one_that_needs_it() -> None:
    """Types count too: who reads one module has to read those below it, and no circle of them."""
    files = (JS / "src").glob("*.ts")
    modules = {path.stem: set(re.findall(r"from '\./([a-z-]+)\.js'", path.read_text())) for path in files}
    assert len(modules) > 20
    while free := {name for name, needs in modules.items() if not needs & modules.keys()}:
        for name in free:
            del modules[name]
    assert modules == {}


def test_the_bundle_for_pages_is_small(built: Path) -> None:
    import gzip

    assert len(gzip.compress((built / "dist" / "hybridgw.js").read_bytes())) < 16_000


# ---- a token that ends while the connection is open ------------------------------------------------------------------
FOLLOW = """
import {{ connect, fileTokens }} from {client}
const db = connect({{ app: 'Lasting', scopes: ['read:tasks'], url: {url}, keep: fileTokens({tokens}), ask: 'always' }})
db.subscribe(({{ status, code }}) => console.log(code === null ? status : `asking ${{code}}`))
"""


@asynccontextmanager
async def following(built: Path, api: Api, tokens: str, program: str = FOLLOW) -> AsyncIterator[list[str]]:
    """An app in Node that stays connected; what it says of its state, in order."""
    names = {"client": f"file://{built}/dist/node.js", "url": f"http://127.0.0.1:{api.port}", "tokens": tokens}
    code = program.format(**{name: json.dumps(value) for name, value in names.items()})
    process = await asyncio.create_subprocess_exec(
        "node", "--input-type=module", "-e", code, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    said: list[str] = []

    async def read(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            said.append(line.decode().strip())

    reading = asyncio.create_task(read(process.stdout))
    try:
        yield said
    finally:
        process.kill()
        await process.wait()
        await reading


BY_KEY = """
import {{ connect }} from {client}
const login = {{ deployment_mode: 'local_install', credentials: {{ api_key: {tokens} }} }}
const init = {{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }}, body: JSON.stringify(login) }}
const token = async () => (await (await fetch({url} + '/api/auth/login', init)).json()).access_token
connect({{ app: 'By key', url: {url}, token }}).subscribe(({{ status }}) => console.log(status))
"""


async def renewed(api: Api, times: int) -> None:
    """Wait until a token was shown so many times more."""
    api.calls.clear()
    async with asyncio.timeout(30):
        while sum(call.template == "auth" and call.status == 200 for call in api.calls) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_spec_F5_spec_A4_a_token_is_renewed_in_the_open_connection(built: Path, tmp_path: Path) -> None:
    """Tokens of 16 seconds. Nobody notices when they end, also not the next page, which finds one in use."""
    tokens = str(tmp_path / "tokens.json")
    async with running(tmp_path, settings=AccessSettings("HS256", 16, b"k" * 32)) as api:
        async with following(built, api, tokens) as said:
            async with asyncio.timeout(30):
                while not (asked := (await api.call("GET", "/api/auth/grants")).body["items"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            body = {"code": asked[0]["code"], "lasts": "until_revoked"}
            assert (await api.call("POST", f"/api/auth/grants/{asked[0]['id']}/approve", body)).status == 200
            await renewed(api, 2)
            assert said[-1] == "online"
            assert said.count("online") == 1, said
            assert [line for line in said if re.fullmatch(r"asking \d{3} \d{3}", line)], said
        assert api.local.stats().opened == 1
        async with following(built, api, tokens) as said:
            await renewed(api, 2)
            assert (said[-1], set(said[:-1])) == ("online", {"starting", "connecting"}), said
        stats = api.local.stats()
        assert (stats.opened, "4401" in stats.close_codes) == (2, False)


async def test_spec_F5_a_function_that_gives_tokens_is_asked_before_the_one_in_use_ends(
    built: Path, tmp_path: Path
) -> None:
    async with running(tmp_path, settings=AccessSettings("HS256", 8, b"k" * 32)) as api:
        key = (await api.call("POST", "/api/auth/keys", {"scopes": ["read:tasks"]})).body["key"]
        async with following(built, api, key, BY_KEY) as said:
            await renewed(api, 3)
            assert (said[-1], said.count("online")) == ("online", 1), said
        assert api.local.stats().opened == 1


# ---- the reference as printed ----------------------------------------------------------------------------------------
@asynccontextmanager
async def running_node(built: Path, folder: Path, code: str) -> AsyncIterator[asyncio.StreamReader]:
    """A program that has the client installed; what it prints."""
    (folder / "node_modules" / "@hybridgw").mkdir(parents=True)
    (folder / "node_modules" / "@hybridgw" / "client").symlink_to(built)
    (folder / "quick.mjs").write_text(code)
    process = await asyncio.create_subprocess_exec(
        "node", "quick.mjs", cwd=folder, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def test_spec_F5_the_reference_as_printed(owner: Owner, built: Path, tmp_path: Path) -> None:
    """The first program of the page, and the one for Node, at this daemon's address."""
    text = (ROOT / "docs" / "reference" / "javascript-client.md").read_text()
    programs = [
        found for found in re.findall(r"^```js\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if "import" in found
    ]
    first, node = (program.replace("connect({ ", f"connect({{ url: '{owner.url}', ") for program in programs)
    async with running_node(built, tmp_path / "first", first) as said:
        await approve(owner, "Tasks")
        async with asyncio.timeout(30):
            while (line := (await said.readline()).decode().strip()) != "[ 'Buy milk' ]":
                assert line == "[]"
            while not (await owner.call("GET", "/api/data/tasks"))["items"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    place = f"const endpointFile = {json.dumps(str(owner.home / 'endpoint.json'))}\n"
    async with running_node(built, tmp_path / "node", place + node + "await own.ready()\nawait db.ready()\n"
                            "console.log((await db.collection('tasks').list()).docs.length)\n") as said:  # fmt: skip
        code = (await asyncio.wait_for(said.readline(), 30)).decode().strip()
        assert await approve(owner, "Backup") == code
        assert await asyncio.wait_for(said.readline(), 30) == b"1\n"


async def approve(owner: Owner, name: str) -> str:
    """The person lets the app of this name in. Returns: the code."""
    async with asyncio.timeout(30):
        while not (asked := await owner.waiting()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert [one["name"] for one in asked] == [name]
    await owner.call("POST", f"/api/auth/grants/{asked[0]['id']}/approve", {"code": asked[0]["code"]})
    return str(asked[0]["code"])
