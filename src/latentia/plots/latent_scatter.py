"""Where the data lie in latent space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _canvas as canvas
from ._display import Display
from ._values import Floats, codes_of, one_space, some_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..model import Model

SHARES = (0.5, 0.95)  # of a two-dimensional standard normal, inside the circles
DISCRETE = 20  # so many classes have a legend; more whole labels without names are numbers on a scale


class LatentScatterDisplay(Display):
    """Posterior means of rows in a plane of latent space, coloured by label.

    codes    `[N, 2]`; or `[N, 1]`, drawn as histograms by class, or against labels that are numbers
    labels   `[N]` integer codes or numbers; None for no colour; a negative code means no label
    classes  the labels' own names
    label    what the labels are
    names    of the axes, in mathematical notation
    prior    whether the prior is standard normal: two circles then hold half and 95 percent of it
    others   how many further latent dimensions there are
    of       the latent variable, where there are several
    """

    title = "Latent space"

    def __init__(
        self,
        codes: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        classes: Sequence[str] = (),
        label: str = "label",
        names: Sequence[str] = ("$z_{0}$", "$z_{1}$"),
        prior: bool = True,
        others: int = 0,
        of: str = "",
    ) -> None:
        self.codes: Floats = np.asarray(codes, dtype=np.float64)
        if self.codes.ndim != 2 or self.codes.shape[1] not in (1, 2):
            raise ValueError(f"codes must be [N, 2] or [N, 1], got {self.codes.shape}")
        self.labels: NDArray[Any] | None = None if labels is None else np.asarray(labels)
        if self.labels is not None and self.labels.shape != self.codes.shape[:1]:
            raise ValueError(f"labels must be [{len(self.codes)}], one for each row, got {self.labels.shape}")
        self.classes, self.label, self.names = tuple(classes), label, tuple(names)
        self.prior, self.others, self.of = prior, others, of

    @classmethod
    def from_model(
        cls,
        model: Model,
        x: Any,
        *,
        dims: tuple[int, int] | None = None,
        variable: str | None = None,
        limit: int = 5000,
    ) -> LatentScatterDisplay:
        """The means of q(z | x) of at most `limit` rows, along `dims` (default: the two most active).

        Raises DoesNotApply for a model without a continuous latent variable, and, unless `variable` is given,
        for one whose components have a latent space each.
        """
        from ..factors import StandardNormal

        name = one_space(model, variable)
        rows = some_rows(model, x, limit)
        codes = codes_of(model, rows, name)
        size = codes.shape[1]
        if dims is None:
            dims_shown = sorted(np.argsort(-codes.var(0))[:2].tolist())
        else:
            dims_shown = list(dims)
        label = rows.schema.label
        return cls(
            codes[:, dims_shown],
            None if rows.labels is None else rows.labels.cpu().numpy(),
            classes=() if label is None or label.levels is None else label.levels,
            label="label" if label is None else label.name,
            names=[canvas.unit_name(name, dim if size > 1 else None) for dim in dims_shown],
            prior=name in model.p and isinstance(model.p[name], StandardNormal),
            others=size - len(dims_shown),
            of=name if len(model.latent) > 1 else "",
        )

    @property
    def flat(self) -> bool:
        return bool(self.codes.shape[1] == 1)

    @property
    def size(self) -> tuple[float, float]:
        return (6.0, 3.2) if self.flat else (6.2, 5.2)

    @property
    def caption(self) -> str:
        what = "encode(x), the mean of the posterior," if self.prior else "encode(x)"
        what = f"{self.of} of encode(x)" if self.of else what
        text = f"{what} for each of {len(self.codes):,} rows."
        if self.labels is not None:
            how = f"Against {self.label}" if self.flat and self._groups() is None else f"Colour: {self.label}"
            text += f" {how}, which the model has not seen."
        if self.others:
            of = (
                f"the {self.others + 2} dimensions of {self.of}"
                if self.of
                else f"{self.others + 2} latent dimensions"
            )
            text += f" Two of {of}."
        if self.prior and not self.flat:
            text += " The circles hold half and 95 percent of the prior."
        return text

    def draw(self, ax: Axes) -> None:
        if self.flat:
            self._draw_line(ax)
        else:
            self._draw_plane(ax)
        canvas.title(ax, "Latent space: posterior means" if self.prior else "Latent space")

    def _groups(self) -> list[tuple[str, NDArray[np.bool_]]] | None:
        """Rows by class; None where the labels are numbers on a scale."""
        if self.labels is None:
            return [("", np.ones(len(self.codes), dtype=bool))]
        if self.labels.dtype.kind == "f":
            return None
        known = [int(label) for label in np.unique(self.labels) if label >= 0]
        if len(known) > DISCRETE and not self.classes:
            return None
        groups = [
            (self.classes[label] if label < len(self.classes) else str(label), self.labels == label)
            for label in known
        ]
        unknown = self.labels < 0
        return [("no label", unknown), *groups] if unknown.any() else groups

    def _draw_plane(self, ax: Axes) -> None:
        groups = self._groups()
        size = float(np.clip(9000 / len(self.codes), 6, 24))
        if groups is None:
            x, y = self.codes.T
            points = ax.scatter(x, y, c=self.labels, cmap="viridis", s=size, linewidths=0, alpha=0.85)
            bar = canvas.figure_of(ax).colorbar(points, ax=ax, shrink=0.8)
            bar.set_label(self.label, fontsize=canvas.NORMAL, parse_math=False)
            bar.ax.tick_params(labelsize=canvas.SMALL, colors=canvas.GREY, length=2)
            bar.outline.set_visible(False)
        else:
            for name, here, colour in self._coloured(groups):
                x, y = self.codes[here].T
                ax.scatter(x, y, color=colour, s=size, linewidths=0, alpha=0.85, label=name)
            if self.labels is not None and len(groups) <= DISCRETE:
                made = canvas.legend(ax, outside=True, heading=self.label)
                for handle in made.legend_handles:
                    handle.set(sizes=[24], alpha=1)  # type: ignore[union-attr]
            if 1 < len(groups) <= len(canvas.CLASSES):
                self._name_groups(ax, groups)
        ax.set_aspect("equal", adjustable="datalim")
        canvas.style(ax, self.names[0], self.names[1])
        ax.margins(0.04)
        if self.prior:
            self._draw_prior(ax)

    def _coloured(
        self, groups: list[tuple[str, NDArray[np.bool_]]]
    ) -> list[tuple[str, NDArray[np.bool_], str]]:
        if self.labels is None:
            return [(name, here, canvas.BLUE) for name, here in groups]
        colours = [canvas.PALE] if groups[0][0] == "no label" else []
        colours += canvas.class_colours(len(groups) - len(colours))
        return [(name, here, colour) for (name, here), colour in zip(groups, colours, strict=True)]

    def _name_groups(self, ax: Axes, groups: list[tuple[str, NDArray[np.bool_]]]) -> None:
        """Short names at the groups' medians, for readers to whom colour says little."""
        from matplotlib.patheffects import withStroke

        for name, here, colour in self._coloured(groups):
            if len(name) <= 3 and name != "no label":
                x, y = np.median(self.codes[here], axis=0)
                halo = [withStroke(linewidth=3, foreground="white")]
                ax.text(
                    x,
                    y,
                    name,
                    color=colour,
                    fontsize=13,
                    weight="bold",
                    ha="center",
                    va="center",
                    path_effects=halo,
                    parse_math=False,
                )

    def _draw_prior(self, ax: Axes) -> None:
        from matplotlib.patches import Circle

        for share in SHARES:
            radius = math.sqrt(-2 * math.log(1 - share))
            ax.add_patch(Circle((0, 0), radius, fill=False, ec=canvas.GREY, lw=0.8, ls="--", zorder=0))

    def _draw_line(self, ax: Axes) -> None:
        """One latent dimension."""
        groups = self._groups()
        if groups is None and self.labels is not None:
            ax.scatter(self.codes[:, 0], self.labels, s=10, color=canvas.BLUE, linewidths=0, alpha=0.7)
            ax.set_ylabel(self.label, fontsize=canvas.NORMAL, color=canvas.INK, parse_math=False)
            canvas.style(ax, self.names[0], None)
            return
        groups = groups or []
        edges = np.linspace(self.codes.min(), self.codes.max() + 1e-9, 41)
        for name, here, colour in self._coloured(groups):
            ax.hist(self.codes[here, 0], bins=list(edges), histtype="step", lw=1.3, color=colour, label=name)
        if self.labels is not None and 1 < len(groups) <= DISCRETE:
            canvas.legend(ax, outside=True, heading=self.label)
        canvas.style(ax, self.names[0], "number of rows")
