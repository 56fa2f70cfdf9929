"""Fields: how the values of one variable are read, stored, shown to a model and given back.

A field `encode`s raw rows into a compact tensor, turns that into model units (`values`, float, zero-filled in
the holes), `decode`s model units into the data's, and knows the log-Jacobian between the two. `Array` leaves
numbers as they are and `Image` scales or binarises intensities; `Table` is in table.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .raw import Cells

Binarise = Literal["threshold", "dynamic"]
KINDS = ("number", "binary", "category")
BEYOND = 4.0  # ranges of an image, by which draws from a Normal likelihood may leave it


@dataclass(frozen=True)
class Array:
    """Numbers left as they are: values [N, *event], float of `dtype`; for kind "category" int64 codes below
    `classes`.

    `dtype` is "float32" or "float64", as the array had when the schema was made; integers become float32 in a
    batch and are stored as they came when they fit a byte.
    """

    event: tuple[int, ...]
    kind: str = "number"
    classes: int | None = None
    missing: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_event(self.event)
        if self.kind not in KINDS:
            raise ValueError(f"an array's kind is one of {', '.join(KINDS)}, got {self.kind!r}")
        if (self.kind == "category") != (self.classes is not None):
            raise ValueError("classes= belongs to an array of categories, and only there")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"an array's dtype is 'float32' or 'float64', got {self.dtype!r}")

    @property
    def likelihood(self) -> str:
        return {"number": "normal", "binary": "bernoulli", "category": "columns"}[self.kind]

    @property
    def units(self) -> str:
        return "the array's own units"

    @property
    def measure(self) -> str:
        """What a density over this field is a density of: equal for fields whose densities may be
        compared.
        """
        return f"array {list(self.event)} {self.kind}"

    def encode(self, raw: Cells, where: str) -> tuple[Tensor, Tensor | None]:
        """The tensor to store, zero-filled, and the mask [N, *event] (True = observed) if the schema has
        holes.
        """
        array, observed = with_holes(arranged(raw, self.event, where), self.missing, where)
        if self.kind == "binary":
            refuse(
                array,
                (array != 0) & (array != 1),
                where,
                "is neither 0 nor 1, as all values were that it was fitted to",
            )
            return tensor_of(array.astype(np.uint8)), observed
        if self.kind == "category":
            bad = (array < 0) | (array >= (self.classes or 0)) | (array != np.round(array))
            refuse(array, bad, where, f"is not one of the codes 0 to {(self.classes or 0) - 1}")
            return tensor_of(array.astype(np.int64)), observed
        if array.dtype == np.uint8:
            return tensor_of(array), observed
        stored = tensor_of(array.astype(self.dtype, copy=False))
        if array.dtype != self.dtype and not all_finite(stored.numpy()):
            refuse(array, ~np.isfinite(stored.numpy()), where, f"is too large for {self.dtype}")
        return stored, observed

    def values(self, stored: Tensor, rows: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Model units: the stored values as float (or codes)."""
        return stored if self.kind == "category" else stored.to(getattr(torch, self.dtype))

    def decode(self, value: Tensor) -> Tensor:
        return value

    def log_jacobian(self, value: Tensor, observed: Tensor | None) -> Tensor:
        """0 for each row, [B]: model units are the data's."""
        return torch.zeros(len(value), dtype=torch.float64, device=value.device)

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": "array",
            "event": list(self.event),
            "kind": self.kind,
            "classes": self.classes,
            "missing": self.missing,
            "dtype": self.dtype,
        }


@dataclass(frozen=True)
class Image:
    """Intensities from 0 to `levels`, event (C, H, W) or flat (D,): stored as they come, shown to a model
    divided by `levels`.

    `kind` is "binary" when every intensity is 0 or `levels`. `binarise="threshold"` shows 1[x > levels / 2];
    `binarise="dynamic"` shows a fresh Bernoulli(x / levels) at each presentation (Burda et al. 2016, section
    5). Binarised data are other data: they decode to 0 and 1, and their density carries no Jacobian.
    """

    event: tuple[int, ...]
    levels: float = 255.0
    binarise: Binarise | None = None
    kind: str = "number"
    missing: bool = False

    def __post_init__(self) -> None:
        check_event(self.event)
        if len(self.event) not in (1, 3):
            raise ValueError(f"an image's event is (channels, height, width) or (pixels,), got {self.event}")
        if not (math.isfinite(self.levels) and self.levels > 0):
            raise ValueError(f"an image's levels must be positive, got {self.levels}")
        if self.binarise not in (None, "threshold", "dynamic"):
            raise ValueError(f"binarise is None, 'threshold' or 'dynamic', got {self.binarise!r}")
        if self.kind not in ("number", "binary"):
            raise ValueError(f"an image's kind is 'number' or 'binary', got {self.kind!r}")

    @property
    def binary(self) -> bool:
        """Whether the model sees nothing but 0 and 1."""
        return self.kind == "binary" or self.binarise is not None

    @property
    def likelihood(self) -> str:
        return "bernoulli" if self.binary else "normal"

    @property
    def units(self) -> str:
        if self.binarise is not None:
            return "binarised pixels"
        return "binary pixels" if self.kind == "binary" else f"pixels 0..{self.levels:g}"

    @property
    def measure(self) -> str:
        how = f" ({self.binarise})" if self.binarise is not None else ""
        return f"image {list(self.event)} {self.units}{how}"

    def encode(self, raw: Cells, where: str) -> tuple[Tensor, Tensor | None]:
        """The intensities to store, uint8 if they are whole, and the mask.

        Where the schema binarises, an array with nothing above 1 is taken as already binarised (what `decode`
        returns). Grey values that are not whole, such as what a model with a Normal likelihood draws, may
        leave the range of the images by four times its width.
        """
        array, observed = with_holes(arranged(raw, self.event, where), self.missing, where)
        if self.binarise is not None and self.levels > 1 and array.max() <= 1:
            array = array * self.levels
        whole = array.dtype == np.uint8 or bool((array == np.round(array)).all())
        room = 0 if whole or self.binary else BEYOND * self.levels
        refuse(
            array,
            (array < -room) | (array > self.levels + room),
            where,
            f"is outside the image's range 0..{self.levels:g}",
        )
        if self.kind == "binary":
            bad = (array != 0) & (array != self.levels)
            refuse(
                array,
                bad,
                where,
                f"is neither 0 nor {self.levels:g}, as all pixels were that it was fitted to",
            )
        if self.binarise == "threshold":
            return tensor_of((array > self.levels / 2).astype(np.uint8)), observed
        whole = whole and self.levels <= 255
        return tensor_of(array.astype(np.uint8 if whole else np.float32, copy=False)), observed

    def values(self, stored: Tensor, rows: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Model units, float32 [B, *event] in [0, 1].

        rows: [B], the original row numbers, needed where there is no generator.

        Dynamic binarisation draws from `generator`; without one each pixel's uniform is a fixed function of
        its row number and place, so that an evaluation sees the same data whatever its batches.
        """
        if self.binarise == "threshold":
            return stored.to(torch.float32)
        if self.binarise == "dynamic":
            if generator is not None:
                uniform = torch.rand(stored.shape, generator=generator, device=stored.device)
            elif rows is not None:
                uniform = fixed_uniform(rows, math.prod(self.event)).reshape(stored.shape)
            else:
                raise ValueError("dynamic binarisation needs a generator, or the rows' numbers")
            return (uniform * self.levels < stored).to(torch.float32)
        if stored.dtype == torch.float32:
            return stored if self.levels == 1 else stored / self.levels
        return stored.to(torch.float32).div_(self.levels)

    def decode(self, value: Tensor) -> Tensor:
        """Intensities 0..levels (not clamped), or 0 and 1 as they are where the schema binarises."""
        return value if self.binarise is not None or self.levels == 1 else value * self.levels

    def log_jacobian(self, value: Tensor, observed: Tensor | None) -> Tensor:
        """log|d model / d data| = -log(levels) for each observed pixel, [B]; 0 for binary pixels, which have
        no density.
        """
        each = 0.0 if self.binary else -math.log(self.levels)
        return summed(torch.full(self.event, each, dtype=torch.float64, device=value.device), value, observed)

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": "image",
            "event": list(self.event),
            "levels": self.levels,
            "binarise": self.binarise,
            "kind": self.kind,
            "missing": self.missing,
        }


def array_from_dict(config: Mapping[str, Any]) -> Array:
    return Array(
        tuple(config["event"]), config["kind"], config["classes"], bool(config["missing"]), config["dtype"]
    )


def image_from_dict(config: Mapping[str, Any]) -> Image:
    return Image(
        tuple(config["event"]),
        float(config["levels"]),
        config["binarise"],
        config["kind"],
        bool(config["missing"]),
    )


def check_event(event: tuple[int, ...]) -> None:
    if not all(isinstance(size, int) and size > 0 for size in event):
        raise ValueError(f"an event shape is made of positive whole numbers, got {event}")


def arranged(raw: Cells, event: tuple[int, ...], where: str) -> Cells:
    """The array as [N, *event]: given so, flattened [N, D], as [N] for one number, or as images [N, H, W] or
    [N, H, W, C].
    """
    if raw.dtype.kind not in "fiub":
        raise DataError(f"{where} holds {raw.dtype} values, where numbers were expected")
    shape = raw.shape[1:]
    size = math.prod(event)
    channels_last = (*event[1:], event[0]) if len(event) == 3 else None
    if shape == event:
        return raw
    if channels_last is not None and shape == channels_last:
        return np.moveaxis(raw, -1, 1)
    if shape in ((size,), event[1:] if event[:1] == (1,) else event):
        return raw.reshape(len(raw), *event)
    if raw.shape in (event, (size,)):
        raise DataError(
            f"{where} has the shape of a single row, {list(raw.shape)}; add a first dimension: x[None]"
        )
    if raw.ndim == 2:
        raise DataError(f"expected {size} columns, got {shape[0]} in {where}")
    raise DataError(f"expected shape [N, {', '.join(map(str, event))}], got {list(raw.shape)} in {where}")


def with_holes(array: Cells, missing: bool, where: str) -> tuple[Cells, Tensor | None]:
    """The array with zeros in place of NaN, and the mask; DataError for infinity, and for holes the schema
    does not have.
    """
    if array.dtype.kind != "f" or all_finite(array):
        return array, torch.ones(array.shape, dtype=torch.bool) if missing else None
    refuse(array, np.isinf(array), where, "is not finite")
    holes = np.isnan(array)
    if not missing:
        refuse(array, holes, where, "is missing, where the data that were fitted had no holes")
        return array, None
    return np.where(holes, 0, array).astype(array.dtype), tensor_of(~holes)


def tensor_of(array: Cells) -> Tensor:
    """The array as a tensor, copied only where torch needs it (a read-only or strided array)."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def all_finite(array: Cells) -> bool:
    """Whether there is neither NaN nor infinity. Either stays in a sum, which is the cheaper look."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def refuse(array: Cells, bad: Cells, where: str, why: str) -> None:
    """DataError naming the row and place of the first bad entry, if there is one."""
    if not bad.any():
        return
    row, *place = (int(index) for index in np.unravel_index(int(np.argmax(bad)), bad.shape))
    column = f", column {place[0]}" if len(place) == 1 else f", place {tuple(place)}" if place else ""
    value = array[(row, *place)]
    raise DataError(f"row {row}{column} of {where} (counting from 0): {value} {why}")


def summed(per_cell: Tensor, value: Tensor, observed: Tensor | None) -> Tensor:
    """The sum over observed cells of a per-cell constant [*event], for each row of `value` [B, *event]:
    float64 [B].

    `observed` is None, one flag a row [B], or one flag a cell [B, *event].
    """
    if observed is None:
        return per_cell.sum().expand(len(value)).clone()
    if observed.ndim == 1 and value.ndim > 1:
        return per_cell.sum() * observed
    return (per_cell * observed).flatten(1).sum(1)


def fixed_uniform(rows: Tensor, size: int) -> Tensor:
    """Uniforms on [0, 1), float32 [B, size], each a fixed function of its row number and place.

    The hash is Wellons' lowbias32 of the counter row * size + place, modulo 2^32, of which the upper 24 bits
    are kept.
    """
    word = (1 << 32) - 1
    counter = (rows[:, None] * size + torch.arange(size, device=rows.device)) & word
    counter = ((counter ^ (counter >> 16)) * 0x7FEB352D) & word
    counter = ((counter ^ (counter >> 15)) * 0x846CA68B) & word
    counter = counter ^ (counter >> 16)
    return (counter >> 8).to(torch.float32) / (1 << 24)
