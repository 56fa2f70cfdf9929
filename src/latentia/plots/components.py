"""What the components of a mixture look like: their means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..data import Table
from ..factors.columns import Columns
from . import _canvas as canvas
from ._display import Display
from ._gaussians import component_variable, component_weights
from ._images import enlargement, limits_of, mosaic, show
from ._values import Floats, Limits, View, data_values, some_rows, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..data import Rows
    from ..model import Model

IMAGES, ROWS, COLUMNS = 60, 30, 30  # components as images, components and columns of a table, shown at most
WRITTEN = 16  # so many columns have their numbers written into the cells
GAP = 9  # pixels between images, of which the label takes most


class ComponentsDisplay(Display):
    """The mean of each component, the heaviest first: as an image, or as a row of a table of colours.

    means    `[K, C, H, W]` or `[K, D]` in the data's units: E[x | k]; of a category the probability of each
             level, a column each
    weights  `[K]`, p(k)
    columns  `[D]`, names of a table's columns
    spread   `[D]`, the standard deviation of each column over the rows: a colour says by how many of them a
             component differs from the mean of all
    limits   intensities of black and white; the smallest and the largest by default
    """

    title = "Component means"

    def __init__(
        self,
        means: ArrayLike,
        weights: ArrayLike,
        *,
        columns: Sequence[str] = (),
        spread: ArrayLike | None = None,
        limits: Limits | None = None,
        component: str = "k",
    ) -> None:
        self.means: Floats = np.asarray(means, dtype=np.float64)
        self.weights: Floats = np.asarray(weights, dtype=np.float64)
        if self.means.ndim not in (2, 4) or self.weights.shape != self.means.shape[:1]:
            shapes = f"{self.means.shape} and {self.weights.shape}"
            raise ValueError(f"means and weights must be [K, C, H, W] or [K, D], and [K], got {shapes}")
        width = self.means.shape[1]
        self.columns = tuple(columns) or tuple(f"x{i}" for i in range(width))
        self.spread: Floats = np.ones(width) if spread is None else np.asarray(spread, dtype=np.float64)
        if not self.images and not (len(self.columns) == len(self.spread) == width):
            raise ValueError(f"columns and spread must be [{width}], as the means have so many columns")
        self.limits = limits_of(self.means) if limits is None else limits
        self.component = component

    @classmethod
    def from_model(cls, model: Model, x: Any, limit: int = 5000) -> ComponentsDisplay:
        """E[x | k], other latents at their prior means; the spread is that of at most `limit` rows.

        Raises DoesNotApply for a model whose latent variables are no components.
        """
        view, name = view_of(model), component_variable(model)
        weights = component_weights(model)
        if view.image is not None:
            codes = model.p[name].support()
            means, limits = view.array(model.decode({name: codes})), view.limits
            return cls(means, weights, limits=limits, component=name)
        means, columns, spread = _profiles(model, some_rows(model, x, limit), view, name)
        return cls(means, weights, columns=columns, spread=spread, component=name)

    @property
    def images(self) -> bool:
        return self.means.ndim == 4

    @property
    def effects(self) -> Floats:
        """By how many standard deviations of its column each mean differs from that of all, `[K, D]`."""
        shares = self.weights / self.weights.sum()
        found: Floats = (self.means - shares @ self.means) / np.where(self.spread > 0, self.spread, 1.0)
        return found

    @property
    def order(self) -> list[int]:
        """The components that are shown."""
        found: list[int] = np.argsort(-self.weights, kind="stable").tolist()
        return found[: IMAGES if self.images else ROWS]

    @property
    def places(self) -> list[int]:
        """The columns that are shown, in their order: those in which the components differ most."""
        shares = self.weights / self.weights.sum()
        differ = shares @ self.effects**2
        return sorted(np.argsort(-differ, kind="stable")[:COLUMNS].tolist())

    @property
    def size(self) -> tuple[float, float]:
        count = len(self.order)
        if self.images:
            across = self._across()
            height, width = (side * enlargement(*self.means.shape[2:]) for side in self.means.shape[2:])
            down = -(-count // across)
            return 6.0, min(12.0, 0.7 + 5.86 * down * (height + GAP) / (across * (width + GAP) - GAP))
        names = max(len(self.columns[i]) for i in self.places)
        wide = 0.62 if len(self.places) <= WRITTEN else 0.3
        return max(4.5, 2.2 + wide * len(self.places)), max(3.2, 1.2 + 0.3 * count + 0.065 * min(names, 30))

    @property
    def caption(self) -> str:
        shown, total = len(self.order), len(self.weights)
        which = f"The {shown} heaviest of {total} components" if shown < total else f"{total} components"
        if self.images:
            return (
                f"{which}: the mean of p(x | {self.component}), the number of the component and its weight."
            )
        columns, width = len(self.places), len(self.columns)
        part = f" The {columns} of {width} columns in which they differ most." if columns < width else ""
        numbers = " The numbers are in the data's own units." if columns <= WRITTEN else ""
        levels = (
            " (of a category, the probability of each level)" if any("=" in n for n in self.columns) else ""
        )
        return (
            f"{which}, with their weights, and the mean of each column given the component{levels}. Colours "
            f"say by how many standard deviations of the column it differs from the mean of all."
            f"{numbers}{part}"
        )

    def draw(self, ax: Axes) -> None:
        if self.images:
            self._draw_images(ax)
        else:
            self._draw_table(ax)
        canvas.title(ax, "Component means")

    def _across(self) -> int:
        return min(10, max(5, math.ceil(math.sqrt(len(self.order)))), len(self.order))

    def _draw_images(self, ax: Axes) -> None:
        order, across = self.order, self._across()
        times = enlargement(*self.means.shape[2:])
        height, width = (side * times for side in self.means.shape[2:])
        show(ax, mosaic(self.means[order], across, self.limits, gap=GAP))
        for i, k in enumerate(order):
            x, y = (i % across) * (width + GAP) + width / 2, (i // across) * (height + GAP) + height
            label = f"{k}:  {self.weights[k]:.3f}"
            ax.text(x, y + 0.5, label, ha="center", va="top", fontsize=canvas.SMALL, color=canvas.GREY)
        rows = -(-len(order) // across)
        ax.set_ylim(rows * (height + GAP) - 0.5, -0.5)

    def _draw_table(self, ax: Axes) -> None:
        order, places = self.order, self.places
        effects = self.effects[np.ix_(order, places)]
        most = max(1.0, float(np.abs(effects).max()))
        picture = ax.imshow(effects, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
        if len(places) <= WRITTEN:
            for i, k in enumerate(order):
                for j, place in enumerate(places):
                    ink = "white" if abs(effects[i, j]) > 0.6 * most else canvas.INK
                    text = _written(self.means[k, place], self.spread[place])
                    ax.text(j, i, text, ha="center", va="center", fontsize=canvas.SMALL, color=ink)
        ax.set_xticks(range(len(places)), [self.columns[i][:30] for i in places], rotation=45, ha="right")
        for label in ax.get_xticklabels():
            label.set(parse_math=False, rotation_mode="anchor")
        ax.set_yticks(range(len(order)), [f"{k}:  {self.weights[k]:.3f}" for k in order])
        canvas.style(ax, None, f"{self.component} and its weight", maths=False)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        bar = canvas.figure_of(ax).colorbar(picture, ax=ax, shrink=0.8, pad=0.02)
        bar.set_label("standard deviations", fontsize=canvas.SMALL, color=canvas.INK)
        bar.ax.tick_params(labelsize=canvas.SMALL, colors=canvas.GREY, length=2)
        bar.outline.set_visible(False)


def _written(value: float, spread: float) -> str:
    """A number with two digits of its column's standard deviation."""
    digits = 1 - math.floor(math.log10(spread / 2)) if spread > 0 else 2
    shown = min(max(digits, 0), 6)
    return f"{round(value, shown) + 0.0:.{shown}f}".replace("-", "\N{MINUS SIGN}")


@torch.no_grad()
def _profiles(model: Model, rows: Rows, view: View, component: str) -> tuple[Floats, list[str], list[float]]:
    """E[x | k] by column in the data's units `[K, D]`, the columns' names, and their spread over the rows.

    A category is told by the probabilities of its levels, a column each.
    """
    codes, size = model.p[component].support(), math.prod(model.p[view.name].event)
    whole = replace(view, places=tuple(range(size)))
    means, values = whole.array(model.decode({component: codes})), data_values(model, rows, whole)
    field = None if model.schema is None else model.schema.fields.get(view.name)
    if not isinstance(field, Table):
        return means, list(view.columns), np.nanstd(values, axis=0).tolist()
    factor, pieces = model.p[view.name], []
    if isinstance(factor, Columns) and factor.given == (component,):
        pieces = factor.distribution(*model.p.parents(view.name, {component: codes})).split()
    parts, names, spread = [], [], []
    for j, column in enumerate(field.columns):
        seen = values[:, j][np.isfinite(values[:, j])]
        if column.kind == "category" and column.levels and pieces:
            parts.append(torch.softmax(pieces[j][1], -1).double().cpu().numpy())
            names += [f"{column.name} = {level}" for level in column.levels]
            spread += [float(np.std(seen == code)) for code in range(len(column.levels))]
        else:
            parts.append(means[:, j : j + 1])
            names.append(column.name)
            spread.append(float(np.std(seen)))
    return np.concatenate(parts, axis=1), names, spread
