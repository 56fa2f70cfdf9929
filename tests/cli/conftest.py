"""The command line in process, and one small run that many tests look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from latentia.cli import main


def tiny(**options: object) -> list[str]:
    """Options for a fit of a blink: `tiny(steps=60)`."""
    options = {"hidden": 16, "latent": 2, "steps": 20, "valid_every": 10, **options}
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


TINY = tiny()


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line on stderr, where errors are told."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in a fresh folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in argv])
        streams = capsys.readouterr()
        return Result(code, streams.out, streams.err)

    return run


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["fit", "digits", *TINY, "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="session")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table with a number, a category, a count and holes."""
    root = tmp_path_factory.mktemp("tables")
    lines = ["size,town,rooms"]
    towns = ["Aarau", "Bern", "Chur"]
    for i in range(100):
        size = "?" if i % 9 == 0 else f"{80 + 1.7 * ((i * 37) % 50):.1f}"
        lines.append(f"{size},{towns[i % 3]},{i % 5}")
    (root / "houses.csv").write_text("\n".join(lines) + "\n")
    folder = root / "run"
    assert main(["fit", str(root / "houses.csv"), *TINY, "--out", str(folder), "--quiet"]) == 0
    return folder
