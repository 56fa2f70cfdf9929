"""What a comparison found: a row for each model, differences with paired errors, the winner.

N test rows, S seeds.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._files import atomic_write
from ..evidence import Estimate
from ..model import Model
from .words import number_words, plus_minus, verdict

SIGNS = {"exact": "", "at most": "≤ ", "at least": "≥ ", "of bounds": "~ "}


@dataclass(frozen=True, eq=False)
class Compared:
    """A model with what is known of it.

    estimates, models   of each seed that did not fail
    failures      a sentence for each seed that did
    parameters    free parameters of p; those of q are not counted
    fit_seconds, evaluation_seconds, updates   means over the seeds; None where not known
    stopped       why the fits ended: "converged", "patience", "steps" (their budget)
    doubt         why it is listed and not ranked; empty otherwise
    notes         what should be known of it
    """

    name: str
    estimates: tuple[Estimate, ...] = ()
    models: tuple[Model, ...] = field(default=(), repr=False)
    failures: tuple[str, ...] = ()
    parameters: int | None = None
    fit_seconds: float | None = None
    evaluation_seconds: float | None = None
    updates: float | None = None
    stopped: tuple[str, ...] = ()
    doubt: str = ""
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> Tensor:
        """`[N]` float64: nats of each test row in the data's units, the mean over the seeds."""
        return torch.stack([estimate.values.double() for estimate in self.estimates]).mean(0)

    @property
    def mean(self) -> float:
        """Nats per example, the mean over rows and seeds; NaN where every seed failed."""
        return float(self.values.mean()) if self.estimates else math.nan

    @property
    def se(self) -> float:
        """Standard error over the test rows: what other rows would change."""
        return _standard_error(self.values) if self.estimates else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation of the mean over seeds: what another seed would change. NaN for one seed."""
        means = torch.tensor([estimate.mean for estimate in self.estimates], dtype=torch.float64)
        return float(means.std()) if len(means) > 1 else math.nan

    @property
    def mc_error(self) -> float:
        """Monte Carlo standard error of the mean, given these rows and fits."""
        errors = [estimate.mc_error for estimate in self.estimates]
        return math.sqrt(sum(error**2 for error in errors)) / len(errors) if errors else math.nan

    @property
    def direction(self) -> str:
        """What kind of number it is: exact, lower, upper, estimate or none."""
        return self.estimates[0].direction if self.estimates else "none"

    @property
    def unranked(self) -> str:
        """Why it has no place in the order; empty where it has one."""
        if not self.estimates:
            return self.failures[0] if self.failures else "it was not evaluated"
        if self.direction == "none":
            return self.estimates[0].caution or "its number says nothing of log p(x)"
        return "its evidence is not a number" if math.isnan(self.mean) else self.doubt


@dataclass(frozen=True)
class Difference:
    """The evidence of one model less that of another, nats per example.

    se     paired standard error over the test rows: of the mean of the N differences
    seeds  standard error over the seeds; NaN where there is one seed
    kind   of the true difference: "exact", "at least" or "at most" this, or "of bounds", which says nothing
    """

    mean: float
    se: float
    seeds: float
    kind: str

    @property
    def is_clear(self) -> bool:
        """Whether it is beyond two standard errors."""
        return abs(self.mean) > 2 * self.se

    def __str__(self) -> str:
        return SIGNS[self.kind] + plus_minus(self.mean, self.se)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models on the same test rows; printed, a table and a sentence.

    rows        ranked ones first, the best at the top; then those without a place, then those that failed
    data        the name of the data
    count       how many test rows
    units       in which the densities are stated
    comparable  the fingerprint of what they are densities of
    budget      of each fit, in words
    """

    rows: tuple[Compared, ...]
    data: str
    count: int
    units: str
    comparable: str
    budget: str

    def __getitem__(self, name: str) -> Compared:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    @property
    def ranked(self) -> list[Compared]:
        """Those with a place in the order, the best first."""
        return [row for row in self.rows if not row.unranked]

    def difference(self, one: str, other: str) -> Difference:
        """The evidence of `one` less that of `other`, paired over the rows."""
        a, b = self[one], self[other]
        paired = a.values - b.values
        seeds = math.hypot(*(row.spread / math.sqrt(len(row.estimates)) for row in (a, b) if _moves(row)))
        alone = not any(_moves(row) for row in (a, b))
        kind = _kind(a.direction, b.direction)
        return Difference(float(paired.mean()), _standard_error(paired), math.nan if alone else seeds, kind)

    def behind(self, row: Compared) -> Difference | None:
        """How far a row is behind the best; None for the best, and for those without a place."""
        best = self.ranked[:1]
        if not best or row is best[0] or row.unranked:
            return None
        return self.difference(best[0].name, row.name)

    @property
    def winner(self) -> str:
        """The best model and how sure that is, in a sentence."""
        ranked = self.ranked
        lead = self.difference(ranked[0].name, ranked[1].name) if len(ranked) > 1 else None
        behind = {row.name: self.difference(ranked[0].name, row.name) for row in ranked[2:]}
        unproven = [name for name, one in behind.items() if one.kind not in ("exact", "at least")]
        return verdict(ranked, lead, self.count, unproven)

    @property
    def notes(self) -> list[str]:
        """What should be known of the numbers, by model."""
        found = []
        for row in self.rows:
            sentences = [f"not ranked: {row.unranked}"] if row.unranked and row.estimates else []
            sentences += [f"failed: {sentence}" for sentence in dict.fromkeys(row.failures)]
            if row.failures and row.estimates:
                count = len(row.failures)
                sentences.append(f"{count} of {count + len(row.estimates)} seeds failed, and are left out")
            cautions = [one.caution for one in row.estimates if one.caution and not row.unranked]
            sentences += cautions[:1]
            found += [f"{row.name}: {sentence}".rstrip(".") + "." for sentence in (*sentences, *row.notes)]
        cut = [row.name for row in self.ranked if "steps" in row.stopped]
        if cut:
            found.append(f"Cut off before they converged, so that more might help them: {', '.join(cut)}.")
        return found

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table, as text."""
        headings = ["model", "nats per row", "± seeds", "behind", "kind", "params", "s"]
        lines = []
        for row in self.rows:
            behind = self.behind(row)
            lines.append(
                [
                    row.name,
                    number_words(row) if row.estimates else "failed",
                    "" if math.isnan(row.spread) else f"{row.spread:.2g}",
                    "" if behind is None else str(behind),
                    _way(row),
                    "" if row.parameters is None else f"{row.parameters:,}",
                    "" if row.fit_seconds is None else f"{row.fit_seconds:.3g}",
                ]
            )
        return headings, lines

    @property
    def legend(self) -> list[str]:
        """What stands in the table."""
        lines = [
            f"nats per row: mean log p(x) of the same {self.count:,} test rows of {self.data}, in "
            f"{self.units}, ± standard error over rows.",
            "± seeds: standard deviation over seeds. behind: the best one's lead, ± paired standard error.",
            f"params: free parameters of p. s: seconds of a fit, with {self.budget}.",
        ]
        if any(row.direction == "lower" for row in self.ranked):
            lines.append(
                "≥ is a lower bound: the model may be better. It is behind an exact one by at most (≤) what "
                "is shown, an exact one behind it by at least (≥) that; of two bounds (~) nothing is proven."
            )
        return lines

    def grid(self) -> str:
        """The cells as text, in columns."""
        headings, lines = self.cells()
        widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
        return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in (headings, *lines))

    def table(self) -> str:
        """The table as text, with what stands in it and what should be known."""
        return "\n".join([self.grid(), "", *self.legend, *self.notes])

    def __repr__(self) -> str:
        return f"{self.table()}\n\n{self.winner}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and text, as JSON holds them; None where there is none."""
        return {
            "data": self.data,
            "rows": self.count,
            "units": self.units,
            "comparable": self.comparable,
            "budget": self.budget,
            "models": [dict(record) for record in self._records()],
            "winner": self.winner,
            "notes": self.notes,
        }

    def to_csv(self, path: str | Path) -> Path:
        """Write a line for each model, every digit of its numbers; the file is written whole or not at
        all.
        """
        path, text = Path(path), io.StringIO()
        shared = {"rows": self.count, "units": self.units, "data": self.data, "comparable": self.comparable}
        records = [{**record, "seeds": len(record["seeds"]), **shared} for record in self._records()]
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text.getvalue().encode())
        return path

    def _records(self) -> Iterator[Mapping[str, Any]]:
        places = {row.name: place for place, row in enumerate(self.ranked, start=1)}
        for row in self.rows:
            behind, first = self.behind(row), row.estimates[0] if row.estimates else None
            exact = row.direction == "exact"
            yield {
                "model": row.name,
                "place": places.get(row.name),
                "nats": _number(row.mean),
                "se": _number(row.se),
                "seeds": [_number(estimate.mean) for estimate in row.estimates],
                "seed_spread": _number(row.spread),
                "mc_error": _number(row.mc_error),
                "behind": None if behind is None else _number(behind.mean),
                "behind_se": None if behind is None else _number(behind.se),
                "behind_is": None if behind is None else behind.kind,
                "direction": row.direction if first is not None else None,
                "method": None if first is None else "exact" if exact else first.method,
                "samples": None if first is None or exact else first.samples,
                "parameters": row.parameters,
                "fit_seconds": row.fit_seconds,
                "evaluation_seconds": row.evaluation_seconds,
                "updates": row.updates,
                "stopped": " ".join(row.stopped) or None,
                "unranked": row.unranked or None,
                "failures": " ".join(dict.fromkeys(row.failures)) or None,
            }


def in_order(rows: Sequence[Compared]) -> tuple[Compared, ...]:
    """The rows as a comparison lists them."""

    def place(row: Compared) -> tuple[bool, bool, float]:
        return not row.estimates, bool(row.unranked), 0.0 if row.unranked else -row.mean

    return tuple(sorted(rows, key=place))


def _way(row: Compared) -> str:
    """How the number was found: the sign before it says what kind it is."""
    if not row.estimates or row.direction in ("exact", "none"):
        return row.direction if row.estimates else ""
    return row.estimates[0].name


def _kind(one: str, other: str) -> str:
    """What the difference of two numbers says of the true one, by their directions."""
    least = one in ("exact", "lower") and other in ("exact", "upper")
    most = one in ("exact", "upper") and other in ("exact", "lower")
    return {(True, True): "exact", (True, False): "at least", (False, True): "at most"}.get(
        (least, most), "of bounds"
    )


def _moves(row: Compared) -> bool:
    return not math.isnan(row.spread)


def _standard_error(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Names to the left, numbers to the right."""
    left = (0, 4)
    return [
        cell.ljust(width) if i in left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
