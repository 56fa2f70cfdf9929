"""The latent plane, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._images import enlargement, limits_of, mosaic, show
from ._values import Floats, Limits, codes_of, latent_variable, some_rows, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch.distributions import Distribution

    from ..model import Model

HEADING = "Latent plane, decoded (means)"
MOST = 6  # columns of a table that are shown


class LatentPlaneDisplay(Display):
    """p(x | z) decoded on a grid of a latent plane whose lines are prior quantiles, equally probable apart.

    decoded   `[G, G, C, H, W]` or `[G, G, D]`: the mean of p(x | z) at (first[j], second[i]), index [i, j]
    first, second   the G coordinates along the two axes, ascending
    names     of the two axes, in mathematical notation
    others    how many further latent dimensions there are; they stand at their prior median
    columns   names of a table's columns
    limits    intensities of black and white; the smallest and the largest by default
    """

    title = "Latent plane"

    def __init__(
        self,
        decoded: ArrayLike,
        first: ArrayLike,
        second: ArrayLike,
        *,
        names: tuple[str, str] = ("$z_{0}$", "$z_{1}$"),
        others: int = 0,
        columns: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.decoded: Floats = np.asarray(decoded, dtype=np.float64)
        self.first: Floats = np.asarray(first, dtype=np.float64)
        self.second: Floats = np.asarray(second, dtype=np.float64)
        if self.decoded.shape[:2] != (len(self.second), len(self.first)) or self.decoded.ndim not in (3, 5):
            grid = f"{len(self.second)}, {len(self.first)}"
            raise ValueError(f"decoded must be [{grid}, C, H, W] or [{grid}, D], got {self.decoded.shape}")
        self.names, self.others = names, others
        self.columns = tuple(columns) or tuple(f"x{i}" for i in range(self.decoded.shape[2]))
        self.limits = limits_of(self.decoded) if limits is None else limits

    @classmethod
    def from_model(
        cls,
        model: Model,
        x: Any = None,
        *,
        grid: int | None = None,
        variable: str | None = None,
        dims: tuple[int, int] | None = None,
    ) -> LatentPlaneDisplay:
        """Decode a plane of `variable` at z = F^-1(u), u = (i + 1/2) / grid, F the prior's cumulative.

        x     rows that choose the two most active of more than two dimensions
        grid  points along each axis (default: 15, and 40 for tables)
        dims  the two dimensions, counted from 0; the others stay at their prior median

        Raises DoesNotApply for a latent space without a plane, or without a factorised prior.
        Kingma & Welling (2014), appendix A.
        """
        if [name for name in model.p.inputs if model.q is None or name not in model.q]:
            raise DoesNotApply(
                f"{model.p.equation()} has inputs: a latent plane alone does not say what x is"
            )
        view, name = view_of(model), latent_variable(model, variable)
        if name not in model.p or model.p[name].given or len(model.latent) > 1:
            raise DoesNotApply(f"{model.p.equation()} has no single latent variable with a prior of its own")
        prior = model.p[name].distribution()
        size = model.p[name].event[0] if len(model.p[name].event) == 1 else 0
        if size < 2:
            raise DoesNotApply(f"{name!r} has no plane: its event is {model.p[name].event}")
        if dims is None:
            dims = (0, 1) if size == 2 or x is None else _most_active(model, x, name)
        grid = grid or (15 if view.image is not None else 40)
        u = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
        quantiles = _quantiles(prior, torch.cat([u, u.new_tensor([0.5])]), size)  # [G + 1, M]
        first, second = quantiles[:-1, dims[0]], quantiles[:-1, dims[1]]
        z = quantiles[-1].repeat(grid, grid, 1)
        z[..., dims[0]], z[..., dims[1]] = first, second[:, None]
        decoded = view.array(model.decode(z.reshape(-1, size)))
        return cls(
            decoded.reshape(grid, grid, *decoded.shape[1:]),
            first.numpy(),
            second.numpy(),
            names=(canvas.unit_name(name, dims[0]), canvas.unit_name(name, dims[1])),
            others=size - 2,
            columns=view.columns,
            limits=view.limits,
        )

    @property
    def images(self) -> bool:
        return self.decoded.ndim == 5

    @property
    def size(self) -> tuple[float, float]:
        if self.images:
            rows, columns, _, height, width = self.decoded.shape
            return 6.0, 5.6 * rows * height / (columns * width) + 0.7
        shown = min(MOST, self.decoded.shape[2])
        columns = min(3, shown)
        return 3.1 * columns + 0.4, 2.7 * -(-shown // columns) + 0.7

    @property
    def caption(self) -> str:
        rest = ""
        if self.others:
            others = (
                "latent dimension stands" if self.others == 1 else f"{self.others} latent dimensions stand"
            )
            rest = f" The other {others} at the prior median."
        return (
            "The decoder's mean on a grid of the latent plane. Its lines are quantiles of the prior, "
            f"z = F⁻¹(u) with u evenly spaced, so that every cell has the same prior probability.{rest}"
        )

    def draw(self, ax: Axes) -> None:
        if self.images:
            self._draw_images(ax)
        else:
            self._draw_columns(ax)

    def _draw_images(self, ax: Axes) -> None:
        rows, columns, _, height, width = self.decoded.shape
        upwards = self.decoded[::-1].reshape(rows * columns, *self.decoded.shape[2:])
        show(ax, mosaic(upwards, columns, self.limits, gap=1))
        tall, wide = (side * enlargement(height, width) for side in (height, width))
        across, up = _ticks(columns), _ticks(rows)
        ax.set_xticks([i * (wide + 1) + (wide - 1) / 2 for i in across], _written(self.first[across]))
        ax.set_yticks([(rows - 1 - i) * (tall + 1) + (tall - 1) / 2 for i in up], _written(self.second[up]))
        canvas.style(ax, f"{self.names[0]}, at prior quantiles", f"{self.names[1]}, at prior quantiles")
        canvas.title(ax, HEADING)

    def _draw_columns(self, ax: Axes) -> None:
        shown = min(MOST, self.decoded.shape[2])
        for i, part in enumerate(canvas.panels(ax, shown, min(3, shown), HEADING)):
            picture = part.imshow(
                self.decoded[:, :, i], origin="lower", cmap="viridis", interpolation="nearest", aspect="equal"
            )
            across, up = _ticks(len(self.first)), _ticks(len(self.second))
            part.set_xticks(across, _written(self.first[across]))
            part.set_yticks(up, _written(self.second[up]))
            canvas.style(part, self.names[0], self.names[1])
            part.set_title(self.columns[i], loc="left", fontsize=canvas.NORMAL, parse_math=False)
            bar = canvas.figure_of(part).colorbar(picture, ax=part, shrink=0.85)
            bar.ax.tick_params(labelsize=canvas.SMALL, colors=canvas.GREY, length=2)
            bar.outline.set_visible(False)


def _ticks(count: int) -> list[int]:
    """Four or five places of a grid, symmetrically, with its ends."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(4 + count % 2, count))})


def _written(values: Floats) -> list[str]:
    return [f"{value:.1f}".replace("-", "\N{MINUS SIGN}") for value in values]


def _most_active(model: Model, x: Any, name: str) -> tuple[int, int]:
    """The two dimensions whose posterior means vary most over the rows, in their own order."""
    variance = codes_of(model, some_rows(model, x, 5000), name).var(0)
    first, second = sorted(np.argsort(-variance)[:2].tolist())
    return first, second


def _quantiles(prior: Distribution, u: torch.Tensor, size: int) -> torch.Tensor:
    """F_d^-1(u) for each dimension d of a factorised prior, `[len(u), size]`, on the CPU."""
    base = getattr(prior, "base_dist", prior)
    try:
        points = u.to(base.mean.device, base.mean.dtype).unsqueeze(-1).expand(-1, size)
        with torch.no_grad():
            found: torch.Tensor = base.icdf(points)
    except NotImplementedError as error:
        raise DoesNotApply("the prior has no quantiles dimension by dimension") from error
    return found.cpu()
