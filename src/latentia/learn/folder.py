"""The run folder: config.toml, metrics.jsonl, checkpoints/, model/, plots/, report.html."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._files import atomic_write
from ..errors import UsageError

OWN = ("config.toml", "metrics.jsonl", "checkpoints", "model", "plots", "report.html")


def check_run(out: str | Path | None, *, resume: bool, overwrite: bool) -> None:
    """Raise UsageError where the run folder does not suit what was asked; touches nothing."""
    if out is None:
        if resume:
            raise UsageError("resume needs the run folder: pass out=")
        return
    folder = Path(out)
    if resume and overwrite:
        raise UsageError("say resume or overwrite, not both")
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is no folder, and a run needs one")
    if not (resume or overwrite) and any((folder / name).exists() for name in OWN):
        raise UsageError(f"{folder} holds a run already: resume it, overwrite it, or choose another folder")
    if resume and not folder.exists():
        raise UsageError(f"{folder} does not exist: there is no run to resume")


def open_run(folder: Path, *, overwrite: bool, upto: int | None) -> Path:
    """Make the run folder ready: emptied of an old run, or with its metrics cut after step `upto`."""
    for path in [folder / name for name in OWN] if overwrite else []:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    if upto is not None:
        read_metrics(folder, upto)
    return folder


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.toml; entries that are None are left out."""
    import tomli_w

    atomic_write(folder / "config.toml", tomli_w.dumps(_without_none(config)).encode())


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_none(v) for k, v in value.items() if v is not None}
    return value


def append_metrics(folder: Path, records: list[dict[str, Any]]) -> None:
    """Add one line per record to metrics.jsonl."""
    if records:
        with (folder / "metrics.jsonl").open("a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))


def read_metrics(folder: Path, upto: int | None = None) -> list[dict[str, Any]]:
    """The records of metrics.jsonl.

    upto: those after that step are cut from the file, since they will be told again.
    """
    path = folder / "metrics.jsonl"
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:  # a line cut short when the process was killed
            continue
    if upto is not None:
        records = [record for record in records if record["step"] <= upto]
        atomic_write(path, "".join(json.dumps(record) + "\n" for record in records).encode())
    return records
