"""The built dashboard, out of the package: one page, and the few files that it loads. Nothing here is looked up on a
disk by a name from outside: the files are read once, and a name either is one of them or is not.

The page may run and load what comes from here and nothing else, no script or style stands in it, nobody may frame it,
and text never becomes markup (trusted types), whatever a document or an app's name holds.
Source: docs/adr/0025-dashboard.md; clients/dashboard is what it is built from.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from hybridgw_protocol.errors import NotFound
from hybridgw_protocol.localapi_operations import Page

FOLDER: Final = "static"
PAGE: Final = "index.html"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_KINDS: Final = {
    ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
    ".html": "text/html; charset=utf-8",
}  # fmt: skip


class DashboardFiles:
    """All of them, in memory."""

    def __init__(self) -> None:
        root = resources.files("hybridgw_daemon") / FOLDER
        found = [root / PAGE, *(root / "assets").iterdir()]
        self._pages = {
            file.name: Page(kind=kind, text=file.read_text(encoding="utf-8"), policy=POLICY)
            for file in found
            if (kind := _KINDS.get(f".{file.name.rpartition('.')[2]}"))
        }

    def page(self) -> Page:
        """The page."""
        return self._pages[PAGE]

    def file(self, name: str) -> Page:
        """A file that it loads. Raises: NotFound."""
        found = self._pages.get(name)
        if found is None or name == PAGE:
            raise NotFound("The dashboard has no such file.")
        return found


@cache
def dashboard_files() -> DashboardFiles:
    """Read when it is opened for the first time."""
    return DashboardFiles()
