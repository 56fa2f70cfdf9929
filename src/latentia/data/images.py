"""Files of images: IDX (the format of MNIST) and folders of PNG or JPEG."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .._words import counted, shortened
from ..errors import DataError
from .raw import Cells, Raw, RawColumn, text_array

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
IDX_FILES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}
PICTURES = (".png", ".jpg", ".jpeg")


def read_idx(path: Path) -> Cells:
    """The array in an IDX file, gzip-compressed or not.

    The format: two zero bytes, a byte for the type, a byte for the number of dimensions, each dimension as a
    big-endian 32-bit integer, then the values in C order (LeCun, Cortes, Burges, "The MNIST database").
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES or content[3] == 0:
        raise DataError(
            f"{path} is not an IDX file: its first four bytes are {content[:4].hex(' ') or 'absent'}"
        )
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").tolist() if len(content) >= start else []
    dtype = np.dtype(IDX_TYPES[content[2]])
    expected = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(shape) < content[3] or len(content) != expected:
        raise DataError(
            f"{path} is cut short or damaged: {len(content):,} bytes where its header says {expected:,}"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def find_idx(folder: Path) -> dict[tuple[str, str], Path | None]:
    """Where each of the four files is, None where it is not; "train-images.idx3-ubyte" is accepted as
    well.
    """
    found: dict[tuple[str, str], Path | None] = {}
    for role, name in IDX_FILES.items():
        spellings = (name, name.replace("-idx", ".idx"))
        candidates = [folder / f"{spelling}{ending}" for spelling in spellings for ending in ("", ".gz")]
        found[role] = next((path for path in candidates if path.is_file()), None)
    return found


def read_idx_folder(folder: Path) -> dict[str, Raw]:
    """The train and test splits in a folder of the four IDX files; DataError names those that are absent."""
    found = find_idx(folder)
    absent = [IDX_FILES[role] for role, path in found.items() if path is None]
    if absent:
        raise DataError(f"{folder} lacks {', '.join(absent)} (each may end in .gz)")
    arrays = {role: read_idx(path) for role, path in found.items() if path is not None}
    return {
        split: Raw(
            {"x": arrays[split, "images"]},
            f"{folder.name} ({split})",
            RawColumn("label", arrays[split, "labels"].astype(np.float64)),
        )
        for split in ("train", "test")
    }


def read_picture_folder(folder: Path) -> tuple[Raw, list[str]]:
    """The PNG and JPEG files of a folder, in the order of their names, as uint8 [N, H, W] (all grey) or [N,
    3, H, W].

    Pictures in sub-folders, one level down, are labelled with the sub-folder's name. Raises DataError when
    there are none, when sizes differ, when a picture has 16 bits, and when one cannot be read.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise DataError('reading pictures needs pillow: pip install "latentia[image]"') from error
    paths = _pictures(folder)
    labels = None
    if not paths:
        paths = [path for child in sorted(folder.iterdir()) if child.is_dir() for path in _pictures(child)]
        labels = RawColumn("label", text_array(path.parent.name for path in paths))
    if not paths:
        raise DataError(f"{folder} holds no PNG or JPEG files")
    pictures = [_picture(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape[:2] != pictures[0].shape[:2]:
            raise DataError(
                f"the pictures in {folder} have different sizes: {paths[0].name} is {_size(pictures[0])}, "
                f"{path.name} is {_size(picture)} (width x height); make them equal"
            )
    notes = []
    colours = sum(picture.ndim == 3 for picture in pictures)
    if 0 < colours < len(pictures):
        notes.append(
            f"{counted(len(pictures) - colours, 'grey picture')} among coloured ones: all are read as RGB."
        )
    if colours:
        pixels = np.stack([_coloured(picture) for picture in pictures]).transpose(0, 3, 1, 2)
    else:
        pixels = np.stack(pictures)
    others = [path.name for path in sorted(folder.iterdir()) if path.is_file() and path not in set(paths)]
    if others:
        notes.append(f"Left out of {folder.name}, not PNG or JPEG: {shortened(others, 5)}.")
    return Raw({"x": pixels}, folder.name, labels), notes


def _pictures(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.is_file())


def _picture(path: Path) -> Cells:
    """uint8 [H, W] of a grey picture, [H, W, 3] of a coloured one; transparency is dropped."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):
                raise DataError(f"{path} has more than 8 bits a pixel; save it with 8")
            grey = picture.mode in ("1", "L", "LA")
            return np.asarray(picture.convert("L" if grey else "RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a picture: {error}") from error


def _coloured(picture: Cells) -> Cells:
    return picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)


def _size(picture: Cells) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
