"""A griffe extension: the docstrings' aligned lists of arguments, as Markdown lists.

A line `samples   how many draws of z` becomes the item "- `samples`: how many draws of z".
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"^(\[?[\w.*]+(?:, [\w.*]+)*\]?|`[^`]+`) {2,}(\S.*)$")


def as_markdown(text: str) -> str:
    """The docstring with each `name   meaning` entry (its continuation lines are indented) as a list item."""
    lines: list[str] = []
    in_entry = False
    for line in text.split("\n"):
        entry = ENTRY.match(line)
        if entry:
            if not in_entry and lines and lines[-1]:
                lines.append("")
            lines.append(f"- `{entry[1].strip('`')}`: {entry[2]}")
        elif in_entry and line.startswith("  "):
            lines.append(f"    {line.strip()}")
        else:
            if in_entry and line:
                lines.append("")
            lines.append(line)
        in_entry = bool(entry) or (in_entry and line.startswith("  "))
    return "\n".join(lines)


class ArgumentLists(griffe.Extension):
    """Rewrites every docstring that griffe loads."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
