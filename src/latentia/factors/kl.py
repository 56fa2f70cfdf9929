"""Closed-form KL divergences between the families, KL(q || p) = E_q[log q - log p], in nats."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent

from ..numerics import sum_event
from .bernoulli import LogitBernoulli
from .gaussian import DiagonalNormal, FullNormal, LowRankNormal, diagonal_kl, gaussian_kl


def has_closed_kl(q: Distribution, p: Distribution) -> bool:
    """Whether `closed_kl(q, p)` exists."""
    gaussian = _is_gaussian(q) and _is_gaussian(p)
    discrete = _same_base(q, p, LogitBernoulli) or _same_base(q, p, Categorical) or _both(q, p, Categorical)
    return gaussian or discrete


def closed_kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q || p), `[*lead, B]`. Raises TypeError when there is no closed form."""
    if _is_gaussian(q) and _is_gaussian(p):
        return gaussian_kl(q, p)
    entries = closed_kl_entries(q, p)
    if entries is not None:
        return sum_event(entries, len(q.event_shape))
    raise TypeError(f"no closed-form KL between {q} and {p}")


def closed_kl_entries(q: Distribution, p: Distribution) -> Tensor | None:
    """KL by entry, `[*lead, B, *event]`, where both factorise over the event's entries; None otherwise."""
    if _same_base(q, p, DiagonalNormal):
        return diagonal_kl(q.base_dist, p.base_dist)  # type: ignore[attr-defined]
    if _same_base(q, p, LogitBernoulli):
        log_q, log_p = q.base_dist.logits, p.base_dist.logits  # type: ignore[attr-defined]
        probs = torch.sigmoid(log_q)
        log_sigmoid = torch.nn.functional.logsigmoid
        on = probs * (log_sigmoid(log_q) - log_sigmoid(log_p))
        return on + (1 - probs) * (log_sigmoid(-log_q) - log_sigmoid(-log_p))
    if _same_base(q, p, Categorical):
        return _of_codes(q.base_dist, p.base_dist)  # type: ignore[attr-defined]
    if isinstance(q, Categorical) and isinstance(p, Categorical):
        return _of_codes(q, p)
    return None


def _of_codes(q: Categorical, p: Categorical) -> Tensor:
    return (q.probs * (q.logits - p.logits)).sum(-1)


def _is_gaussian(d: Distribution) -> bool:
    if isinstance(d, Independent):
        return isinstance(d.base_dist, DiagonalNormal)
    return isinstance(d, FullNormal | LowRankNormal)


def _same_base(q: Distribution, p: Distribution, family: type) -> bool:
    return (
        isinstance(q, Independent)
        and isinstance(p, Independent)
        and isinstance(q.base_dist, family)
        and isinstance(p.base_dist, family)
        and q.reinterpreted_batch_ndims == p.reinterpreted_batch_ndims
    )


def _both(q: Distribution, p: Distribution, family: type) -> bool:
    return isinstance(q, family) and isinstance(p, family)
