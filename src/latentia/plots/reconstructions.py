"""Inputs beside their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..exact import Exact, is_discrete
from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._images import enlargement, limits_of, mosaic, show
from ._values import Floats, Limits, data_values, latent_names, scattered, some_rows, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..model import Model

PER_ROW = 12
HEADING = "Inputs and their reconstructions (means)"
POINT = "the decoder's mean at the encoder's mean"
MOST = 12  # columns of a table that are shown


class ReconstructionDisplay(Display):
    """Images above their reconstructions, or each column of a table against its reconstruction.

    inputs, reconstructions  `[N, C, H, W]` or `[N, D]` in the data's units; NaN where missing
    columns                  names of a table's columns
    limits                   intensities of black and white; the smallest and the largest by default
    point                    what a reconstruction is, in words

    Raises ValueError for shapes that differ, or that are neither images nor tables.
    """

    title = "Reconstructions"

    def __init__(
        self,
        inputs: ArrayLike,
        reconstructions: ArrayLike,
        *,
        columns: Sequence[str] = (),
        limits: Limits | None = None,
        point: str = POINT,
    ) -> None:
        self.point = point
        self.inputs: Floats = np.asarray(inputs, dtype=np.float64)
        self.reconstructions: Floats = np.asarray(reconstructions, dtype=np.float64)
        if self.inputs.shape != self.reconstructions.shape or self.inputs.ndim not in (2, 4):
            shapes = f"{self.inputs.shape} and {self.reconstructions.shape}"
            raise ValueError(f"inputs and reconstructions must both be [N, C, H, W] or [N, D], got {shapes}")
        self.columns = tuple(columns) or tuple(f"x{i}" for i in range(self.inputs.shape[1]))
        self.limits = limits_of(self.inputs) if limits is None else limits

    @classmethod
    def from_model(cls, model: Model, x: Any, limit: int | None = None) -> ReconstructionDisplay:
        """decode(encode(x)) of at most `limit` rows (default: 24 images, or 1,000 rows of a table).

        Raises DoesNotApply for a model without latent variables.
        """
        if not latent_names(model):
            raise DoesNotApply(f"{model.p.equation()} has nothing latent, and so no reconstructions")
        view = view_of(model)
        rows = some_rows(model, x, limit or (24 if view.image is not None else 1000))
        inputs, outputs = data_values(model, rows, view), view.array(model.reconstruct(rows))
        return cls(inputs, outputs, columns=view.columns, limits=view.limits, point=_point(model))

    @property
    def images(self) -> bool:
        return self.inputs.ndim == 4

    @property
    def size(self) -> tuple[float, float]:
        if self.images:
            columns, bands = self._grid()
            height, width = self.inputs.shape[2:]
            return 8.0, min(9.0, 0.5 + bands * (7.0 / columns * 2 * height / width + 0.25))
        shown = min(MOST, self.inputs.shape[1])
        columns = min(4, shown)
        return max(4.4, 2.3 * columns + 0.3), 2.4 * -(-shown // columns) + 0.6

    @property
    def caption(self) -> str:
        count = len(self.inputs)
        if self.images:
            return (
                f"{count:,} inputs (above), their reconstructions (below), decode(encode(x)): {self.point}. "
                "It is a mean, not a draw, and so smoother than the data."
            )
        shown, total = min(MOST, self.inputs.shape[1]), self.inputs.shape[1]
        whole = any(scattered(column) is not column for column in self.inputs.T[:shown])
        moved = " Whole numbers are moved a little, so as not to hide each other." if whole else ""
        which = f"the first {shown} of {total} columns" if shown < total else "each column"
        return (
            f"{count:,} rows: {which} in its own units, the input against decode(encode(x)), "
            f"{self.point}. On the line both are equal; r is their correlation.{moved}"
        )

    def draw(self, ax: Axes) -> None:
        if self.images:
            self._draw_images(ax)
        else:
            self._draw_columns(ax)

    def _grid(self) -> tuple[int, int]:
        columns = min(PER_ROW, len(self.inputs))
        return columns, -(-len(self.inputs) // columns)

    def _draw_images(self, ax: Axes) -> None:
        columns, bands = self._grid()
        middle = (self.inputs.shape[2] * enlargement(*self.inputs.shape[2:]) - 1) / 2
        strips, places, top = [], [], 0
        for band in range(bands):
            part = slice(band * columns, (band + 1) * columns)
            for name, images in (("input", self.inputs), ("mean", self.reconstructions)):
                strip = mosaic(images[part], columns, self.limits)
                space = np.zeros((8 if name == "mean" else 2, strip.shape[1], 4))
                places.append((top + middle, name))
                strips += [strip, space]
                top += len(strip) + len(space)
        show(ax, np.concatenate(strips[:-1]))
        ax.set_yticks([place for place, _ in places], [name for _, name in places])
        ax.tick_params(labelsize=canvas.SMALL, colors=canvas.GREY, length=0)
        canvas.title(ax, HEADING)

    def _draw_columns(self, ax: Axes) -> None:
        shown = min(MOST, self.inputs.shape[1])
        for i, part in enumerate(canvas.panels(ax, shown, min(4, shown), HEADING)):
            x, y = self.inputs[:, i], self.reconstructions[:, i]
            beside = scattered(x)
            part.scatter(beside, y, s=8, color=canvas.BLUE, alpha=0.5, linewidths=0, rasterized=len(x) > 500)
            part.axline((0, 0), slope=1, color=canvas.GREY, lw=0.8, zorder=0)
            seen = np.isfinite(x) & np.isfinite(y)
            low, high = limits_of(x, y) if not seen.any() else (float(x[seen].min()), float(x[seen].max()))
            margin = max(0.06 * (high - low or 1.0), 0.2 if beside is not x else 0.0)
            part.set_xlim(low - margin, high + margin)
            part.set_ylim(low - margin, high + margin)
            part.set_aspect("equal")
            part.locator_params(nbins=4)
            canvas.style(part, self.columns[i], "reconstruction" if i % 4 == 0 else "", maths=False)
            correlation = _correlation(x, y)
            part.text(0.05, 0.95, correlation, transform=part.transAxes, va="top", fontsize=canvas.SMALL)


def _point(model: Model) -> str:
    """What a reconstruction is, in words."""
    if not isinstance(model.q, Exact):
        return POINT
    parts = [
        f"the {'most probable' if is_discrete(model.q[n]) else 'posterior mean of'} {n}" for n in model.q
    ]
    return f"the mean of p(x | {', '.join(model.q)}) at {' and '.join(parts)}"


def _correlation(x: Floats, y: Floats) -> str:
    seen = np.isfinite(x) & np.isfinite(y)
    x, y = x[seen], y[seen]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return ""
    return f"r = {np.corrcoef(x, y)[0, 1]:.2f}"
