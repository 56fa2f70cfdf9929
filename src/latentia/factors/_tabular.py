"""What discrete families share: closed-form maximum likelihood from weighted sums, per state of the parent.

R states of the parent (1 for a root factor), G features, K codes; `[*lead, B]` as in a factor's contract.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..factor import LARGEST_SUPPORT, Factor, Moments, NotEnumerableError
from ..nets import Constant, Table
from .priors import Beta, Dirichlet

SMALLEST_PROBABILITY = 1e-12
"""No probability is estimated below it, nor above 1 less it.

A value never seen then has a log probability of -27.6 nats instead of -inf, so that rows which hold it have a
finite evidence and no 0 log 0 arises; on what is estimated it tells less than 1e-12 nats per example.
"""


class Tabular(Factor):
    """A factor whose net may be a table: a row of parameters for each state of a discrete parent, or one row.

    Its maximum likelihood is closed-form then, and only then.
    """

    @property
    def has_closed_form(self) -> bool:
        net, dims = self.net, self._parent_dims
        if type(net) is Constant:
            return not self.given
        return type(net) is Table and len(dims) == 1 and dims[0] in (None, 0)

    @property
    def rows(self) -> Tensor:
        """The table, `[R, outputs]`. Raises TypeError where the net is none."""
        net = self.net
        if self.has_closed_form and isinstance(net, Table):
            return net.weight
        if self.has_closed_form and isinstance(net, Constant):
            return net.value.reshape(1, -1)
        raise TypeError(
            f"{type(self).__name__} has closed-form estimates, and conjugate priors on its parameters, only "
            f"as a root with Constant or with a Table given one discrete parent"
        )

    @property
    def learns_rows(self) -> bool:
        """Whether the table is learnt; a frozen one stays as it is."""
        return self.net is not None and any(p.requires_grad for p in self.net.parameters())

    def set_rows(self, rows: Tensor) -> None:
        """Write the table `[R, outputs]`, unless it is frozen."""
        if self.learns_rows:
            self.rows.copy_(rows)

    def sums(self, features: Tensor, parents: Sequence[Tensor | Moments], weight: Tensor) -> Tensor:
        """sum over examples and lead of weight 1[parent = r] features, float64 `[R, G]`.

        features `[*lead, B or 1, G]`, the parent's codes `[*lead, B or 1]` and weight `[*lead, B]` need only
        broadcast: a product of matrices sums out what the parent does not vary over, and nothing of the size
        lead x B x G arises.
        """
        states = len(self.rows)
        codes = self._codes(parents, weight)
        shape = torch.broadcast_shapes(weight.shape, codes.shape, features.shape[:-1])  # type: ignore[no-untyped-call]
        size = len(shape)
        weight = weight.double().expand(shape)
        codes = codes.reshape((1,) * (size - codes.ndim) + codes.shape)
        features = features.double().reshape((1,) * (size + 1 - features.ndim) + features.shape)
        coded = {d for d in range(size) if codes.shape[d] > 1}
        valued = {d for d in range(size) if features.shape[d] > 1}
        parts = (coded & valued, coded - valued, valued - coded)
        idle = [d for d in range(size) if d not in coded | valued]
        if idle:
            weight = weight.sum(idle, keepdim=True)
        order = [d for part in parts for d in sorted(part)] + idle
        blocks = [math.prod(shape[d] for d in part) for part in parts]
        weighed = weight.permute(order).reshape(blocks)  # [both, coded, valued]
        kept = features.permute(*order, size).reshape(blocks[0], blocks[2], features.shape[-1])
        by_code = (weighed @ kept).flatten(0, 1)  # [both * coded, G]
        chosen = torch.nn.functional.one_hot(codes.permute(order).reshape(-1), states)
        return chosen.to(by_code).mT @ by_code

    def _codes(self, parents: Sequence[Tensor | Moments], weight: Tensor) -> Tensor:
        if not parents:
            return torch.zeros((), dtype=torch.int64, device=weight.device)
        codes = parents[0]
        if isinstance(codes, Moments) or codes.is_floating_point():
            raise TypeError(
                f"{type(self).__name__} counts the states of {self.given[0]!r}, which must be integer codes"
            )
        return codes


def plain(factor: Factor, value: Tensor | Moments) -> Tensor:
    """The value, which is known or enumerated, as these families have no Gaussian posterior."""
    if isinstance(value, Moments):
        raise TypeError(f"{type(factor).__name__} takes values, not a Gaussian posterior")
    return value


def check_unit_interval(name: str, value: Tensor, family: str, remedy: str) -> None:
    """Raise ValueError for values below 0 or above 1."""
    low, high = float(value.min()), float(value.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"{name!r} holds values from {low:.4g} to {high:.4g}, and {family} needs [0, 1]: {remedy}"
        )


def is_binary(value: Tensor) -> bool:
    """Whether there are zeros and ones only."""
    return bool(((value == 0) | (value == 1)).all())


def seen_of(observed: Tensor, entries: Tensor) -> Tensor:
    """A mask `[B]` or `[B, D]` as one for entries `[..., B, D]`."""
    return (observed.unsqueeze(-1) if observed.ndim == 1 else observed.flatten(1)).expand(entries.shape)


def log_probabilities(counts: Tensor) -> Tensor:
    """log(counts / total) along the last dimension, no probability below `SMALLEST_PROBABILITY`."""
    return (counts / counts.sum(-1, keepdim=True)).clamp(min=SMALLEST_PROBABILITY).log()


def log_odds(ones: Tensor, total: Tensor) -> Tensor:
    """log(p / (1 - p)) at p = ones / total, p and 1 - p not below `SMALLEST_PROBABILITY`."""
    p = (ones / total).clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return p.log() - (-p).log1p()


def pseudo_counts(prior: Dirichlet, classes: int, like: Tensor) -> Tensor:
    """a - 1 for each code, `[K]`: what a Dirichlet adds to the counts. Raises ValueError for another K."""
    concentration = prior.concentration
    if not isinstance(concentration, int | float) and len(concentration) != classes:
        raise ValueError(f"{prior} has {len(concentration)} concentrations, and there are {classes} codes")
    return torch.as_tensor(concentration, dtype=torch.float64, device=like.device).expand(classes) - 1


def log_dirichlet(prior: Dirichlet, logits: Tensor) -> Tensor:
    """sum (a - 1) log pi over states and codes, pi = softmax(logits), logits `[R, K]`: a scalar."""
    log_p = torch.log_softmax(logits.double(), -1)
    return (pseudo_counts(prior, logits.shape[-1], logits) * log_p).sum()


def log_beta(prior: Beta, logits: Tensor) -> Tensor:
    """sum (a - 1) log pi + (b - 1) log(1 - pi) over all entries, pi = sigmoid(logits): a scalar."""
    log_sigmoid, logits = torch.nn.functional.logsigmoid, logits.double()
    return ((prior.a - 1) * log_sigmoid(logits) + (prior.b - 1) * log_sigmoid(-logits)).sum()


def inverse_softplus_of(y: Tensor) -> Tensor:
    """The x with log(1 + exp(x)) = y, for each y > 0."""
    return y + (-(-y).expm1()).log()


def refuse_large(family: str, values: int) -> None:
    """Raise NotEnumerableError for more values than are enumerated."""
    if values > LARGEST_SUPPORT:
        power = values.bit_length() - 1
        shown = f"{values:,}" if values < 10**12 else f"{'' if values == 2**power else 'over '}2^{power}"
        limit = f"{LARGEST_SUPPORT:,}"
        raise NotEnumerableError(f"{family} has {shown} values, and at most {limit} are enumerated")
