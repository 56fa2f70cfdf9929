"""Which component takes which rows: the labels that the model has not seen against its components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._gaussians import component_variable, component_weights, responsibilities
from ._values import Floats, some_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..model import Model

MOST = 40  # classes, and components, that have a place


class ResponsibilityDisplay(Display):
    """For each class the mean of p(k | x) over its rows: how its rows are shared out among the components.

    shares   `[C, K]`, each row sums to 1
    counts   `[C]`, rows of each class
    classes  `[C]`, names
    numbers  `[K]`, of the components; they are shown in this order
    """

    title = "Responsibilities"

    def __init__(
        self,
        shares: ArrayLike,
        counts: ArrayLike,
        *,
        classes: Sequence[str] = (),
        numbers: Sequence[int] = (),
        label: str = "label",
        component: str = "k",
    ) -> None:
        self.shares: Floats = np.asarray(shares, dtype=np.float64)
        self.counts = np.asarray(counts)
        if self.shares.ndim != 2 or self.counts.shape != self.shares.shape[:1]:
            raise ValueError(
                f"shares must be [C, K] and counts [C], got {self.shares.shape}, {self.counts.shape}"
            )
        self.classes = tuple(classes) or tuple(str(c) for c in range(len(self.shares)))
        self.numbers = tuple(numbers) or tuple(range(self.shares.shape[1]))
        self.label, self.component = label, component

    @classmethod
    def from_model(cls, model: Model, x: Any, limit: int = 5000) -> ResponsibilityDisplay:
        """At most `limit` rows that have a label. Components stand in the order of the classes they take.

        Raises DoesNotApply for a model without components, and for rows without a label of a few classes.
        """
        component = component_variable(model)
        count = len(component_weights(model))
        rows = some_rows(model, x, limit)
        label = rows.schema.label
        if rows.labels is None or label is None or rows.labels.is_floating_point():
            raise DoesNotApply("the rows have no classes")
        codes = rows.labels.cpu().numpy()
        found = np.unique(codes[codes >= 0])
        if not 2 <= len(found) <= MOST or not 2 <= count <= MOST:
            raise DoesNotApply(
                f"{len(found)} classes and {count} components are too few, or too many to show"
            )
        given = responsibilities(model, rows)
        shares = np.stack([given[codes == code].mean(0) for code in found])
        order = np.lexsort((-shares.max(0), shares.argmax(0)))
        names = [str(code) if label.levels is None else label.levels[code] for code in found]
        counts = np.array([int((codes == code).sum()) for code in found])
        return cls(
            shares[:, order],
            counts,
            classes=names,
            numbers=order.tolist(),
            label=label.name,
            component=component,
        )

    @property
    def size(self) -> tuple[float, float]:
        classes, components = self.shares.shape
        names = 0.075 * max(len(name) for name in self.classes)
        return float(max(4.0, 1.6 + names + 0.42 * components)), float(max(2.6, 1.2 + 0.32 * classes))

    @property
    def caption(self) -> str:
        return (
            f"How the rows of each {self.label}, which the model has not seen, are shared out among the "
            f"components: the mean of p({self.component} | x), in percent. {int(self.counts.sum()):,} rows."
        )

    def draw(self, ax: Axes) -> None:
        ax.imshow(100 * self.shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for i, j in np.ndindex(self.shares.shape):
            share = 100 * self.shares[i, j]
            if share >= 1:
                ink = "white" if share > 60 else canvas.INK
                ax.text(j, i, f"{share:.0f}", ha="center", va="center", fontsize=canvas.SMALL, color=ink)
        ax.set_xticks(range(len(self.numbers)), [str(k) for k in self.numbers])
        ax.set_yticks(range(len(self.classes)), [name[:30] for name in self.classes])
        for text in ax.get_yticklabels():
            text.set_parse_math(False)
        canvas.title(ax, "Responsibilities by class, percent")
        canvas.style(ax, f"component {self.component}", self.label, maths=False)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
