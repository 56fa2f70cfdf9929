"""What the documentation promises: links resolve, lecture pages have their tables, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LECTURES = sorted(page for page in (ROOT / "docs" / "lectures").glob("*.md") if page.name != "index.md")
COLUMNS = ["Equation or claim", "Ours", "Example", "Picture", "Test"]

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
INLINE = re.compile(r"\]\(([^)\s]+)\)")
DEFINITION = re.compile(r"^\[([^\]]+)\]: (\S+)$", re.MULTILINE)
REFERENCE = re.compile(r"(?<!\])\[([^\]\[]+)\](?![\[(:])")
BAR = re.compile(r"(?<!\\)\|")


def prose(page: Path) -> str:
    """The page without its code."""
    return CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that Markdown readers give to the page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(page: Path) -> list[list[list[str]]]:
    """The rows of each table, as lists of cells; the line under the header is left out."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    rows = [[BAR.split(line)[1:-1] for line in block.strip().split("\n")] for block in blocks]
    return [[[cell.strip() for cell in row] for i, row in enumerate(table) if i != 1] for table in rows]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_resolves(page: Path) -> None:
    text = prose(page)
    targets = [*INLINE.findall(text), *(target for _, target in DEFINITION.findall(text))]
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)} links to {target}, which does not exist"
        if anchor:
            assert anchor in anchors(file), f"{name(page)} links to {target}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_reference_is_defined_and_used(page: Path) -> None:
    text = prose(page)
    defined = {label for label, _ in DEFINITION.findall(text)}
    if defined:
        assert set(REFERENCE.findall(DEFINITION.sub("", text))) == defined


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_cells_of_every_table_match_its_header(page: Path) -> None:
    for header, *rows in tables(page):
        for row in rows:
            assert len(row) == len(header), f"{name(page)}: {row}"


def test_there_is_a_page_for_each_lecture() -> None:
    index = ROOT / "docs" / "lectures" / "index.md"
    assert len(LECTURES) == 5
    assert {page.name for page in LECTURES} <= set(INLINE.findall(prose(index)))


@pytest.mark.parametrize("page", LECTURES, ids=name)
def test_every_lecture_has_its_table_letters_and_corrections(page: Path) -> None:
    rows = [row for header, *rows in tables(page) if header == COLUMNS for row in rows]
    assert len(rows) >= 15
    for claim, ours, *_, test in rows:
        assert claim and ours
        said = "comes later: " in ours or ours.startswith("none: ")
        assert said or REFERENCE.search(ours), f"{name(page)} does not say what does {claim!r}"
        assert test == "–" or REFERENCE.search(test)
    assert {"which-letter-means-what", "put-right"} <= anchors(page)


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text("utf-8")], ids=name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(PYTHON.findall(page.read_text(encoding="utf-8")))
    exec(compile(re.sub(r"(steps|samples)=[\d_]{3,}", r"\1=5", code), name(page), "exec"), {})
