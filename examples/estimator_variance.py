"""The gradient of the same bound by each estimator: how much it scatters, and whether it is right on average.

    grad_lambda E_q(z | x)[log p(x, z) - log q(z | x)],   z binary

z = 1[u < pi] has no derivative, so the gradient is estimated from values of f = log p - log q. Eight binary
units are few enough to add up all 256 states, so the true gradient is known, and with it each estimator's
variance and bias, over all weights of q together.

    REINFORCE     f grad log q: unbiased, and the more scattered the larger |f|
    its baselines the mean of the other draws; a network of x (NVIL): unbiased still
    DisARM        differences of f between opposite draws: unbiased; ARM is the same before an average
    Concrete      the gradient of a relaxed z: little scatter, but biased, the less the lower the temperature
    straight-through  f at the hard z, the gradient of the relaxed one: biased

All use the same number of evaluations of f for each digit. The model is a sigmoid belief net on the
embedded digits, looked at as it starts and after some steps of training.

Williams (1992); Mnih & Gregor (2014); Yin & Zhou (2019); Dong, Mnih & Tucker (2020); Maddison, Mnih & Teh
(2017).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cyclopts
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import latentia as lt

HERE = Path("runs/examples/estimator_variance")
UNITS, DIGITS, DRAWS = 8, 20, 4  # evaluations of f for each digit


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Measure before and after training. budget: a fraction of the full run's steps and repetitions."""
    digits = lt.load_data("digits", binarise="threshold", seed=0)
    model = lt.models.helmholtz_machine(data=digits, layers=(UNITS,), seed=0)
    learning = lt.Reinforce(model, "network")
    repetitions, steps = max(3, int(400 * budget)), max(1, int(3000 * budget))
    values = {"x": digits.test.batch()["x"][:DIGITS]}
    found = {}
    for when in ("at the start", f"after {steps:,} steps"):
        if found:
            lt.fit(model, digits, learning, steps=steps, lr=3e-3, patience=None, progress=False)
        found[when] = measured(model, learning.eval(), values, repetitions)
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    draw(figure.subplots(), found)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "estimator_variance.png", dpi=160)
    return [out / "estimator_variance.png"]


def measured(
    model: lt.Model, learning: lt.Reinforce, values: dict[str, Tensor], repetitions: int
) -> dict[str, tuple[float, float]]:
    """Each estimator's standard deviation and bias, in lengths of the true gradient."""
    p, q = model.p, model.q
    weights = list(q.parameters())
    others = lt.Reinforce(model, "leave_one_out")
    estimators: dict[str, tuple[Any, lt.Joint, int]] = {
        "REINFORCE": (lt.Reinforce(model, "none"), q, DRAWS),
        "REINFORCE, mean of the others": (others, q, DRAWS),
        "REINFORCE, network of x": (learning, q, DRAWS),
        "ARM": (lt.arm, q, DRAWS // 2),
        "DisARM": (lt.disarm, q, DRAWS // 2),
        "straight-through": (lt.elbo, lt.Joint(h1=lt.StraightThrough(q["h1"])), DRAWS),
    }
    for heat in (1.0, 0.3, 0.1):
        relaxed = lt.Joint(h1=lt.Concrete(q["h1"], temperature=heat))
        estimators[f"Concrete, temperature {heat}"] = (lt.elbo, relaxed, DRAWS)
    truth = gradient(lt.elbo(p, q, values, lt.Noise(0), enumerate="h1"), weights)
    found = {}
    for name, (objective, inference, draws) in estimators.items():
        seen = torch.stack(
            [
                gradient(objective(p, inference, values, lt.Noise(seed), samples=draws), weights)
                for seed in range(repetitions)
            ]
        )  # [R, W]
        variance = float(seen.var(0).sum())
        squared_bias = float((seen.mean(0) - truth).square().sum()) - variance / repetitions
        scale = float(truth.norm())
        found[name] = variance**0.5 / scale, max(0.0, squared_bias) ** 0.5 / scale
        print(f"{name:32s} standard deviation {found[name][0]:8.3f}, bias {found[name][1]:6.3f}")
    return found


def gradient(bound: lt.Bound, weights: list[Tensor]) -> Tensor:
    """The gradient of the surrogate's mean for all weights of q, `[W]`."""
    parts = torch.autograd.grad(bound.surrogate.mean(), weights)
    return torch.cat([part.flatten() for part in parts])


def draw(ax: Axes, found: dict[str, dict[str, tuple[float, float]]]) -> None:
    """Filled: standard deviation; hollow: bias, where it is not lost in the noise of its estimate."""
    colours = ("#0072b2", "#d55e00")
    names = list(next(iter(found.values())))
    for (when, numbers), colour in zip(found.items(), colours, strict=True):
        scatter, bias = zip(*numbers.values(), strict=True)
        places = list(range(len(names)))
        ax.plot(scatter, places, "o", color=colour, label=f"standard deviation, {when}")
        shown = [(b, place) for b, s, place in zip(bias, scatter, places, strict=True) if b > 0.1 * s]
        ax.plot(*zip(*shown, strict=True), "D", mfc="none", color=colour, label=f"bias, {when}")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)
    ax.set_xlabel("in lengths of the true gradient")
    ax.set_title(f"Gradients of one bound, {DRAWS} evaluations of f each", loc="left", fontsize=11)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
