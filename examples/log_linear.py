"""A log-linear model with hidden classes, fitted by EM: expected counts are matched.

    p(z) p(x | z),     p(x | z) = exp(w . f(x, z)) / sum_x' exp(w . f(x', z))

x is ten answers, yes or no, so that all 1,024 of its values can be listed. The unary features x_d 1[z = k]
alone would make a mixture of Bernoullis, in which the class explains all that the answers have in common. The
pairwise features x_d x_e, shared by the classes, let answers depend on each other directly.

    d/dw E_q[log p(x, z)] = E_q(z|x)[f(x, Z)] - E_q(z|x)[E_p(x|z)[f(X, Z)]]

The E-step lists the classes, p(z | x). In the M-step w climbs until this gradient, summed over the rows, is
zero: each feature then occurs as often under the model as, by the posterior, in the data. The likelihood is
exact, by listing, and so the models can be compared: pairs do more than further classes.

Data: ten columns of nltcs.csv (disabilities, yes or no) from $LATENTIA_DATA or ../shared/data, if it is
there; otherwise rows drawn from a log-linear model.

Schulz & Aziz (2018), "Variational inference and deep generative models", a tutorial; Berger, Della Pietra &
Della Pietra (1996), "A maximum entropy approach to natural language processing".
"""

from __future__ import annotations

import os
from pathlib import Path

import cyclopts
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor

import latentia as lt

HERE = Path("runs/examples/log_linear")
COLUMNS, CLASSES = 10, 3


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit both kinds of model with 1 to 8 classes. budget: a fraction of the full runs' iterations."""
    data = answers()
    steps = max(2, int(60 * budget))
    evidence: dict[str, dict[int, float]] = {"Bernoulli mixture": {}, "log-linear, with pairs": {}}
    for classes in (1, 2, 3, 4, 6, 8):
        for name, model, starts in (
            ("Bernoulli mixture", lt.models.bernoulli_mixture(COLUMNS, classes), 3 if budget >= 1 else 1),
            ("log-linear, with pairs", lt.models.log_linear(COLUMNS, classes), 1),
        ):
            lt.fit(model, data, steps=steps, starts=starts, progress=False)
            free = sum(model.p[variable].free_parameters for variable in model.p)
            evidence[name][free] = lt.log_evidence(model, data.test).mean
            print(f"{name}, classes = {classes}, parameters = {free}, log p(x) = {evidence[name][free]:.4f}")
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_evidence(left, evidence)
    model = lt.models.log_linear(COLUMNS, CLASSES, seed=0).double()
    x = data.train.batch()["x"].double()
    draw_counts(right, *expected_counts(model, x), "#bbbbbb", "before")
    lt.fit(model, data, steps=2 * steps, start="model", tol=1e-9, progress=False)
    in_data, under_model = expected_counts(model, x)
    draw_counts(right, in_data, under_model, "#0072b2", "after EM")
    print(
        f"Largest difference of expected counts: {(in_data - under_model).abs().max():.3f} of {len(x):,} rows"
    )
    check_enumeration(model, data)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "log_linear.png", dpi=160)
    return [out / "log_linear.png"]


def answers() -> lt.data.Data:
    """Ten binary columns."""
    path = Path(os.environ.get("LATENTIA_DATA", "../shared/data")) / "nltcs.csv"
    if path.exists():
        return lt.load_data(path, types={f"d{column}": "ignored" for column in range(COLUMNS, 16)})
    print(f"{path} is not there: rows are drawn from a log-linear model instead")
    return lt.load_data(lt.models.log_linear(COLUMNS, CLASSES, seed=1).sample(4000))


@torch.no_grad()
def expected_counts(model: lt.Model, x: Tensor) -> tuple[Tensor, Tensor]:
    """How often each feature occurs, [F]: in the rows, by p(z | x), and under the model, classes as often."""
    factor, weight = model.p["x"], model.q.expect({"x": x}).weight  # [Z, N]
    codes = torch.arange(len(weight)).unsqueeze(1)
    in_data = factor.statistics(x, codes, weight=weight)["counts"]  # [X, Z]
    under_model = factor.log_table().exp() * weight.sum(1)
    return factor.features.sums(in_data), factor.features.sums(under_model)


@torch.no_grad()
def check_enumeration(model: lt.Model, data: lt.data.Data) -> None:
    """log p(x) of the test rows from the list of all values of x, beside the library's."""
    probability = model.p["x"].log_table().exp() @ model.p["z"].distribution().probs  # [1024]
    x = data.test.batch()["x"].double()
    place = (x @ 2.0 ** torch.arange(COLUMNS - 1, -1, -1).double()).long()
    listed, own = probability.log()[place].mean(), lt.log_evidence(model, data.test)
    print(f"p(x) summed over {len(probability):,} values: {probability.sum():.12f}")
    print(f"log p(x) of test rows, listed: {listed:.6f}; log_evidence: {own.mean:.6f} ({own.direction})")


def draw_evidence(ax: Axes, evidence: dict[str, dict[int, float]]) -> None:
    """Held-out evidence against the number of free parameters."""
    for (name, found), colour, marker in zip(evidence.items(), ("#d55e00", "#0072b2"), "so", strict=True):
        ax.plot(*zip(*found.items(), strict=True), color=colour, marker=marker, lw=1.3, ms=5, label=name)
    best = max(value for found in evidence.values() for value in found.values())
    ax.set_ylim(best - 0.6, best + 0.05)
    ax.set_xlabel("free parameters, of 1, 2, 3, 4, 6 and 8 classes")
    ax.set_ylabel("log p(x), nats per test row")
    ax.set_title("Pairs do more than classes", loc="left", fontsize=11)
    ax.legend(frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)


def draw_counts(ax: Axes, in_data: Tensor, under_model: Tensor, colour: str, label: str) -> None:
    """A point for each feature: on the diagonal its expected counts are matched."""
    ax.loglog(in_data, under_model, "o", color=colour, ms=4, label=label)
    ax.loglog(in_data.sort().values, in_data.sort().values, color="#222222", lw=0.8, zorder=0)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("expected count in the data")
    ax.set_ylabel("expected count under the model")
    ax.set_title(f"Features of {CLASSES} classes", loc="left", fontsize=11)
    ax.legend(frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
