"""Real browsers, driven by their own protocols: Chromium by CDP, Firefox by WebDriver BiDi. No driver program between.

A `Tab` is the same for both. Clicks and typing are real input events, so that they count as a person's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import aiohttp

PATIENCE_S = 30.0  # a machine may be busy with other tests
MOST_HEIGHT = 3_000  # of a picture, pixels
_KEYS = {
    "Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, ""), "Space": (32, " "),
    "ArrowLeft": (37, ""), "ArrowRight": (39, ""),
}  # fmt: skip
_WEBDRIVER_KEYS = {"Tab": "\ue004", "Enter": "\ue006", "Escape": "\ue00c", "Space": " ", "Shift": "\ue008"}


class Tab(Protocol):
    """A page that is open."""

    async def goto(self, url: str) -> None:
        """Load it, to its end."""
        ...

    async def run(self, expression: str) -> Any:
        """What a JavaScript expression gives; promises are awaited."""
        ...

    async def click(self, selector: str) -> None:
        """With the mouse, in the middle of the element."""
        ...

    async def type(self, text: str) -> None:
        """With the keyboard, into what has the focus."""
        ...

    async def press(self, key: str) -> None:
        """One key of WebDriver's names: Tab, Enter, Escape, Space; Shift+ before it."""
        ...

    async def resize(self, width: int, height: int) -> None:
        """The part of the window that shows the page."""
        ...

    async def picture(self) -> bytes:
        """The whole page as it looks, PNG."""
        ...

    async def problems(self) -> list[str]:
        """Errors and warnings of the console and what was not caught, since the tab was made."""
        ...

    async def asked(self) -> set[str]:
        """The addresses of everything it has loaded, connected to or tried to."""
        ...


async def until(tab: Tab, expression: str, wait_s: float = PATIENCE_S) -> Any:
    """Wait until the expression gives something true. Raises: AssertionError: with what the page shows."""
    end = time.monotonic() + wait_s
    while not (found := await tab.run(expression)):
        if time.monotonic() > end:
            shown = await tab.run("document.body.innerText")
            raise AssertionError(f"in {wait_s} s not: {expression}; the page shows:\n{shown}")
        await asyncio.sleep(0.02)
    return found


class Talk:
    """Commands and answers by number, on a WebSocket. events: what the browser tells by itself, once it is asked to."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.events: list[dict[str, Any]] = []
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            found = json.loads(message.data)
            if "id" not in found:
                self.events.append(found)
            waiting = self._waiting.pop(found.get("id"), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(found)
        for waiting in self._waiting.values():
            waiting.cancel()

    async def ask(self, method: str, params: dict[str, Any], **more: Any) -> Any:
        """The answer. Raises: AssertionError: the browser refuses."""
        number = next(self._ids)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": params, **more}))
        found = await asyncio.wait_for(waiting, 30)
        if "error" in found:
            raise AssertionError(f"{method}: {json.dumps(found)[:500]}")
        return found["result"]

    async def close(self) -> None:
        """Listen no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End a browser and all its processes, which are a group of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


# ---- Chromium --------------------------------------------------------------------------------------------------------
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_CHROMIUM_ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)  # fmt: skip


class Chromium:
    """One browser with one profile."""

    def __init__(self, talk: Talk, process: asyncio.subprocess.Process) -> None:
        self.talk = talk
        self._process = process

    async def close(self) -> None:
        """As a person ends it: all that it has to keep is written."""
        await self.talk.ask("Browser.close", {})
        await asyncio.wait_for(self._process.wait(), 30)

    async def tab(self) -> ChromiumTab:
        """A new one, empty."""
        target = await self.talk.ask("Target.createTarget", {"url": "about:blank"})
        attached = await self.talk.ask("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        tab = ChromiumTab(self.talk, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            await tab.ask(f"{domain}.enable", {})
        return tab

    async def worker(self, origin: str) -> ChromiumTab:
        """The background of an extension, until it ends; held like that it is not put to sleep."""
        end = time.monotonic() + PATIENCE_S * 3
        while time.monotonic() < end:
            for one in (await self.talk.ask("Target.getTargets", {}))["targetInfos"]:
                if one["type"] == "service_worker" and one["url"].startswith(origin):
                    attached = await self.talk.ask(
                        "Target.attachToTarget", {"targetId": one["targetId"], "flatten": True}
                    )
                    return ChromiumTab(self.talk, attached["sessionId"])
            await asyncio.sleep(0.05)
        raise AssertionError(f"no worker of {origin}")

    async def permit(self, origin: str, setting: str) -> None:
        """Answer the question about the local network for a page. setting: granted, denied, prompt."""
        for name in ("local-network-access", "loopback-network", "local-network"):
            with contextlib.suppress(AssertionError):  # a browser has some of the names
                await self.talk.ask(
                    "Browser.setPermission", {"permission": {"name": name}, "setting": setting, "origin": origin}
                )


class ChromiumTab:
    """A Tab by the Chrome DevTools Protocol."""

    def __init__(self, talk: Talk, session: str) -> None:
        self._talk, self._session = talk, session

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """A command for this page."""
        return await self._talk.ask(method, params, sessionId=self._session)

    async def goto(self, url: str) -> None:
        """Load it, to its end."""
        went = await self.ask("Page.navigate", {"url": url})
        assert "errorText" not in went, went
        await until(self, f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    async def run(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        found = await self.ask(
            "Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True}
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def click(self, selector: str) -> None:
        """With the mouse."""
        place = await self.run(_MIDDLE % json.dumps(selector))
        button = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            await self.ask("Input.dispatchMouseEvent", {"type": kind, **button})

    async def type(self, text: str) -> None:
        """With the keyboard."""
        await self.ask("Input.insertText", {"text": text})

    async def press(self, key: str) -> None:
        """One key."""
        shift, _, key = key.rpartition("+")
        code, text = _KEYS[key]
        of = {"key": text.strip("\r") or key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 * bool(shift)}
        await self.ask("Input.dispatchKeyEvent", {"type": "keyDown", **of, **({"text": text} if text else {})})
        await self.ask("Input.dispatchKeyEvent", {"type": "keyUp", **of})

    async def resize(self, width: int, height: int) -> None:
        """By a window of that size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.ask("Emulation.setDeviceMetricsOverride", metrics)

    async def prefer(self, scheme: str) -> None:
        """light or dark, as the system would say; colours do not fade into each other."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        await self.ask("Emulation.setEmulatedMedia", {"features": features})

    async def picture(self) -> bytes:
        """The whole page."""
        width, height = await self.run("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, MOST_HEIGHT), "scale": 1}
        shot = await self.ask("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        return base64.b64decode(shot["data"])

    async def problems(self) -> list[str]:
        """Errors and warnings."""
        found = []
        for event in self._events():
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"])[:500])
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(params["args"])[:500])
        return found

    async def asked(self) -> set[str]:
        """By requests and WebSockets."""
        methods = {"Network.requestWillBeSent", "Network.webSocketCreated"}
        events = [event["params"] for event in self._events() if event["method"] in methods]
        return {params["request"]["url"] if "request" in params else params["url"] for params in events}

    def _events(self) -> list[dict[str, Any]]:
        return [event for event in self._talk.events if event.get("sessionId") == self._session]


@contextlib.asynccontextmanager
async def chromium(folder: Path, *arguments: str) -> AsyncIterator[Chromium]:
    """A headless Chromium that is gone afterwards."""
    assert CHROMIUM is not None
    (folder / "DevToolsActivePort").unlink(missing_ok=True)  # of the time before
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *_CHROMIUM_ARGUMENTS, *arguments, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    try:
        port, path = await _lines(folder / "DevToolsActivePort")
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
        ):
            talk = Talk(socket)
            try:
                yield Chromium(talk, process)
            finally:
                await talk.close()
    finally:
        await _ended(process)


async def _lines(path: Path) -> list[str]:
    for _ in range(1_500):
        if path.exists() and len(lines := path.read_text().split()) == 2:
            return lines
        await asyncio.sleep(0.02)
    raise AssertionError(f"the browser did not start: {path}")


# ---- Firefox ---------------------------------------------------------------------------------------------------------
FIREFOX = shutil.which("firefox-esr")
_PREFERENCES = {
    "remote.active-protocols": 1,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "browser.region.network.url": "",
    "browser.newtabpage.enabled": False,
    "browser.startup.page": 0,
}


class FirefoxTab:
    """A Tab by WebDriver BiDi."""

    def __init__(self, talk: Talk, context: str) -> None:
        self._talk, self._context = talk, context

    async def install(self, extension: Path) -> None:
        """A folder with an extension, until the browser ends; a new version takes the place of the one before."""
        await self._talk.ask("webExtension.install", {"extensionData": {"type": "path", "path": str(extension)}})

    async def goto(self, url: str) -> None:
        """Load it, to its end."""
        await self._talk.ask("browsingContext.navigate", {"context": self._context, "url": url, "wait": "complete"})

    async def run(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        as_text = f"Promise.resolve({expression}).then((value) => JSON.stringify(value === undefined ? null : value))"
        params = {"expression": as_text, "target": {"context": self._context}, "awaitPromise": True}
        found = await self._talk.ask("script.evaluate", params)
        assert found["type"] == "success", found
        return json.loads(found["result"]["value"])

    async def click(self, selector: str) -> None:
        """With the mouse."""
        x, y = await self.run(_MIDDLE % json.dumps(selector))
        steps: list[dict[str, Any]] = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        await self._act({"type": "pointer", "id": "mouse", "actions": steps})

    async def type(self, text: str) -> None:
        """With the keyboard."""
        steps = [{"type": kind, "value": char} for char in text for kind in ("keyDown", "keyUp")]
        await self._act({"type": "key", "id": "keys", "actions": steps})

    async def press(self, key: str) -> None:
        """One key."""
        shift, _, key = key.rpartition("+")
        steps = [{"type": kind, "value": _WEBDRIVER_KEYS[key]} for kind in ("keyDown", "keyUp")]
        if shift:
            held = _WEBDRIVER_KEYS[shift]
            steps = [{"type": "keyDown", "value": held}, *steps, {"type": "keyUp", "value": held}]
        await self._act({"type": "key", "id": "keys", "actions": steps})

    async def resize(self, width: int, height: int) -> None:
        """By a window of that size."""
        viewport = {"width": width, "height": height}
        await self._talk.ask("browsingContext.setViewport", {"context": self._context, "viewport": viewport})

    async def picture(self) -> bytes:
        """The whole page."""
        shot = await self._talk.ask(
            "browsingContext.captureScreenshot", {"context": self._context, "origin": "document"}
        )
        return base64.b64decode(shot["data"])

    async def problems(self) -> list[str]:
        """Errors and warnings."""
        entries = [event["params"] for event in self._talk.events if event["method"] == "log.entryAdded"]
        return [str(entry["text"])[:500] for entry in entries if entry["level"] in ("error", "warn")]

    async def asked(self) -> set[str]:
        """By requests, which of a WebSocket is one too."""
        events = [event["params"] for event in self._talk.events if event["method"] == "network.beforeRequestSent"]
        return {params["request"]["url"] for params in events}

    async def _act(self, source: dict[str, Any]) -> None:
        await self._talk.ask("input.performActions", {"context": self._context, "actions": [source]})


@contextlib.asynccontextmanager
async def firefox(
    folder: Path, *arguments: str, extension: Path | None = None, **preferences: Any
) -> AsyncIterator[FirefoxTab]:
    """A headless Firefox with one tab, gone afterwards. Args: extension: a folder, added until the browser ends."""
    assert FIREFOX is not None
    lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in (_PREFERENCES | preferences).items())
    (folder / "user.js").write_text("\n".join(lines))
    log = folder / "stderr"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            FIREFOX, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0",
            *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=out, start_new_session=True,
            env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
    try:
        url = await _bidi_url(log)
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/session", max_msg_size=0) as socket:
            talk = Talk(socket)
            try:
                await talk.ask("session.new", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}})
                await talk.ask("session.subscribe", {"events": ["log.entryAdded", "network.beforeRequestSent"]})
                tree = await talk.ask("browsingContext.getTree", {})
                tab = FirefoxTab(talk, tree["contexts"][0]["context"])
                if extension is not None:
                    await tab.install(extension)
                yield tab
            finally:
                await talk.close()
    finally:
        await _ended(process)


async def _bidi_url(log: Path) -> str:
    for _ in range(1_500):
        for line in log.read_text(errors="replace").splitlines():
            if "WebDriver BiDi listening on" in line:
                return line.split()[-1]
        await asyncio.sleep(0.02)
    raise AssertionError(f"Firefox did not start: {log.read_text(errors='replace')[-2000:]}")


_MIDDLE = """(() => {
    const box = document.querySelector(%s).getBoundingClientRect()
    return [box.x + box.width / 2, box.y + box.height / 2]
})()"""
