"""A MkDocs hook: on an API page, `{{ exports latentia.factors }}` stands for every name the module exports.

Each class and function is documented where it is defined; the page of `latentia` itself holds only
those names that no other API page has.
"""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType
from typing import Any

from mkdocs.structure.files import Files

EXPORTS = re.compile(r"^\{\{ exports ([\w.]+) \}\}$", re.MULTILINE)


def exports(module: ModuleType) -> list[str]:
    """The full names of the classes and functions that `module` exports, in its order."""
    names = getattr(module, "__all__", None) or [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    ]
    things = [getattr(module, name) for name in names]
    found = [thing for thing in things if inspect.isclass(thing) or inspect.isfunction(thing)]
    return [f"{thing.__module__}.{thing.__qualname__}" for thing in found]


def on_files(files: Files, config: Any) -> Files:
    """Find out which module each API page documents."""
    config.extra["documented"] = [
        name
        for page in files.documentation_pages()
        if page.src_uri.startswith("api/")
        for name in EXPORTS.findall(page.content_string)
    ]
    return files


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Put one mkdocstrings block per exported name in the place of each `{{ exports module }}`."""

    def blocks(match: re.Match[str]) -> str:
        module = importlib.import_module(match[1])
        below = [other for other in config.extra["documented"] if other.startswith(f"{match[1]}.")]
        elsewhere = {name for other in below for name in exports(importlib.import_module(other))}
        return "\n\n".join(f"::: {name}" for name in exports(module) if name not in elsewhere)

    return EXPORTS.sub(blocks, markdown)
