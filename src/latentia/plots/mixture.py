"""A mixture of Gaussians over the data: an ellipse for each component."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._gaussians import component_variable, component_weights, gaussians, responsibilities
from ._values import Floats, model_rows, some_rows, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..model import Model

SIGMAS = (1.0, 2.0)
LIGHT = 0.005  # components of less weight are not drawn: EM emptied them, or the prior alone holds them
LISTED = 20  # so many components have a name in the legend
NAMED = 10  # and so many a number at their mean
SHADE = 0.6  # of a component's colour, for its ellipses


class MixtureDisplay(Display):
    """Rows in a plane, with the ellipses at one and two standard deviations of each Gaussian component.

    Of more than 20 components there is one ellipse each.

    points            `[N, 2]`
    means, covariances   `[K, 2]`, `[K, 2, 2]`, of the components in that plane
    weights           `[K]`, p(k)
    responsibilities  `[N, K]`, p(k | x): a point has the mixture of its components' colours; None for grey
    names             of the axes
    component         the name of k
    """

    title = "Components"

    def __init__(
        self,
        points: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        weights: ArrayLike | None = None,
        responsibilities: ArrayLike | None = None,
        *,
        names: tuple[str, str] = ("x0", "x1"),
        component: str = "k",
        projected: bool = False,
    ) -> None:
        self.points: Floats = np.asarray(points, dtype=np.float64)
        self.means: Floats = np.asarray(means, dtype=np.float64)
        self.covariances: Floats = np.asarray(covariances, dtype=np.float64)
        count = len(self.means)
        self.weights: Floats = np.full(count, 1 / count) if weights is None else np.asarray(weights, float)
        self.responsibilities: Floats | None = None
        if responsibilities is not None:
            self.responsibilities = np.asarray(responsibilities, dtype=np.float64)
        self.names, self.component, self.projected = names, component, projected
        if self.points.ndim != 2 or self.points.shape[1] != 2:
            raise ValueError(f"points must be [N, 2], got {self.points.shape}")
        if self.means.shape != (count, 2) or self.covariances.shape != (count, 2, 2):
            shapes = f"{self.means.shape} and {self.covariances.shape}"
            raise ValueError(f"means and covariances must be [K, 2] and [K, 2, 2], got {shapes}")
        if self.weights.shape != (count,):
            raise ValueError(f"weights must be [{count}], got {self.weights.shape}")
        wanted = (len(self.points), count)
        if self.responsibilities is not None and self.responsibilities.shape != wanted:
            raise ValueError(f"responsibilities must be {list(wanted)}, got {self.responsibilities.shape}")

    @classmethod
    def from_model(
        cls, model: Model, x: Any, *, columns: tuple[str, str] | None = None, limit: int = 5000
    ) -> MixtureDisplay:
        """At most `limit` rows without holes, and the Gaussians of p(x | k), latents integrated out.

        columns: two columns of a table, by name, in their own units. By default both columns of two, or else
        the two principal axes of the rows after preprocessing. Raises DoesNotApply where p(x | k) is not
        Gaussian, ValueError for unknown columns.
        """
        view, rows = view_of(model), some_rows(model, x, limit)
        means, covariances = gaussians(model, view.name)
        values, complete = model_rows(model, rows, view.name)
        if len(means[0]) < 2:
            raise DoesNotApply(f"{view.name!r} has one entry, and so no plane")
        if complete.sum() < 3:
            raise DoesNotApply("fewer than three rows are without holes")
        values = values[complete]
        places = [view.columns.index(name) for name in columns or () if name in view.columns]
        if columns is not None and (view.image is not None or len(places) != 2):
            raise ValueError(f"columns must be two of {', '.join(view.columns) or 'a table'}, got {columns}")
        if columns is None and len(view.columns) == 2 and len(means[0]) == 2:
            places = [0, 1]
        if places:
            shift, axes = view.scaling(model, [view.places[i] for i in places])
            names = (view.columns[places[0]], view.columns[places[1]])
        else:
            shift, axes, names = _principal(values)
        single = not model.latent or len(means) == 1
        return cls(
            shift + values @ axes,
            shift + means @ axes,
            np.einsum("di,kde,ej->kij", axes, covariances, axes),
            None if single else component_weights(model),
            None if single else responsibilities(model, rows)[complete],
            names=names,
            component="" if single else component_variable(model),
            projected=not places,
        )

    @property
    def drawn(self) -> list[int]:
        """The components that are drawn, the heaviest first."""
        found: list[int] = np.argsort(-self.weights, kind="stable").tolist()
        return [k for k in found if self.weights[k] >= LIGHT] or found[:1]

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The standard deviations of the ellipses: of many components one each."""
        return SIGMAS if len(self.drawn) <= LISTED else SIGMAS[:1]

    @property
    def size(self) -> tuple[float, float]:
        listed = len(self.means) > 1 and len(self.drawn) <= LISTED
        return (6.4, 4.8) if listed or not self.projected else (5.4, 5.6)

    @property
    def caption(self) -> str:
        count = len(self.means)
        shares = " and ".join(f"{100 * (1 - math.exp(-(s**2) / 2)):.0f}" for s in self.sigmas)
        both = len(self.sigmas) > 1
        at = "one and two standard deviations, which hold" if both else "one standard deviation, which holds"
        what = "each component" if count > 1 else "p(x)"
        text = f"{len(self.points):,} rows, and {what} at {at} {shares} percent of it."
        if len(self.drawn) < count:
            left = count - len(self.drawn)
            what = "component of a weight below {} is" if left == 1 else "components of a weight below {} are"
            text += f" {left} {what.format(LIGHT)} left out."
        if self.responsibilities is not None:
            text += f" The colour of a point mixes those of its components by p({self.component} | x)."
        if self.projected:
            text += " The axes are the two directions in which the rows, after preprocessing, vary most."
        return text

    def draw(self, ax: Axes) -> None:
        from matplotlib.colors import to_rgb

        count = len(self.means)
        colours = canvas.class_colours(count) if count > 1 else [canvas.BLUE]
        size = float(np.clip(9000 / len(self.points), 6, 24))
        ink: Any = canvas.GREY
        if self.responsibilities is not None:
            ink = np.clip(self.responsibilities @ np.array([to_rgb(colour) for colour in colours]), 0, 1)
        x, y = self.points.T
        ax.scatter(x, y, c=ink, s=size, linewidths=0, alpha=0.6)
        for k in self.drawn:
            self._draw_component(ax, k, colours[k])
        canvas.title(ax, "Components" if count > 1 else "The model's Gaussian")
        canvas.style(ax, *self.names, maths=False)
        low, high = self._limits()
        ax.set_xlim(low[0], high[0])
        ax.set_ylim(low[1], high[1])
        if self.projected:
            ax.set_aspect("equal", adjustable="box", anchor="NW")
        if count > 1 and len(self.drawn) <= LISTED:
            canvas.legend(ax, outside=True, heading=f"{self.component}, weight")

    def _draw_component(self, ax: Axes, k: int, colour: str) -> None:
        """The ellipses of one component, and its number at the mean."""
        from matplotlib.colors import to_rgb, to_rgba
        from matplotlib.patches import Ellipse
        from matplotlib.patheffects import withStroke

        edge = tuple(SHADE * part for part in to_rgb(colour))  # points of the same colour lie below
        variances, axes = np.linalg.eigh(self.covariances[k])
        angle = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
        across, along = 2 * np.sqrt(np.maximum(variances, 0))
        x, y = self.means[k]
        for sigma in self.sigmas:
            inner = sigma == SIGMAS[0]
            width = 1.8 if inner else 1.2
            ax.add_patch(
                Ellipse(
                    (x, y),
                    sigma * along,
                    sigma * across,
                    angle=angle,
                    fc=to_rgba(colour, 0.12 if inner else 0.0),
                    ec=edge,
                    lw=width,
                    ls="-" if inner else "--",
                    label=f"{k}   {self.weights[k]:.3f}" if inner else None,
                    path_effects=[withStroke(linewidth=width + 2, foreground=(1, 1, 1, 0.7))],
                )
            )
        if len(self.means) > 1 and len(self.drawn) <= NAMED:
            halo = [withStroke(linewidth=3, foreground="white")]
            ax.text(
                x,
                y,
                str(k),
                color=edge,
                fontsize=12,
                weight="bold",
                ha="center",
                va="center",
                path_effects=halo,
                clip_on=True,
            )

    def _limits(self) -> tuple[Floats, Floats]:
        """The rows and the ellipses, but no ellipse further than half the rows' range outside it."""
        low, high = self.points.min(0), self.points.max(0)
        room = np.where(high > low, high - low, 1.0)
        variances = np.diagonal(self.covariances[self.drawn], axis1=1, axis2=2)
        reach = SIGMAS[-1] * np.sqrt(np.maximum(variances, 0))
        below, above = (self.means[self.drawn] - reach).min(0), (self.means[self.drawn] + reach).max(0)
        low = np.minimum(low - 0.05 * room, np.maximum(below - 0.05 * room, low - 0.5 * room))
        high = np.maximum(high + 0.05 * room, np.minimum(above + 0.05 * room, high + 0.5 * room))
        return low, high


def _principal(values: Floats) -> tuple[Floats, Floats, tuple[str, str]]:
    """(shift [2], axes [D, 2], names) that place rows on their two principal axes, centred."""
    mean = values.mean(0)
    variances, vectors = np.linalg.eigh(np.cov(values.T, bias=True))
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), [0, 1]] < 0, -1, 1)
    shares = 100 * variances[::-1][:2] / max(float(variances.sum()), 1e-300)
    first, second = (
        f"principal axis {i + 1} ({share:.0f} % of the variance)" for i, share in enumerate(shares)
    )
    return -mean @ axes, axes, (first, second)
