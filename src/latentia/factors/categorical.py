"""Categorical: one of K codes, their logits from a net, learnt, or uniform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution

from .._recorded import recorded
from ..codings import OneHot
from ..factor import Moments
from ..nets import Constant
from ..noise import BoundNoise
from ._tabular import Tabular, log_dirichlet, log_probabilities, plain, pseudo_counts, refuse_large, seen_of
from .priors import Dirichlet


@recorded
class Categorical(Tabular):
    """p(k | parents) = softmax(net(parents))_k, k an integer code `[*lead, B]`.

    A sample is argmax(logits + Gumbel noise). Categorical(K) is a root factor with learnt logits;
    `logits="uniform"` fixes them at 1/K. With Constant or a Table given one discrete parent, maximum
    likelihood is counting, pi_k = n_k / n, and with a Dirichlet prior it is MAP,
    (n_k + a_k - 1) / sum_j (n_j + a_j - 1).
    """

    def __init__(
        self,
        net: nn.Module | int,
        given: str | Sequence[str] = (),
        *,
        logits: str = "learnt",
        classes: int | None = None,
    ) -> None:
        if logits not in ("learnt", "uniform"):
            raise ValueError(f"logits must be 'learnt' or 'uniform', got {logits!r}")
        if isinstance(net, int):
            net = Constant(net)
            net.requires_grad_(logits == "learnt")
        if classes is None:
            shape = getattr(net, "out_shape", None)
            if shape is None:
                raise ValueError("Categorical: the net does not say its output's shape; pass classes=K")
            classes = int(shape[0])
        super().__init__(net, given, event=())
        self.classes = classes
        self.coding = OneHot(classes)

    def check(self, name: str, value: Tensor) -> None:
        if value.is_floating_point() or int(value.min()) < 0 or int(value.max()) >= self.classes:
            raise ValueError(
                f"{name!r} must hold integer codes from 0 to {self.classes - 1}, got {value.dtype}"
            )

    def distribution(self, *parents: Tensor) -> Distribution:
        return TorchCategorical(logits=self.output(*parents), validate_args=False)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        logits: Tensor = distribution.logits  # type: ignore[attr-defined]
        return torch.argmax(logits + noise((logits.shape[-1],), "gumbel"), dim=-1)

    def mean(self, distribution: Distribution) -> Tensor:
        """The most probable code."""
        return distribution.logits.argmax(-1)  # type: ignore[attr-defined, no-any-return]

    def support(self) -> Tensor:
        """The codes 0 ... K - 1, `[K]`."""
        refuse_large("Categorical", self.classes)
        return torch.arange(self.classes, device=next((p.device for p in self.parameters()), None))

    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """count: expected counts of the codes in each state of the parent, `[R, K]`."""
        hot = nn.functional.one_hot(plain(self, value), self.classes).double()
        if observed is not None:
            hot = hot * seen_of(observed, hot)
        return {"count": self.sums(hot, parents, weight)}

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """Logits at log(n_k + a_k - 1) up to a constant; a state that has neither count nor prior stays."""
        counts = statistics["count"] + pseudo_counts(self._dirichlet(prior), self.classes, self.rows)
        known = counts.sum(-1, keepdim=True) > 0
        self.set_rows(torch.where(known, log_probabilities(counts), self.rows.double()))

    def log_prior(self, prior: object) -> Tensor:
        """sum_k (a_k - 1) log pi_k over the states of the parent: of a Dirichlet."""
        return log_dirichlet(self._dirichlet(prior), self.rows)

    @property
    def free_parameters(self) -> int:
        """K - 1 for each state of the parent: probabilities sum to 1."""
        if not self.has_closed_form:
            return super().free_parameters
        return len(self.rows) * (self.classes - 1) if self.learns_rows else 0

    def _dirichlet(self, prior: object | None) -> Dirichlet:
        if prior is None:
            return Dirichlet(1.0)
        if isinstance(prior, Dirichlet):
            return prior
        raise TypeError(f"the conjugate prior of a Categorical is a Dirichlet, got {prior}")
