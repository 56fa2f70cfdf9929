"""What each latent dimension carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._values import Floats, some_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..model import Model

FEWEST = 6  # places for bars, however few there are
MOST = 60  # bars that carry a name


class KLDisplay(Display):
    """KL of each latent unit, largest first, and its activity beside the threshold of an active unit.

    kl        `[U]`, the `divergence` in nats, mean over rows
    activity  `[U]`, Var_x E_q(u|x)[u]: a unit is active where this is above `threshold`
    names     `[U]`, of the units, in mathematical notation
    of        the variables that the units are entries of, where there are several
    note      sentences on the other variables, and on what the means are

    Burda, Grosse & Salakhutdinov (2016), section 5.2.
    """

    title = "Latent units"

    def __init__(
        self,
        kl: ArrayLike,
        activity: ArrayLike,
        *,
        names: Sequence[str] = (),
        threshold: float = 0.01,
        rows: int | None = None,
        of: Sequence[str] = (),
        divergence: str = "KL(q(u | x) ‖ p(u))",
        note: str = "",
    ) -> None:
        self.kl: Floats = np.asarray(kl, dtype=np.float64)
        self.activity: Floats = np.asarray(activity, dtype=np.float64)
        if self.kl.ndim != 1 or self.kl.shape != self.activity.shape:
            shapes = f"{self.kl.shape} and {self.activity.shape}"
            raise ValueError(f"kl and activity must both be [U], got {shapes}")
        self.names = tuple(names) or tuple(f"$z_{{{i}}}$" for i in range(len(self.kl)))
        self.threshold, self.rows = threshold, rows
        self.of, self.divergence, self.note = tuple(of), divergence, note

    @classmethod
    def from_model(cls, model: Model, x: Any, limit: int = 5000) -> KLDisplay:
        """At most `limit` rows. Raises DoesNotApply where no KL splits into those of single units."""
        from ..diagnostics import ACTIVE
        from ..diagnostics.units import unit_kls, unit_variances

        if not model.latent or any(not model.q[name].has_density for name in model.latent):  # type: ignore[index]
            raise DoesNotApply(f"{model.p.equation()} has no latent variable with a density q")
        rows = some_rows(model, x, limit)
        if len(rows) < 2:
            raise DoesNotApply("a variance over rows needs at least two of them")
        kls, activities = unit_kls(model, rows), unit_variances(model, rows)
        if not kls:
            raise DoesNotApply("the KL of this posterior does not split into those of single dimensions")
        shared = tuple(name for name in kls if name in activities)
        if not shared:
            raise DoesNotApply("the codes of categorical latent variables have no variance")
        names = [
            canvas.unit_name(name, i if kls[name].numel() > 1 else None)
            for name in shared
            for i in range(kls[name].numel())
        ]
        return cls(
            np.concatenate([kls[name].cpu().flatten().numpy() for name in shared]),
            np.concatenate([activities[name].cpu().flatten().numpy() for name in shared]),
            names=names,
            threshold=ACTIVE,
            rows=len(rows),
            of=shared if len(model.latent) > 1 else (),
            divergence=_divergence(model, shared),
            note=_note(model, shared, tuple(kls)),
        )

    @property
    def active(self) -> NDArray[np.bool_]:
        """Which units are active."""
        return self.activity > self.threshold

    @property
    def size(self) -> tuple[float, float]:
        return float(np.clip(2.0 + 0.32 * len(self.kl), 5.2, 14.0)), 4.6

    @property
    def caption(self) -> str:
        over = "" if self.rows is None else f" over {self.rows:,} rows"
        what = f"Units of {' and '.join(self.of)}" if self.of else "Latent units"
        return (
            f"{what} by their {self.divergence}, mean{over}: {self.kl.sum():.2f} nats in all. Below, "
            f"how much the posterior mean of each varies from row to row. {self.active.sum()} of "
            f"{len(self.kl)} units are active (variance above {self.threshold:g}); an inactive one follows "
            f"the prior and says nothing about x.{self.note}"
        )

    def draw(self, ax: Axes) -> None:
        order = np.argsort(-self.kl, kind="stable")
        place = np.arange(len(order))
        above, below = canvas.panels(ax, 2, 1)
        for name, here, colour in (
            ("active", self.active[order], canvas.BLUE),
            ("inactive", ~self.active[order], canvas.PALE),
        ):
            if here.any():
                above.bar(place[here], self.kl[order][here], color=colour, width=0.8, label=name)
                below.plot(
                    place[here],
                    np.maximum(self.activity[order][here], 1e-6),
                    "o",
                    ms=5,
                    color=colour,
                    mec=canvas.GREY,
                    mew=0.5,
                )
        label = "threshold of an active unit"
        below.axhline(self.threshold, color=canvas.VERMILLION, lw=1, ls="--", label=label)
        below.set_yscale("log")
        count = f"{self.active.sum()} of {len(self.kl)} active"
        names = " and ".join(f"${canvas.maths_name(name)}$" for name in self.of)
        what = f"Units of {names}" if names else self.title
        canvas.title(above, f"{what}: {count}, {self.kl.sum():.1f} nats")
        canvas.style(above, "", "KL, nats per example")
        canvas.style(below, "latent unit, by KL", "variance of the mean")
        for part in (above, below):
            part.set_xlim(-0.7, max(len(order), FEWEST) - 0.3)
            part.set_xticks(place, [self.names[i] for i in order])
            for text in part.get_xticklabels():
                text.set(math_fontfamily=canvas.MATHS, fontsize=canvas.LARGE, color=canvas.INK)
        above.tick_params(labelbottom=False)
        if len(order) > MOST:
            below.set_xticks([])
        canvas.legend(above)
        canvas.legend(below)


def _divergence(model: Model, names: tuple[str, ...]) -> str:
    """Between which distributions the KL of these variables' units is, and over what draws a mean."""
    from ..diagnostics.layers import kl_drawn, kl_pair

    pairs = {name: kl_pair(model, name) for name in names}
    alike = len(set(pairs.values())) == 1
    each = [f"KL({q} ‖ {p}){'' if alike else f' of {name}'}" for name, (q, p) in pairs.items()]
    drawn = " and ".join(kl_drawn(model, names))
    return f"{' and '.join(dict.fromkeys(each))}{f' at draws of {drawn}' if drawn else ''}"


def _note(model: Model, shown: tuple[str, ...], split: tuple[str, ...]) -> str:
    """What becomes of the other latent variables, and what the posterior means of several layers are."""
    from ..diagnostics.layers import latent_parents, why_no_unit_kl

    means = [
        f" Posterior means of {name} are taken at the mean of {' and '.join(parents)}."
        for name, parents in latent_parents(model).items()
        if name in shown
    ]
    others = [
        f" The codes of {name} have no variance." if name in split else f" {why_no_unit_kl(model, name)}."
        for name in model.latent
        if name not in shown
    ]
    return "".join(means + others)
