"""MkDocs hooks: pages written for any Markdown reader, made fit for the built site.

The pages link to files of the repository (sources, examples, tests) by relative path. Each such file becomes
a page of the site, under source/, and the links are turned to it. In tables, `\\|` in code becomes a bar.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files

LINK = re.compile(r"(\]\(|^\[[^\]]+\]: )(\.\.?/[^)#\s]+)", re.MULTILINE)
CODE = re.compile(r"`[^`\n]+`")


def repository_path(page: str, link: str) -> str | None:
    """The path, from the repository's root, that `link` on `page` means; None when it lies in docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith("docs/") or not os.path.isfile(path) else path


def on_files(files: Files, config: Any) -> Files:
    """Add a page for every file of the repository that a page links to."""
    linked = set()
    for page in files.documentation_pages():
        for _, link in LINK.findall(page.content_string):
            linked.add(repository_path(page.src_uri, link))
    for path in sorted(filter(None, linked)):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        language = {".py": "python", ".toml": "toml"}.get(os.path.splitext(path)[1], "text")
        content = f"# {path}\n\n`````{language}\n{text}\n`````\n"
        files.append(File.generated(config, f"source/{path}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links out of docs/ to the pages made for them, and `\\|` in a table's code to a bar."""
    if page.file.src_uri.startswith("source/"):
        return markdown
    here = posixpath.dirname(page.file.src_uri)

    def turned(match: re.Match[str]) -> str:
        path = repository_path(page.file.src_uri, match[2])
        return match[0] if path is None else match[1] + posixpath.relpath(f"source/{path}.md", here or ".")

    def bars(line: str) -> str:
        return CODE.sub(lambda code: code[0].replace(r"\|", "|"), line) if line.startswith("|") else line

    return "\n".join(bars(line) for line in LINK.sub(turned, markdown).split("\n"))
