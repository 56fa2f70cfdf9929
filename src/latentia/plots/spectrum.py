"""The spectrum of PPCA: what the latent dimensions keep of the data's variance, and the noise below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..factors import LinearNormal, Spherical
from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._gaussians import gaussians
from ._values import Floats, model_rows, some_rows, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..model import Model

BARS = 40  # so many eigenvalues are bars; more are a line
SMALLEST = 1e-6  # of the largest eigenvalue: below it is nothing to see


class SpectrumDisplay(Display):
    """Eigenvalues of the sample covariance and of the model's, W W^T + R, the largest first.

    sample    `[D]`, of the covariance of the rows, divided by N
    model     `[D]`, of the model's covariance
    retained  how many latent dimensions there are, M
    noise     sigma^2, where it is the same for all entries; the D - M last eigenvalues of the model

    Tipping & Bishop (1999), eqs. 7-8: at the maximum of the likelihood the M largest agree, and sigma^2 is
    the mean of the others.
    """

    title = "Spectrum"

    def __init__(
        self, sample: ArrayLike, model: ArrayLike, retained: int, noise: float | None = None
    ) -> None:
        self.sample: Floats = -np.sort(-np.asarray(sample, dtype=np.float64))
        self.model: Floats = -np.sort(-np.asarray(model, dtype=np.float64))
        self.retained, self.noise = retained, noise
        if self.sample.ndim != 1 or self.sample.shape != self.model.shape:
            shapes = f"{self.sample.shape} and {self.model.shape}"
            raise ValueError(f"the eigenvalues of the sample and of the model must both be [D], got {shapes}")

    @classmethod
    def from_model(cls, model: Model, x: Any, limit: int = 50_000) -> SpectrumDisplay:
        """The covariance of at most `limit` rows without holes, after preprocessing: those of training, so
        that both spectra are of the same rows.

        Raises DoesNotApply for a model that is not one linear map of Gaussian latents.
        """
        view = view_of(model)
        factor = model.p[view.name]
        if not isinstance(factor, LinearNormal) or factor.states is not None:
            raise DoesNotApply(f"{model.p.equation()} is no linear map of Gaussian latent variables")
        _, (covariance,) = gaussians(model, view.name)
        values, complete = model_rows(model, some_rows(model, x, limit), view.name)
        if complete.sum() < 2:
            raise DoesNotApply("a covariance needs two rows without holes")
        sample = np.linalg.eigvalsh(np.atleast_2d(np.cov(values[complete].T, bias=True)))
        noise = float(factor.scale.detach().square()) if isinstance(factor.covariance, Spherical) else None
        return cls(np.maximum(sample, 0), np.linalg.eigvalsh(covariance), factor.latent, noise)

    @property
    def kept(self) -> float:
        """The share of the rows' variance along the M principal axes."""
        whole = float(self.sample.sum())
        return float(self.sample[: self.retained].sum()) / whole if whole else 0.0

    @property
    def size(self) -> tuple[float, float]:
        return 6.4, 4.0

    @property
    def caption(self) -> str:
        dimensions = (
            "the latent dimension" if self.retained == 1 else f"the {self.retained} latent dimensions"
        )
        text = (
            "Eigenvalues of the covariance of the rows, after preprocessing, and of the model's. The "
            f"principal axes of {dimensions} hold {100 * self.kept:.0f} percent of the variance"
        )
        if self.noise is None:
            return f"{text}; each entry has noise of its own."
        return f"{text}; in every other direction the model has the noise, σ² = {self.noise:.3g}."

    def draw(self, ax: Axes) -> None:
        count = len(self.sample)
        place = np.arange(1, count + 1)
        floor = SMALLEST * max(float(self.sample.max(initial=0)), float(self.model.max(initial=0)))
        sample, kept = np.maximum(self.sample, floor), place <= self.retained
        low = float(np.min([*sample[sample > floor], *self.model[self.model > floor]], initial=np.inf))
        if count <= BARS:
            for here, colour, name in (
                (kept, canvas.BLUE, "retained"),
                (~kept, canvas.PALE, "left to the noise"),
            ):
                if here.any():
                    ax.bar(place[here], sample[here], color=colour, width=0.8, label=f"rows, {name}")
        else:
            ax.plot(place, np.where(sample > floor, sample, np.nan), color=canvas.BLUE, lw=1.3, label="rows")
        few = count <= BARS
        marker, line = ("o", "") if few else (None, "-")
        ax.plot(
            place, self.model, ls=line, marker=marker, ms=4, lw=1.3, color=canvas.VERMILLION, label="model"
        )
        if self.noise is not None:
            ax.axhline(self.noise, color=canvas.GREY, lw=1, ls="--", label=rf"$\sigma^2$ = {self.noise:.3g}")
        if self.retained < count:
            ax.axvline(self.retained + 0.5, color=canvas.GREY, lw=1, ls=":")
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.5 * low if np.isfinite(low) else None)
        ax.set_xlim(0.3, count + 0.7)
        ax.locator_params(axis="x", integer=True)
        canvas.title(
            ax, f"Spectrum: {self.retained} of {count} dimensions, {100 * self.kept:.0f} % of the variance"
        )
        canvas.style(ax, "principal axis", "variance along it")
        canvas.legend(ax, maths=True)
