"""The latent units of an evaluation, as a table for people: what each tells of x, and which are active."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from ..diagnostics import ACTIVE, count_active
from ..diagnostics.layers import kl_drawn, kl_pair, latent_parents, why_no_unit_kl
from .measured import Evaluation
from .output import Shown, grid

SHOWN = 20  # units listed one by one
FEWEST = 5  # of each layer, however many layers there are
BAR = 24  # characters of the longest


def units(found: Evaluation) -> Iterator[Shown]:
    """KL and activity of the units of each latent variable, the largest first, and how many are active."""
    kls, activities = found.kl, found.activity
    names = tuple({**activities, **kls})
    table = grid("latent", *["KL, nats"] * bool(kls), *["Var E[u | x]"] * bool(activities))
    table.add_column("")
    longest = max((float(kl.max()) for kl in kls.values()), default=0.0)
    shown, more = max(SHOWN // len(names), FEWEST), []
    for name in names:
        kl, variance = (of[name].flatten().tolist() if name in of else [] for of in (kls, activities))
        by = kl or variance
        order = sorted(range(len(by)), key=lambda i, by=by: -by[i])  # type: ignore[misc]
        for i in order[:shown]:
            cells = [of[i : i + 1] for of, there in ((kl, kls), (variance, activities)) if there]
            bar = "█" * round(BAR * kl[i] / longest) if kl and longest > 0 else ""
            idle = "idle" if variance and variance[i] <= ACTIVE else ""
            numbers = (f"{cell[0]:.3f}" if cell else "" for cell in cells)
            table.add_row(f"{name}[{i}]", *numbers, f"{bar} {idle}".strip())
        if rest := order[shown:]:
            of_name = f" of {name}" if len(names) > 1 else ""
            more.append(
                f"{len(rest):,} more{of_name}"
                + (f", {sum(kl[i] for i in rest):.3f} nats together" if kl else "")
            )
    yield table
    if more:
        yield f"and {'; '.join(more)}"
    yield from _of_kl(found, names)
    if activities:
        yield from _of_activity(found)


def _of_kl(found: Evaluation, names: tuple[str, ...]) -> Iterator[Text]:
    """What the column of KL is, and which variables have none."""
    model = found.opened.model
    if not found.kl:
        why = (
            "the exact posterior need not factorise"
            if found.opened.is_exact
            else "it has no closed form that splits"
        )
        yield Text(f"KL per dimension: there is none, since {why} over the latent dimensions.")
        return
    pairs = {name: kl_pair(model, name) for name in found.kl}
    for pair in dict.fromkeys(pairs.values()):
        alike = tuple(name for name in pairs if pairs[name] == pair)
        of = f" of {', '.join(alike)}" if len(names) > 1 else ""
        what = f"{pair[0]} says of x" if pair[0] == "q(u | x)" else f"{pair[0]} says"
        drawn = "".join(f" and draws of {v}" for v in kl_drawn(model, alike))
        yield Text(f"KL{of}: what {what} beyond {pair[1]}, on average over the rows{drawn}.")
    for name in names:
        if name not in found.kl:
            yield Text(f"{why_no_unit_kl(model, name)}: kl({name}) of the ELBO is its whole.")


def _of_activity(found: Evaluation) -> Iterator[Text]:
    """How many units are active, by layer where there are several; and what the posterior means are."""
    model, active = found.opened.model, {name: v > ACTIVE for name, v in found.activity.items()}
    used, total = count_active(active)
    layers = [f"{int(each.sum())} of {each.numel()} of {name}" for name, each in active.items()]
    split = f": {', '.join(layers)}" if len(layers) > 1 else ""
    rule = f"variance of E[u | x] over rows above {ACTIVE}; Burda et al., 2016"
    yield Text(f"Active units: {used} of {total}{split} ({rule}).")
    for name, parents in latent_parents(model).items():
        if name in active:
            yield Text(f"E[u | x] of {name} is taken at the mean of {' and '.join(parents)} (mean field).")
