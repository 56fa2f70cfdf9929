"""Named data sets: those that come with scikit-learn, and MNIST and Fashion-MNIST from local files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .images import IDX_FILES, find_idx, read_idx_folder
from .raw import Raw, RawColumn, table_from_array, text_array
from .readers import Source, read

EMBEDDED = {
    "digits": ("handwritten digits, grey 0..16, with labels", "1,797 images 1 x 8 x 8"),
    "iris": ("three species of iris, measured in cm", "150 x 4 numbers"),
    "wine": ("chemical analysis of wines of three growers", "178 x 13 numbers"),
    "breast_cancer": ("cell nuclei, malignant or benign", "569 x 30 numbers"),
    "diabetes": ("ten measurements of diabetes patients, as scikit-learn scales them", "442 x 10 numbers"),
}
LOCAL = {
    "mnist": ("handwritten digits, grey 0..255, with labels", "70,000 images 1 x 28 x 28"),
    "fashion_mnist": ("photographs of clothing, grey 0..255, with labels", "70,000 images 1 x 28 x 28"),
}
NAMES: Mapping[str, tuple[str, str]] = {**EMBEDDED, **LOCAL}


@dataclass(frozen=True)
class DataSet:
    """A line of `latentia data`: what a named set is, where it is looked for, and whether it is there."""

    name: str
    what: str
    shape: str
    places: str
    found: bool


def list_data() -> list[DataSet]:
    """Every named data set; for the local ones, which files are looked for and where."""
    rows = [DataSet(name, what, shape, "embedded", True) for name, (what, shape) in EMBEDDED.items()]
    for name, (what, shape) in LOCAL.items():
        rows.append(DataSet(name, what, shape, _places(name), _find(name) is not None))
    return rows


def read_named(name: str) -> Source:
    """The raw rows of a named data set; DataError says which files are looked for, and where, when they are
    absent.
    """
    if name in EMBEDDED:
        return _embedded(name)
    place = _find(name)
    if place is None:
        raise DataError(f"the files of {name!r} are not here; looked for {_places(name)}")
    if place.is_dir():
        return Source(name, read_idx_folder(place), from_file=True)
    return Source(name, read(place).parts, from_file=True)


def _embedded(name: str) -> Source:
    from sklearn import datasets

    bunch: Any = getattr(datasets, f"load_{name}")()
    if name == "digits":
        raw = Raw(
            {"x": bunch.images.astype(np.uint8)}, name, RawColumn("digit", bunch.target.astype(np.float64))
        )
        return Source(name, {"all": raw}, from_file=True, levels=16.0)
    table = table_from_array(bunch.data, name, [str(feature) for feature in bunch.feature_names])
    if name == "diabetes":
        labels = RawColumn("progression", bunch.target.astype(np.float64))
    else:
        labels = RawColumn("class", text_array(str(bunch.target_names[code]) for code in bunch.target))
    return Source(name, {"all": Raw({"x": table}, name, labels)}, from_file=True, all_numbers=True)


def _candidates(name: str) -> list[Path]:
    root = os.environ.get("LATENTIA_DATA")
    here = Path("data") / name
    return [Path(root) / name, Path(root) / f"{name}.npz", here] if root else [here]


def _find(name: str) -> Path | None:
    """The first place that holds the set, or a part of its files (which the reader then names)."""
    for place in _candidates(name):
        if place.is_file() or (place.is_dir() and any(find_idx(place).values())):
            return place
    return None


def _places(name: str) -> str:
    """Where the set is looked for, as a sentence part."""
    files = ", ".join(IDX_FILES.values())
    folders = f"$LATENTIA_DATA/{name} or ./data/{name}"
    single = f"$LATENTIA_DATA/{name}.npz with x_train, y_train, x_test, y_test"
    return f"{files} (each may end in .gz) in {folders}, or {single}"
