"""Files that are either wholly there or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    A temporary file in the same folder, fsync, rename, fsync of the folder. Raises OSError when the disk is
    full, and then leaves what was there before.
    """
    atomic_write_all(path.parent, {path.name: content})


def atomic_write_all(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write several files of a folder, each atomically: none is renamed before all are on the disk."""
    staged: dict[Path, Path] = {}
    try:
        for name, content in contents.items():
            part = folder / f".{name}.part"
            staged[part] = folder / name
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for part, path in staged.items():
            part.replace(path)
    except BaseException:
        for part in staged:
            part.unlink(missing_ok=True)
        raise
    fsync_folder(folder)
