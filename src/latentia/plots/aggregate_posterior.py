"""Where all posteriors together lie, and where the prior does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..diagnostics._posteriors import Prior, draw
from ..diagnostics._rows import batches, latents_of
from ..exact import is_discrete
from ..factor import Factor
from ..factors.gaussian import FullNormal, tril_of
from ..noise import Noise
from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._values import Floats, one_space, some_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..diagnostics import Information
    from ..model import Model

SHARES = (0.5, 0.95)  # of the prior, inside its contours
GRID = 121  # points of each axis
PRIOR_DRAWS = 4000  # that show where the prior lies, and its density where that has no closed form
TAIL = 0.001  # of the prior, that may lie outside the picture on each side
MARGIN = 0.15  # of the range, around draws and prior


class AggregatePosteriorDisplay(Display):
    """Draws from the aggregated posterior q(z) = (1/N) sum_n q(z | x_n), over contours of the prior.

    draws     `[P, 2]` from q(z), or `[P, 1]`
    axes      the grid's coordinates along each of the dimensions, `[G]` each
    density   p(z) on it, `[G, G]`, the first dimension first; `[G]` of one dimension
    names     of the axes, in mathematical notation
    information   the marginal KL and the mutual information of all latent units, for the caption

    Where draws are missing inside the contours the model makes samples that no data are encoded to; where
    they lie outside, the prior never goes. Hoffman & Johnson (2016), "ELBO surgery".
    """

    title = "Aggregated posterior"

    def __init__(
        self,
        draws: ArrayLike,
        axes: Sequence[ArrayLike],
        density: ArrayLike,
        *,
        names: Sequence[str] = ("$z_{0}$", "$z_{1}$"),
        information: Information | None = None,
    ) -> None:
        self.draws: Floats = np.asarray(draws, dtype=np.float64)
        self.axes: list[Floats] = [np.asarray(axis, dtype=np.float64) for axis in axes]
        self.density: Floats = np.asarray(density, dtype=np.float64)
        if self.draws.ndim != 2 or self.draws.shape[1] not in (1, 2):
            raise ValueError(f"draws must be [P, 2] or [P, 1], got {list(self.draws.shape)}")
        if len(self.axes) != self.draws.shape[1] or self.density.shape != tuple(map(len, self.axes)):
            sizes = [len(axis) for axis in self.axes]
            raise ValueError(f"density must be {sizes}, one number a grid point, got {self.density.shape}")
        self.names, self.information = tuple(names), information

    @classmethod
    def from_model(
        cls,
        model: Model,
        x: Any,
        *,
        dims: Sequence[int] | None = None,
        variable: str | None = None,
        limit: int = 2000,
        seed: int = 0,
    ) -> AggregatePosteriorDisplay:
        """A draw for each of at most `limit` rows, along `dims` (default: the first two) of `variable`.

        Raises DoesNotApply for a model without a continuous latent variable with a density q, one whose prior
        is given something observed, and, unless `variable` is given, one whose components have a latent space
        each; ValueError for dimensions that are not there.
        """
        from .. import diagnostics

        name, rows = one_space(model, variable), some_rows(model, x, limit)
        if name not in model.latent or not model.q[name].has_density:  # type: ignore[index]
            raise DoesNotApply(f"{name!r} has no density q, and so no aggregated posterior")
        if is_discrete(model.p[name]):
            raise DoesNotApply(
                f"{name!r} is discrete: its draws lie on each other, and no contour holds them"
            )
        names = latents_of(model, model.batch(rows, slice(0, 1)))
        try:
            prior = Prior(model, names)
        except ValueError as error:
            raise DoesNotApply(str(error)) from error
        size = math.prod(model.p[name].event)
        shown = list(range(min(2, size))) if dims is None else list(dims)
        if not shown or len(shown) > 2 or any(not 0 <= dim < size for dim in shown):
            raise ValueError(f"dims are one or two of 0 ... {size - 1}, got {shown}")
        noise = Noise(seed, model.device, model.dtype)
        with torch.no_grad():
            parts = [draw(model, values, names, 1, noise)[name][0] for values in batches(model, rows)]
            draws: Floats = torch.cat(parts).double().cpu().flatten(1).numpy()[:, shown]
            axes, density = _prior(prior, name, shown, draws, noise)
        return cls(
            draws,
            axes,
            density,
            names=[canvas.unit_name(name, dim if size > 1 else None) for dim in shown],
            information=diagnostics.information(model, rows, seed=seed) if len(rows) > 1 else None,
        )

    @property
    def flat(self) -> bool:
        return bool(self.draws.shape[1] == 1)

    @property
    def size(self) -> tuple[float, float]:
        return (6.0, 3.4) if self.flat else (5.6, 5.2)

    @property
    def caption(self) -> str:
        what = "A draw from q(z | x) for each of" if len(self.draws) > 1 else "A draw from q(z | x) for"
        text = f"{what} {len(self.draws):,} rows, together the aggregated posterior q(z)"
        text += ", and the prior p(z)." if self.flat else "; the contours hold half and 95 percent of p(z)."
        found = self.information
        if found is not None:
            count, shown = len(found.units), self.draws.shape[1]
            text += (
                f" The marginal KL(q(z) ‖ p(z)) is {found.marginal_kl} nats, and the mutual information "
                f"I(x; z) {found.mutual_information}"
            )
            few = f", of all {count} latent dimensions together; {'one is' if self.flat else 'two are'} shown"
            text += f"{few}." if count > shown else "."
        return text

    def draw(self, ax: Axes) -> None:
        if self.flat:
            (grid,) = self.axes
            bins = list(np.linspace(grid[0], grid[-1], 61))
            ax.hist(self.draws[:, 0], bins=bins, density=True, color=canvas.BLUE, alpha=0.6, label="q(z)")
            ax.plot(grid, self.density, color=canvas.VERMILLION, lw=1.6, label="p(z)")
            canvas.style(ax, self.names[0], "density")
        else:
            self._draw_plane(ax)
        canvas.legend(ax)
        canvas.title(ax, "Aggregated posterior and prior")

    def _draw_plane(self, ax: Axes) -> None:
        from matplotlib.lines import Line2D

        size = float(np.clip(9000 / len(self.draws), 5, 20))
        x, y = self.draws.T
        ax.scatter(x, y, s=size, color=canvas.BLUE, alpha=0.5, linewidths=0, label="draws from q(z)")
        levels = sorted({_level(self.density, share) for share in SHARES})
        styles = ["--", "-"][-len(levels) :]
        ax.contour(
            *self.axes,
            self.density.T,
            levels=levels,
            colors=canvas.VERMILLION,
            linewidths=1.4,
            linestyles=styles,
        )
        ax.add_line(Line2D([], [], color=canvas.VERMILLION, lw=1.4, label="prior p(z)"))
        ax.set_aspect("equal", adjustable="box")
        ax.set_xlim(self.axes[0][0], self.axes[0][-1])
        ax.set_ylim(self.axes[1][0], self.axes[1][-1])
        canvas.style(ax, self.names[0], self.names[1])


def _level(density: Floats, share: float) -> float:
    """The density above which this share of its mass on the grid lies."""
    ordered = np.sort(density, axis=None)[::-1]
    mass = np.cumsum(ordered)
    return float(ordered[np.searchsorted(mass, share * mass[-1])])


def _prior(
    prior: Prior, name: str, dims: Sequence[int], draws: Floats, noise: Noise
) -> tuple[list[Floats], Floats]:
    """A grid around draws and prior, and the prior's density on it: of a Gaussian in closed form, else from
    draws by a kernel estimate.
    """
    made = prior.sample(PRIOR_DRAWS, noise)[name]
    sample: Floats = made.double().cpu().flatten(1).numpy()[:, list(dims)]
    low, high = np.quantile(sample, (TAIL, 1 - TAIL), axis=0)
    low, high = np.minimum(low, draws.min(0)), np.maximum(high, draws.max(0))
    room = MARGIN * np.maximum(high - low, 1e-6)
    axes = [np.linspace(a - r, b + r, GRID) for a, b, r in zip(low, high, room, strict=True)]
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    points, gaussian = mesh.reshape(-1, len(dims)), _gaussian(prior.p[name], list(dims))
    if gaussian is None:
        from scipy.stats import gaussian_kde

        density: Floats = gaussian_kde(sample.T)(points.T)
    else:
        density = gaussian.log_prob(torch.as_tensor(points)).exp().numpy()
    return axes, density.reshape(mesh.shape[:-1])


def _gaussian(factor: Factor, dims: list[int]) -> FullNormal | None:
    """p(z) along some of its entries, where it is a root factor and Gaussian."""
    if factor.given or type(factor).distribution is Factor.distribution:
        return None
    found = factor.distribution()
    try:
        tril = tril_of(found).double().cpu()
    except (TypeError, AttributeError):  # another family
        return None
    covariance = (tril @ tril.mT)[dims][:, dims]
    return FullNormal(found.mean.double().cpu()[dims], torch.linalg.cholesky(covariance))
