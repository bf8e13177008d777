"""Browsers of this machine, and how each is told which program to start for the HybridGW extension.

A browser starts a native messaging host only if a manifest of its own kind names the program and lists the extension.
On Linux and macOS the manifest lies in a folder of the browser's, on Windows a key of the registry says where it lies.
All of it belongs to the user: nothing is written for other users of the machine. Nothing here prints.

Sources: the native messaging pages of Chromium, Microsoft Edge and Mozilla.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final, Literal, NamedTuple

from hybridgw_client.native_host import LIST_NAME, allowed_ids
from hybridgw_client.profile import Profile
from hybridgw_protocol.native import CHROME_IDS, FIREFOX_IDS, HOST_NAME

Platform = Literal["linux", "darwin", "win32"]
PROGRAM: Final = "hybridgw-native-host"
DESCRIPTION: Final = "Connects the HybridGW extension to HybridGW on this computer."
MANIFEST: Final = f"{HOST_NAME}.json"


@dataclass(frozen=True, slots=True)
class Browser:
    """One kind of browser. linux, mac: its folder below ~/.config and ~/Library/Application Support; windows: below
    HKEY_CURRENT_USER; programs: as PATH may have them; snap, flatpak: as those call it, empty: there is none."""

    name: str
    title: str
    linux: str
    mac: str
    windows: str
    programs: tuple[str, ...]
    snap: str = ""
    flatpak: str = ""
    is_firefox: bool = False


BROWSERS: Final = (
    Browser("chrome", "Google Chrome", "google-chrome", "Google/Chrome", r"Software\Google\Chrome",
            ("google-chrome", "google-chrome-stable"), flatpak="com.google.Chrome"),
    Browser("chromium", "Chromium", "chromium", "Chromium", r"Software\Chromium",
            ("chromium", "chromium-browser"), snap="chromium", flatpak="org.chromium.Chromium"),
    Browser("edge", "Microsoft Edge", "microsoft-edge", "Microsoft Edge", r"Software\Microsoft\Edge",
            ("microsoft-edge", "microsoft-edge-stable"), flatpak="com.microsoft.Edge"),
    Browser("brave", "Brave", "BraveSoftware/Brave-Browser", "BraveSoftware/Brave-Browser",
            r"Software\BraveSoftware\Brave-Browser", ("brave-browser", "brave"), snap="brave",
            flatpak="com.brave.Browser"),
    Browser("vivaldi", "Vivaldi", "vivaldi", "Vivaldi", r"Software\Vivaldi", ("vivaldi", "vivaldi-stable"),
            snap="vivaldi", flatpak="com.vivaldi.Vivaldi"),
    Browser("firefox", "Firefox", ".mozilla", "Mozilla", r"Software\Mozilla", ("firefox", "firefox-esr"),
            snap="firefox", flatpak="org.mozilla.firefox", is_firefox=True),
)  # fmt: skip
BY_NAME: Final = {browser.name: browser for browser in BROWSERS}


class Machine(NamedTuple):
    """What decides where things are. home: of the user; environment: of this process; root: of the file system."""

    platform: Platform
    home: Path
    environment: Mapping[str, str]
    root: Path = Path("/")

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        platform: Platform = "win32" if sys.platform == "win32" else "darwin" if sys.platform == "darwin" else "linux"
        return cls(platform, Path.home(), os.environ)

    def folder(self, browser: Browser) -> Path:
        """Where the browser keeps things of this user, Linux and macOS."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support" / browser.mac
        if browser.is_firefox:
            return self.home / browser.linux
        return Path(self.environment.get("XDG_CONFIG_HOME") or self.home / ".config") / browser.linux

    def sandbox(self, browser: Browser) -> Literal["snap", "flatpak"] | None:
        """Does this browser run in a box from which it can start no program of the machine. Linux only."""
        if self.platform != "linux":
            return None
        has_snap = browser.snap and (self.root / "snap" / browser.snap).is_dir()
        if browser.flatpak:
            for place in (self.home / ".local/share/flatpak", self.root / "var/lib/flatpak"):
                if (place / "app" / browser.flatpak).is_dir():
                    return "flatpak"
        return "snap" if has_snap else None

    def has(self, browser: Browser) -> bool:
        """Is it, or was it, used here."""
        if self.platform != "win32" and self.folder(browser).is_dir():
            return True
        path = self.environment.get("PATH", "")
        return any(shutil.which(program, path=path) for program in browser.programs)


class Entry(NamedTuple):
    """What tells one browser. manifest: the file; key: of the registry, below HKEY_CURRENT_USER, on Windows."""

    browser: Browser
    manifest: Path
    key: str | None = None


def entry_of(browser: Browser, machine: Machine, profile: Profile) -> Entry:
    """Where the manifest of a browser belongs."""
    if machine.platform == "win32":
        place = Path(profile.folders.data, "native-messaging", f"{browser.name}.json")
        return Entry(browser, place, rf"{browser.windows}\NativeMessagingHosts\{HOST_NAME}")
    below = "native-messaging-hosts" if browser.is_firefox and machine.platform == "linux" else "NativeMessagingHosts"
    return Entry(browser, machine.folder(browser) / below / MANIFEST)


def manifest(browser: Browser, program: PurePath, more: Sequence[str] = ()) -> dict[str, Any]:
    """The manifest. Args: program: absolute; more: ids that the person has allowed beside ours."""
    found: dict[str, Any] = {"name": HOST_NAME, "description": DESCRIPTION, "path": str(program), "type": "stdio"}
    if browser.is_firefox:
        found["allowed_extensions"] = sorted({*FIREFOX_IDS, *(one for one in more if not _is_chrome(one))})
    else:
        ids = sorted({*CHROME_IDS, *(one for one in more if _is_chrome(one))})
        found["allowed_origins"] = [f"chrome-extension://{one}/" for one in ids]
    return found


def _is_chrome(name: str) -> bool:
    return len(name) == 32 and name.isalpha()


def host_program(profile: Profile, machine: Machine, installed: Path | None = None) -> Path | None:
    """The program that browsers start, absolute; None: it is not installed.

    A manifest carries no arguments, so a profile with its own folder has a launcher there, see `write_launcher`.
    """
    program = installed or _installed(machine)
    if program is None or profile.home is None:
        return program
    return Path(profile.home, f"{PROGRAM}.bat" if machine.platform == "win32" else PROGRAM)


def _installed(machine: Machine) -> Path | None:
    name = f"{PROGRAM}.exe" if machine.platform == "win32" else PROGRAM
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return beside.absolute()
    found = shutil.which(name)
    return Path(found).absolute() if found else None


def launcher(home: str, program: PurePath, platform: Platform) -> str:
    """The text of a launcher that starts the program for the profile in one folder."""
    if platform == "win32":
        return f'@echo off\r\nset "HYBRIDGW_HOME={home}"\r\n"{program}" %*\r\n'
    return f'#!/bin/sh\nHYBRIDGW_HOME={shlex.quote(home)} exec {shlex.quote(str(program))} "$@"\n'


def install(entry: Entry, profile: Profile, machine: Machine, installed: Path | None = None) -> None:
    """Tell one browser. Raises: OSError; FileNotFoundError: the program is not installed."""
    program = installed or _installed(machine)
    if program is None:
        raise FileNotFoundError(f"{PROGRAM} is not installed beside this program")
    target = host_program(profile, machine, program)
    assert target is not None  # noqa: S101 - there is a program
    if target != program:
        assert profile.home is not None  # noqa: S101 - see host_program
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.write_text(launcher(profile.home, program, machine.platform), newline="")
        target.chmod(0o700)
    entry.manifest.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(manifest(entry.browser, target, allowed_ids(profile)), indent=2) + "\n"
    new = entry.manifest.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, entry.manifest)
    if entry.key is not None:
        _set_key(entry.key, str(entry.manifest))


def remove(entry: Entry) -> bool:
    """Tell one browser no longer; whether there was something. Raises: OSError."""
    was_there = entry.manifest.exists()
    entry.manifest.unlink(missing_ok=True)
    if entry.key is not None:
        was_there = _delete_key(entry.key) or was_there
    return was_there


def fault_of(entry: Entry, profile: Profile, machine: Machine) -> str | None:
    """What is wrong with what this browser is told; None: nothing. `missing`: it is told nothing."""
    try:
        found = json.loads(entry.manifest.read_bytes()[:65_536])
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError):
        return f"{entry.manifest} cannot be read"
    if not isinstance(found, dict) or not isinstance(found.get("path"), str):
        return f"{entry.manifest} is no manifest"
    program = Path(found["path"])
    if not os.access(program, os.X_OK):
        return f"it starts {program}, which is not there"
    target = host_program(profile, machine)
    if target is not None and program != target:
        return f"it starts {program}, which belongs to another installation or profile"
    if target is not None and found != manifest(entry.browser, target, allowed_ids(profile)):
        return f"{entry.manifest} is of another version"
    if entry.key is not None and _get_key(entry.key) != str(entry.manifest):
        return f"the registry does not name {entry.manifest}"
    return None


def allow(profile: Profile, ids: Sequence[str]) -> None:
    """Further extensions that the host answers: ids, as browsers show them. Raises: OSError."""
    path = Path(profile.folders.config, LIST_NAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [*allowed_ids(profile), *ids]
    path.write_text(json.dumps({"allowed": sorted(set(known))}, indent=2) + "\n", encoding="utf-8")


# ---- the registry of Windows -----------------------------------------------------------------------------------------
if sys.platform == "win32":
    import winreg

    def _set_key(key: str, value: str) -> None:
        with winreg.CreateKey(winreg.HKEY_CURRENT_USER, key) as opened:
            winreg.SetValueEx(opened, "", 0, winreg.REG_SZ, value)

    def _get_key(key: str) -> str | None:
        try:
            return str(winreg.QueryValue(winreg.HKEY_CURRENT_USER, key))
        except OSError:
            return None

    def _delete_key(key: str) -> bool:
        try:
            winreg.DeleteKey(winreg.HKEY_CURRENT_USER, key)
        except FileNotFoundError:
            return False
        return True
else:

    def _set_key(key: str, value: str) -> None:
        raise OSError("there is no registry here")

    def _get_key(key: str) -> str | None:
        return None

    def _delete_key(key: str) -> bool:
        return False
