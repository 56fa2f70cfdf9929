"""What the model generates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._images import limits_of, mosaic, show
from ._values import Floats, Limits, data_values, scattered, some_rows, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..model import Model

MOST = 4  # columns of a table in the pair plot


class SamplesDisplay(Display):
    """A grid of generated images; or generated rows of a table over the data's, by pairs of columns.

    samples  `[N, C, H, W]` or `[N, D]` in the data's units
    data     rows of the data to compare a table's samples with, `[M, D]`
    mean     whether the samples are means of p(x | z) at drawn z, and not draws of x
    columns  names of a table's columns
    limits   intensities of black and white; the smallest and the largest by default
    """

    title = "Samples"

    def __init__(
        self,
        samples: ArrayLike,
        data: ArrayLike | None = None,
        *,
        mean: bool = False,
        columns: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.samples: Floats = np.asarray(samples, dtype=np.float64)
        if self.samples.ndim not in (2, 4) or len(self.samples) == 0:
            raise ValueError(f"samples must be [N, C, H, W] or [N, D], got {self.samples.shape}")
        self.data: Floats | None = None if data is None else np.asarray(data, dtype=np.float64)
        self.mean = mean
        self.columns = tuple(columns) or tuple(f"x{i}" for i in range(self.samples.shape[1]))
        self.limits = limits_of(self.samples) if limits is None else limits

    @classmethod
    def from_model(
        cls,
        model: Model,
        x: Any = None,
        n: int | None = None,
        *,
        mean: bool | None = None,
        seed: int = 0,
    ) -> SamplesDisplay:
        """n samples of p: for images the mean of p(x | z) at each drawn z; for tables draws, beside x's rows.

        Raises DoesNotApply for a p with inputs, which has nothing to draw them from.
        """
        if model.p.inputs:
            raise DoesNotApply(f"{model.p.equation()} has inputs without a distribution, so no samples")
        view = view_of(model)
        images = view.image is not None
        mean = images if mean is None else mean
        rows = None if x is None else some_rows(model, x, 500)
        data = None if rows is None else data_values(model, rows, view)
        n = n or (64 if images else 500 if data is None else len(data))
        limits = view.limits if view.limits is not None or data is None else limits_of(data)
        samples = view.array(model.sample(n, seed=seed, mean=mean))
        return cls(samples, None if images else data, mean=mean, columns=view.columns, limits=limits)

    @property
    def images(self) -> bool:
        return self.samples.ndim == 4

    @property
    def size(self) -> tuple[float, float]:
        if self.images:
            columns = self._columns()
            height, width = self.samples.shape[2:]
            return 5.0, 5.0 * -(-len(self.samples) // columns) * height / (columns * width) + 0.35
        side = 1.9 * min(MOST, self.samples.shape[1])
        return max(3.6, side) + 0.9, max(3.0, side) + 0.6

    @property
    def caption(self) -> str:
        count = len(self.samples)
        if self.images and self.mean:
            return (
                f"{count} samples: the decoder's mean at latent values drawn from the prior. A draw of x "
                "would add the noise of the likelihood."
            )
        if self.images:
            return f"{count} draws of x from p."
        shown, total = min(MOST, self.samples.shape[1]), self.samples.shape[1]
        which = f" The first {shown} of {total} columns." if shown < total else ""
        against = f" over {len(self.data):,} rows of the data" if self.data is not None else ""
        what = "decoder means at draws from the prior" if self.mean else "draws of x from p"
        units = "each column in its own units; on the diagonal, histograms as densities"
        if any(self._is_whole(i) for i in range(shown)):
            units += "; whole numbers are moved a little, so as not to hide each other"
        return f"{count:,} {what}{against}, {units}.{which}"

    def _is_whole(self, i: int) -> bool:
        column = self.samples[:, i]
        return scattered(column) is not column

    def _columns(self) -> int:
        return math.ceil(math.sqrt(len(self.samples)))

    def draw(self, ax: Axes) -> None:
        if self.images:
            show(ax, mosaic(self.samples, self._columns(), self.limits))
            canvas.title(ax, "Samples (decoder means)" if self.mean else "Samples")
        else:
            self._draw_pairs(ax)

    def _draw_pairs(self, ax: Axes) -> None:
        shown = min(MOST, self.samples.shape[1])
        heading = "Samples and data" if self.data is not None else "Samples"
        parts = np.array(canvas.panels(ax, shown * shown, shown, heading)).reshape(shown, shown)
        groups = [("samples", self.samples, canvas.VERMILLION)]
        if self.data is not None:
            groups.insert(0, ("data", self.data, canvas.BLUE))
        ranges = [_range([values[:, i] for _, values, _ in groups]) for i in range(shown)]
        for i in range(shown):
            for j in range(shown):
                part: Axes = parts[i, j]
                if j > i:
                    part.set_axis_off()
                    continue
                for name, values, colour in groups:
                    if i == j:
                        column = values[:, i]
                        part.hist(
                            column[np.isfinite(column)],
                            bins=list(np.linspace(*ranges[i], 25)),
                            density=True,
                            histtype="step",
                            color=colour,
                            lw=1.3,
                            label=name,
                        )
                    else:
                        x, y = scattered(values[:, j], j), scattered(values[:, i], i)
                        part.scatter(x, y, s=6, color=colour, alpha=0.45, linewidths=0)
                part.set_xlim(*ranges[j])
                if i != j:
                    part.set_ylim(*ranges[i])
                self._label(part, i, j, shown)
        handles, labels = parts[0, 0].get_legend_handles_labels()
        corner = parts[0, shown - 1]
        corner.legend(handles, labels, frameon=False, fontsize=canvas.NORMAL, loc="upper right")

    def _label(self, part: Axes, i: int, j: int, shown: int) -> None:
        y = "density" if i == j else self.columns[i]
        canvas.style(part, self.columns[j] if i == shown - 1 else "", y if j == 0 else "", maths=False)
        part.locator_params(nbins=4)
        part.tick_params(labelbottom=i == shown - 1, labelleft=j == 0 and i != 0)
        if i == j:
            part.set_yticks([])


def _range(columns: list[Floats]) -> Limits:
    """The range of the first group, the data, and most of the others."""
    cut = [np.nanquantile(column, (0.005, 0.995)) for column in columns]
    low, high = min(float(q[0]) for q in cut), max(float(q[1]) for q in cut)
    margin = 0.08 * (high - low or 1.0)
    if any(scattered(column) is not column for column in columns):
        margin = max(margin, 0.25)
    return low - margin, high + margin
