"""Several layers of latent variables: which distributions their units' numbers are of, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exact import Exact

if TYPE_CHECKING:
    from ..model import Model


def latent_parents(model: Model) -> dict[str, tuple[str, ...]]:
    """The latent variables that each q(v | .) depends on, where there are any: `Model.encode` has them at
    their own means. Exact posteriors have none, as those of single variables are their marginals.
    """
    if model.q is None or isinstance(model.q, Exact):
        return {}
    q, latent = model.q, set(model.latent)
    found = {name: tuple(v for v in q.variables if v in latent & q.ancestors(name)) for name in model.latent}
    return {name: parents for name, parents in found.items() if parents}


def kl_pair(model: Model, name: str) -> tuple[str, str]:
    """The two distributions whose KL a unit u of this variable has: ("q(u | x)", "p(u)") of one layer,
    ("q(u | h1)", "p(u)") of a second layer h2, a mean over draws of h1.
    """
    given = latent_parents(model).get(name)
    behind = "x" if given is None or model.q is None else ", ".join(model.q[name].given)
    before = ", ".join(model.p[name].given)
    return f"q(u | {behind})", f"p(u | {before})" if before else "p(u)"


def kl_drawn(model: Model, names: tuple[str, ...]) -> tuple[str, ...]:
    """The latent variables over whose draws the KL of these variables' units is a mean."""
    behind = latent_parents(model)
    drawn = {v for name in names for v in (*behind.get(name, ()), *model.p[name].given) if v in model.latent}
    return tuple(v for v in (model.q or ()) if v in drawn)


def why_no_unit_kl(model: Model, name: str) -> str:
    """Why this variable has no KL of single units, as a sentence without its stop."""
    later = [] if model.q is None else sorted(set(model.p[name].given) & model.q.descendants(name))
    reason = (
        f"its prior depends on {' and '.join(later)}, which q draws after it"
        if later
        else "its KL has no closed form that splits over them"
    )
    return f"{name} has no KL of single units, as {reason}"
