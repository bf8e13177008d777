"""How apps, pages and scripts are let in, in the tests of many folders."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.integration._local_api import Answer, Api, running

PAGE = "https://tasks.example.com"
OTHER = "https://evil.example"
EXTENSION = "chrome-extension://" + "abcdefghijklmnop" * 2
SCOPES = ["read:tasks", "write:tasks"]


@contextlib.asynccontextmanager
async def with_documents(folder: Path) -> AsyncIterator[Api]:
    """A local API with a task and a note."""
    async with running(folder) as made:
        await made.call("PUT", "/api/data/tasks/milk", {"title": "Buy milk"})
        await made.call("PUT", "/api/data/notes/plan", {"text": "Monday"})
        yield made


async def page(
    api: Api, method: str, path: str, body: Any = None, *, origin: str = PAGE, token: str | None = None, **more: str
) -> Answer:
    """A call as the script of a page makes it: the browser adds the Origin and where it comes from."""
    headers = {"Origin": origin, "X_HybridGW_Client": "test/1", "Sec_Fetch_Site": "cross-site", **more}
    return await api.call(method, path, body, token=token, **headers)


async def ask(api: Api, *, origin: str | None = PAGE, scopes: Any = SCOPES, name: str = "Tasks") -> Any:
    """What an app gets when it asks, which must succeed."""
    body = {"name": name, "scopes": scopes}
    if origin is None:
        got = await api.call("POST", "/api/auth/grants", body, token=None)
    else:
        got = await page(api, "POST", "/api/auth/grants", body, origin=origin)
    assert got.status == 202, got.raw
    return got.body


async def approve(api: Api, asked: Any, **more: Any) -> Answer:
    """The person compares the code and says yes."""
    return await api.call("POST", f"/api/auth/grants/{asked['id']}/approve", {"code": asked["code"], **more})


async def login(api: Api, asked: Any, *, origin: str | None = PAGE) -> Answer:
    """The app fetches its tokens."""
    body = {"deployment_mode": "web_app", "credentials": {"grant": asked["id"], "secret": asked["secret"]}}
    if origin is None:
        return await api.call("POST", "/api/auth/login", body, token=None)
    return await page(api, "POST", "/api/auth/login", body, origin=origin)


async def let_in(api: Api, *, origin: str | None = PAGE, scopes: Any = SCOPES, **more: Any) -> Any:
    """An app that was let in: its tokens, and `id` of its grant."""
    asked = await ask(api, origin=origin, scopes=scopes)
    got = await approve(api, asked, **more)
    assert got.status == 200, got.raw
    tokens = await login(api, asked, origin=origin)
    assert tokens.status == 200, tokens.raw
    return tokens.body | {"id": asked["id"]}


async def make_key(api: Api, *scopes: str, **more: Any) -> Any:
    """A key for a script."""
    got = await api.call("POST", "/api/auth/keys", {"scopes": list(scopes), **more})
    assert got.status == 201, got.raw
    return got.body


async def audited(api: Api, event: str) -> list[Any]:
    """Rows of the audit log."""
    return list((await api.call("GET", f"/api/auth/audit?event={event}")).body["items"])


def no_cors(got: Answer) -> bool:
    return not [name for name in got.headers if name.lower().startswith("access-control-")]


async def login_with(api: Api, key: str, **headers: str) -> Answer:
    body = {"deployment_mode": "local_install", "credentials": {"api_key": key}}
    return await api.call("POST", "/api/auth/login", body, token=None, **headers)
