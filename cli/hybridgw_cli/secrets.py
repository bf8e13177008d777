"""What a person is asked: for words that nobody else may see, never on the command line, and whether to go on."""

from __future__ import annotations

import sys
from typing import Final

import click

from hybridgw_protocol.errors import NeedsPerson

from .context import App

MOST_CHARACTERS: Final = 1_000
_ASKED: Final = "The 24 recovery words, in order (they are not shown)"


def read_words(app: App, asked: str = _ASKED) -> str:
    """Recovery words as typed; whether they are any is the daemon's to judge. Raises: NeedsPerson: there are none."""
    if sys.stdin.isatty():
        typed = str(click.prompt(asked, hide_input=True, err=True))
    else:
        app.out.say("Reading the recovery words from stdin ...")
        typed = sys.stdin.read(MOST_CHARACTERS + 1)
    if not typed.strip():
        raise NeedsPerson("The 24 recovery words are needed: type them when asked, or give them on stdin.")
    return " ".join(typed.split())


def confirmed(app: App, question: str) -> bool:
    """Does the person say yes, on the terminal or on stdin. Raises: NeedsPerson: nobody is there to be asked."""
    try:
        return click.confirm(question, default=False, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise  # Ctrl-C
        app.out.say("")  # the question stands in an open line
        raise NeedsPerson("Nobody is there to answer that. With --yes it is not asked, and done.") from None
