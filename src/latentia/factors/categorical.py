"""Categorical: one of K codes, or a vector of them, their logits from a net, learnt, or uniform."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution, Independent

from .._recorded import recorded
from ..codings import OneHot
from ..factor import Moments, out_dims
from ..nets import Constant
from ..noise import BoundNoise
from ._tabular import Tabular, log_dirichlet, log_probabilities, plain, pseudo_counts, refuse_large
from .priors import Dirichlet


class LogitCategorical(TorchCategorical):
    """Categorical: log p(k) = log pi_k of codes; of weights z on them, `[..., K]`, sum_k z_k log pi_k."""

    def log_prob(self, value: Tensor) -> Tensor:
        if value.is_floating_point():
            return (value * self.logits).sum(-1)
        return super().log_prob(value)  # type: ignore[no-any-return, no-untyped-call]


@recorded
class Categorical(Tabular):
    """p(k | parents) = softmax(net(parents))_k, k an integer code `[*lead, B]`.

    With event=N it is a vector of N codes, independent given the parents, `[*lead, B, N]`; the net has N x K
    outputs, the K logits of the first code first. A sample is argmax(logits + Gumbel noise). Categorical(K)
    is a root factor with learnt logits; `logits="uniform"` fixes them at 1/K. With Constant or a Table given
    one discrete parent, maximum likelihood is counting, pi_k = n_k / n, and with a Dirichlet prior it is MAP,
    (n_k + a_k - 1) / sum_j (n_j + a_j - 1).

    classes: K, found in the net's `out_shape` where it has one. Raises ValueError for a net whose outputs are
    no multiple of the event's entries.
    """

    coding: OneHot

    def __init__(
        self,
        net: nn.Module | int,
        given: str | Sequence[str] = (),
        *,
        logits: str = "learnt",
        classes: int | None = None,
        event: int | Sequence[int] = (),
    ) -> None:
        if logits not in ("learnt", "uniform"):
            raise ValueError(f"logits must be 'learnt' or 'uniform', got {logits!r}")
        shape = (event,) if isinstance(event, int) else tuple(event)
        entries = math.prod(shape)
        if isinstance(net, int):
            net = Constant(entries * net)
            net.requires_grad_(logits == "learnt")
        if classes is None:
            outputs = getattr(net, "out_shape", None)
            if outputs is None:
                raise ValueError("Categorical: the net does not say its output's shape; pass classes=K")
            classes, rest = divmod(math.prod(outputs), entries)
            if rest:
                raise ValueError(
                    f"Categorical of event {shape}: {math.prod(outputs)} outputs of its net are no whole "
                    f"number of logits for each of {entries} codes"
                )
        super().__init__(net, given, event=shape)
        self.classes = classes
        self.coding = OneHot(classes, shape)

    def check(self, name: str, value: Tensor) -> None:
        if value.is_floating_point() or int(value.min()) < 0 or int(value.max()) >= self.classes:
            raise ValueError(
                f"{name!r} must hold integer codes from 0 to {self.classes - 1}, got {value.dtype}"
            )

    def distribution(self, *parents: Tensor) -> Distribution:
        out = self.output(*parents)
        batch = out.shape[: out.ndim - out_dims(self.net, 1)]
        codes = LogitCategorical(logits=out.reshape(*batch, *self.event, self.classes), validate_args=False)
        return Independent(codes, len(self.event), validate_args=False) if self.event else codes

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return torch.argmax(logits_of(distribution) + noise((*self.event, self.classes), "gumbel"), dim=-1)

    def mean(self, distribution: Distribution) -> Tensor:
        """The most probable code."""
        return logits_of(distribution).argmax(-1)

    def support(self) -> Tensor:
        """The codes 0 ... K - 1, `[K]`; of N codes every vector, `[K^N, N]`, the first entry the slowest."""
        size = math.prod(self.event)
        name = f"Categorical of event {self.event}" if self.event else "Categorical"
        refuse_large(name, self.classes**size)
        device = next((p.device for p in self.parameters()), None)
        places = self.classes ** torch.arange(size - 1, -1, -1, device=device)
        numbers = torch.arange(self.classes**size, device=device).unsqueeze(-1)
        return (numbers // places % self.classes).reshape(-1, *self.event)

    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """count: expected counts of the codes in each state of the parent, `[R, N * K]`."""
        hot = self.coding.encode(plain(self, value)).double()
        if observed is not None:
            hot = hot * self.coding.spread(observed)
        return {"count": self.sums(hot, parents, weight)}

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """Logits at log(n_k + a_k - 1) up to a constant; a state that has neither count nor prior stays."""
        counts = statistics["count"].reshape(-1, self.classes)  # [R * N, K]
        counts = counts + pseudo_counts(self._dirichlet(prior), self.classes, self.rows)
        known, before = counts.sum(-1, keepdim=True) > 0, self.rows.double().reshape(counts.shape)
        rows = torch.where(known, log_probabilities(counts), before)
        self.set_rows(rows.reshape(self.rows.shape))

    def log_prior(self, prior: object) -> Tensor:
        """sum_k (a_k - 1) log pi_k over the states of the parent: of a Dirichlet."""
        return log_dirichlet(self._dirichlet(prior), self.rows.reshape(-1, self.classes))

    @property
    def free_parameters(self) -> int:
        """K - 1 for each code and state of the parent: probabilities sum to 1."""
        if not self.has_closed_form:
            return super().free_parameters
        return self.rows.numel() // self.classes * (self.classes - 1) if self.learns_rows else 0

    def _dirichlet(self, prior: object | None) -> Dirichlet:
        if prior is None:
            return Dirichlet(1.0)
        if isinstance(prior, Dirichlet):
            return prior
        raise TypeError(f"the conjugate prior of a Categorical is a Dirichlet, got {prior}")


def logits_of(distribution: Distribution) -> Tensor:
    """The normalised logits of a Categorical's distribution, `[*lead, B, *event, K]`."""
    codes: Any = distribution.base_dist if isinstance(distribution, Independent) else distribution
    logits: Tensor = codes.logits
    return logits
