"""What was asked for beside the evidence of real rows: simulated rows, gaps, calibration, information."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from .._words import counted
from ..diagnostics import Calibration, Gaps, Information, Reconstruction
from .bounds import error
from .measured import Evaluation
from .output import Shown, grid


def requested(found: Evaluation) -> Iterator[list[Shown]]:
    """A block for each."""
    if found.simulated is not None:
        yield list(sandwiched(found))
    if found.gaps is not None:
        yield list(gaps(found.gaps, found.example))
    if found.calibration is not None:
        yield list(calibrated(found.calibration))
    if found.information is not None:
        yield list(informed(found.information))
    if found.reconstruction:
        yield list(reconstructed(found.reconstruction))


def sandwiched(found: Evaluation) -> Iterator[Shown]:
    """Bounds from both sides of simulated rows."""
    both = found.simulated
    if both is None:
        return
    rows = counted(len(both.lower.values), "row")
    table = grid(f"{rows} simulated from the model", f"nats per {found.example}", "± rows", "± Monte Carlo")
    for name, one in (("AIS, lower bound", both.lower), ("reverse AIS, upper bound", both.upper)):
        table.add_row(name, f"{one.mean:.3f}", error(one.se), error(one.mc_error))
    table.add_row("gap", f"{both.gap:.3f}", error(both.gap_error), "")
    yield table
    yield Text(
        f"Bidirectional Monte Carlo, {found.plan.annealed}. Only of rows that the model made itself is there "
        f"an upper bound: so far may this annealing be off on them, and on others as far as they are alike. "
        f"They are not the rows of the table above, and not to be compared with it."
    )


def gaps(found: Gaps, example: str) -> Iterator[Shown]:
    """Where the distance between log p(x) and the ELBO comes from."""
    family, evidence = type(found.family).__name__.lower(), found.evidence
    rows = counted(len(found.best.values), "row")
    table = grid(f"gaps of q, {rows}", f"nats per {example}", "± rows", "± Monte Carlo")
    first = f"{evidence.side}, {'exact' if evidence.direction == 'exact' else evidence.name}"
    table.add_row(first, f"{evidence.mean:.3f}", error(evidence.se), error(evidence.mc_error))
    for name, one in (
        (f"ELBO of the best {family} q", found.best),
        ("ELBO of the encoder's q", found.amortised),
        ("approximation gap", found.approximation),
        ("amortisation gap", found.amortisation),
        ("both gaps", found.total),
    ):
        table.add_row(name, f"{one.mean:.3f}", error(one.se), error(one.mc_error))
    yield table
    yield Text(
        "approximation gap: what the family of q costs, a richer one (--covariance full) would gain it; "
        "amortisation gap: what it costs that one encoder serves all rows, a larger one would gain it."
    )
    yield Text(f"{found.direction}.")
    if found.caution:
        yield Text(f"Warning: {found.caution}.")


def calibrated(found: Calibration) -> Iterator[Shown]:
    """The verdict of simulation-based calibration."""
    yield Text(f"{found.verdict}.")
    yield Text(
        f"Simulation-based calibration, {found.simulations:,} simulations from the model with {found.draws} "
        f"draws of q each; a right q fails once in {1 / found.level:.0f} times. It judges q as the posterior "
        f"of this model, not the model."
    )


def informed(found: Information) -> Iterator[Shown]:
    """The parts of the KL term."""
    table = grid("parts of the KL", "nats", "± Monte Carlo")
    named = {
        "mean KL(q(z | x) || p(z))": found.kl,
        "= mutual information I(x; z)": found.mutual_information,
        "+ marginal KL(q(z) || p(z))": found.marginal_kl,
        "total correlation of q(z)": found.total_correlation,
    }
    for name, quantity in named.items():
        if quantity is not None:
            table.add_row(name, f"{quantity.value:.3f}", error(quantity.error) if quantity.error else "")
    yield table
    yield Text(
        "I(x; z): what z tells of which row it is; marginal KL: how far the codes of all rows are from the "
        "prior, and so samples from reconstructions; total correlation: how dependent the units are."
    )
    yield Text(f"{found.bias}.")
    if found.caution:
        yield Text(f"Warning: {found.caution}.")


def reconstructed(found: dict[str, Reconstruction]) -> Iterator[Shown]:
    """The errors of reconstructions."""
    several = len(found) > 1
    for name, one in found.items():
        of = f" of {name}" if several else ""
        if one.squared is not None:
            told = _told(one.squared.mean, one.squared.se)
            yield Text(f"Reconstruction{of}: mean squared error {told}, of {one.units}.")
        if one.cross_entropy is not None:
            told = _told(one.cross_entropy.mean, one.cross_entropy.se)
            yield Text(f"Reconstruction{of}: cross-entropy {told} nats a row.")
    yield Text("At the mean of q(z | x); ± over rows.")


def _told(mean: float, se: float) -> str:
    shown = error(se)
    return f"{mean:.4g} ± {shown}" if shown else f"{mean:.4g}"
