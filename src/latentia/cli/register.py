"""How a command enters the app."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from cyclopts import App


def register(app: App, command: Callable[..., None], name: str, order: int, examples: str) -> None:
    """Add a command: its docstring is the help, paragraphs unwrapped, and the examples stand below its
    options.
    """
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(command, name=name, help=text, help_epilogue=examples + "\n", sort_key=order)
