"""LogLinear: a distribution over listed values, log-linear in features of the value and its parent.

X values in the support, Z states of the parent, F features, E entries of an event, N rows of a batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from .._recorded import recorded
from ..codings import OneHot
from ..factor import Factor, Moments
from ..noise import BoundNoise
from ._newton import maximised
from .features import FeatureFunction, features_of
from .lookup import Lookup, binary_vectors, listed, shown
from .priors import GaussianPrior

SMALLEST_RATIO = 1e-300  # to the most probable value: so small a probability is summed with others no smaller
LARGEST_HESSIAN = 4096  # features of which Newton's method is used
LARGEST_RANK = 2**24  # numbers in the table whose rank is worked out


class Enumerated(Distribution):
    """A distribution over the values of a lookup: log p(x | z) `[X, Z]` and codes of z, `[*lead, B]`."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, log_p: Tensor, codes: Tensor, lookup: Lookup, event: tuple[int, ...]) -> None:
        self.log_p, self.codes, self.lookup = log_p, codes, lookup
        super().__init__(codes.shape, torch.Size(event), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Enumerated:
        return Enumerated(self.log_p, self.codes.expand(batch_shape), self.lookup, tuple(self.event_shape))

    @property
    def support(self) -> Any:
        """The whole numbers between the least and the greatest entry, where all entries are whole."""
        values = self.lookup.values
        if not bool((values == values.round()).all()):
            raise NotImplementedError
        low, high = int(values.min()), int(values.max())
        entry = constraints.integer_interval(low, high)  # type: ignore[no-untyped-call]
        return constraints.independent(entry, len(self.event_shape))  # type: ignore[no-untyped-call]

    def flat(self, value: Tensor) -> Tensor:
        """Values `[*lead, B, *event]` as vectors `[*lead, B, E]`."""
        return value.reshape(*value.shape[: value.ndim - len(self.event_shape)], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value | z), -inf for a value that is not in the support."""
        place, found = self.lookup(self.flat(value))
        log_p = self.log_p[place, self.codes]
        return torch.where(found, log_p, -math.inf)

    def of_state(self, table: Tensor) -> Tensor:
        """Rows `[Z, E]` of a table at the codes, `[*lead, B, *event]`."""
        return table[self.codes].reshape(*self.codes.shape, *self.event_shape)

    @property
    def mean(self) -> Tensor:
        values = self.lookup.values.to(self.log_p)
        mean = self.log_p.exp().T @ values  # [Z, E]
        return self.of_state(mean.clamp(values.amin(0), values.amax(0)))  # whatever the rounding

    @property
    def mode(self) -> Tensor:
        return self.of_state(self.lookup.values[self.log_p.argmax(0)])

    def entropy(self) -> Tensor:
        return -(self.log_p.exp() * self.log_p).sum(0)[self.codes]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        return self.quantile(torch.rand(shape, dtype=self.log_p.dtype, device=self.log_p.device))

    def quantile(self, u: Tensor) -> Tensor:
        """The value at which the probabilities, summed in the support's order, pass u in [0, 1)."""
        x, z = self.log_p.shape
        steps = self.log_p.detach().double().exp().cumsum(0)
        codes = self.codes.expand(u.shape)
        line = (steps / steps[-1] + torch.arange(z, device=u.device)).T.flatten()  # state k from k to k + 1
        place = torch.searchsorted(line, u.double() + codes, right=True) - x * codes
        return self.lookup.values[place.clamp(0, x - 1)].reshape(*u.shape, *self.event_shape)


@recorded
class LogLinear(Factor):
    """p(x | z) = exp(w . f(x, z)) / sum_x' exp(w . f(x', z)), x one of the values of an enumerable support.

    features  f, `[X, Z, F]` (`[X, F]` without `given`); a function of (values `[X', *event]`, codes `[Z']`)
              that gives them for any of the values and states; or names: "unary", "pairwise" or both (see
              `features`)
    support   the values x can take, `[X, *event]`, all different; whole numbers `[X]` are codes; by default
              all binary vectors of shape `event`
    given     the parent z, an integer code; none for a root factor
    states    Z, where the features do not say

    Features and support are kept in torch's default floating-point type, and values compared in it. The
    parameters are the F weights w, which start at zero. A value that is not in the support has probability 0.
    Missing entries are summed out over the values that agree with the others. A draw is the value at which
    the summed probabilities pass a uniform number.

    Raises ValueError for features of another shape or a support with repeats, NotEnumerableError (a
    ValueError) for more values than are enumerated.
    """

    def __init__(
        self,
        features: Tensor | FeatureFunction | str | Sequence[str],
        support: Tensor | None = None,
        given: str | Sequence[str] = (),
        *,
        states: int | None = None,
        event: int | Sequence[int] | None = None,
    ) -> None:
        values = binary_vectors(event) if support is None else listed(support, event)
        super().__init__(None, given, event=values.shape[1:])
        if len(self.given) > 1:
            raise ValueError(f"LogLinear has one parent or none, got {', '.join(self.given)}: name one")
        self.takes_codes = True
        self.lookup = Lookup(values.reshape(len(values), -1))
        self.features = features_of(features, values, states, root=not self.given)
        self.states = self.features.states
        self.weights = nn.Parameter(torch.zeros(self.features.size))
        if not values.is_floating_point() and int(values.min()) >= 0:
            self.coding = OneHot(int(values.max()) + 1)

    def check(self, name: str, value: Tensor) -> None:
        _, found = self.lookup(value.reshape(len(value), -1))
        if not bool(found.all()):
            row = int((~found).nonzero()[0])
            raise ValueError(
                f"{name!r}: row {row} holds {shown(value[row])}, which is none of the {len(self.lookup):,} "
                f"values that LogLinear was built for, from {shown(self.lookup.values[0])} to "
                f"{shown(self.lookup.values[-1])}"
            )

    def support(self) -> Tensor:
        return self.lookup.values.reshape(-1, *self.event)

    def log_table(self) -> Tensor:
        """log p(x | z) of every value and state, `[X, Z]`."""
        logits = self.features.logits(self.weights)
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        return torch.log_softmax(logits, 0)

    def distribution(self, *parents: Tensor) -> Enumerated:
        return Enumerated(self.log_table(), self._codes(parents), self.lookup, self.event)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return _own(distribution).quantile(noise((), "uniform"))

    def mean(self, distribution: Distribution) -> Tensor:
        """E[x | z]; of codes the most probable."""
        if self.lookup.values.is_floating_point():
            return distribution.mean
        if isinstance(distribution, Enumerated):
            return distribution.mode
        return distribution.logits.argmax(-1)  # type: ignore[attr-defined, no-any-return]

    def marginal_log_prob(self, distribution: Distribution, value: Tensor, observed: Tensor) -> Tensor:
        """log of the sum of p(x | z) over the values x that agree with the observed entries."""
        own = _own(distribution)
        ratios, top = _ratios(own.log_p)
        flat = own.flat(value)
        pieces = self.lookup.agreeing_by_chunks(*_rows(flat, own.flat(observed.expand(value.shape))))
        mass = torch.cat([agree.double() @ ratios for agree in pieces]).reshape(
            *flat.shape[:-1], self.states
        )  # [*lead, B, Z]
        possible = mass > 0
        log_mass = torch.where(possible, mass, 1.0).log() + top
        log_p = torch.where(possible, log_mass, -math.inf).to(own.log_p.dtype)
        shape = torch.broadcast_shapes(log_p.shape[:-1], own.codes.shape)  # type: ignore[no-untyped-call]
        codes = own.codes.expand(shape).unsqueeze(-1)
        return log_p.expand(*shape, -1).gather(-1, codes).squeeze(-1)

    def gradient(self, value: Tensor, *parents: Tensor) -> Tensor:
        """d log p(x | z) / dw = f(x, z) - E[f(X, z) | z], `[*lead, B, F]`.

        Raises ValueError for a value that is not in the support.
        """
        own = self.distribution(*parents)
        place, found = self.lookup(own.flat(value))
        if not bool(found.all()):
            raise ValueError("log p has no gradient at a value of probability 0: it is not in the support")
        p, each = own.log_p.exp(), torch.eye(self.states).to(own.log_p)
        expected = torch.stack([self.features.sums(p * one) for one in each])  # [Z, F]
        return self.features.at(place, own.codes) - expected[own.codes]

    @property
    def has_closed_form(self) -> bool:
        """Expected counts are sufficient; the weights that match them are found by Newton's method.

        Of more than 4,096 features the Hessian would be too large.
        """
        return self.features.size <= LARGEST_HESSIAN

    @torch.no_grad()
    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Expected counts of each value in each state, `[X, Z]`; one with holes counts for all it may be."""
        if isinstance(value, Moments):
            raise TypeError("LogLinear takes values, not a Gaussian posterior")
        codes, weight = self._codes(parents), weight.double()
        if observed is not None and observed.ndim == 1:
            weight, observed = weight * observed, None
        flat = value.reshape(*value.shape[: value.ndim - len(self.event)], -1)
        x, z = len(self.lookup), self.states
        if observed is None:
            place, found = self.lookup(flat)
            return {"counts": _summed(x, place, z, codes, weight * found)}
        rows = torch.arange(flat[..., 0].numel(), device=weight.device).reshape(flat.shape[:-1])
        shares = _summed(rows.numel(), rows, z, codes, weight)  # [N, Z]
        ratios, _ = _ratios(self.log_table())
        pieces = self.lookup.agreeing_by_chunks(
            *_rows(flat, observed.expand(value.shape).reshape(flat.shape))
        )
        counts = torch.zeros(x, z, dtype=torch.float64, device=weight.device)
        for agree, share in zip(pieces, torch.split(shares, self.lookup.rows_at_once), strict=True):
            agree = agree.double()
            mass = agree @ ratios
            counts += (torch.where(mass > 0, share / mass, 0.0).T @ agree).T
        return {"counts": ratios * counts}

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """Weights at which the features' expectations under the model are those under the expected counts.

        prior: a GaussianPrior. The objective is concave; it never falls (see `_newton.maximised`).
        """
        precision = None if prior is None else self._precision(prior)
        if self.weights.requires_grad:
            exact = copy.deepcopy(self.features).double()
            self.weights.copy_(maximised(exact, self.weights.double(), statistics["counts"], precision))

    def log_prior(self, prior: object) -> Tensor:
        return -0.5 * self._precision(prior) * self.weights.double().square().sum()

    def _precision(self, prior: object) -> float:
        if not isinstance(prior, GaussianPrior):
            raise TypeError(f"LogLinear takes a GaussianPrior on its weights, got {prior}")
        return prior.scale**-2

    @property
    def free_parameters(self) -> int:
        """How many directions of w change a probability: the rank of the features less their means over x.

        Of more than 16 million numbers, F.
        """
        if not self.weights.requires_grad:
            return 0
        x, z, size = len(self.lookup), self.states, self.features.size
        if x * z * size > LARGEST_RANK:
            return size
        place = torch.arange(x, device=self.weights.device).unsqueeze(1)
        table = self.features.at(place, torch.arange(z, device=place.device)).double()
        centred = (table - table.mean(0)).flatten(0, 1)  # [X Z, F]
        length = centred.norm(dim=0)
        varies = length > 1e-9 * table.flatten(0, 1).norm(dim=0)
        centred = centred[:, varies] / length[varies]
        return int(torch.linalg.matrix_rank(centred.T @ centred, rtol=1e-9, hermitian=True))

    def _codes(self, parents: Sequence[Tensor | Moments]) -> Tensor:
        if not self.given:
            return torch.zeros((), dtype=torch.int64, device=self.weights.device)
        (codes,) = parents
        if isinstance(codes, Moments) or codes.is_floating_point():
            raise TypeError(
                f"LogLinear is given {self.given[0]!r} as integer codes from 0 to {self.states - 1}, and got "
                f"relaxed, one-hot or continuous values"
            )
        return codes

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, values={len(self.lookup)}, features={self.features.size}"


def _own(distribution: Distribution) -> Enumerated:
    if not isinstance(distribution, Enumerated):
        raise TypeError(f"LogLinear has an Enumerated distribution, got {type(distribution).__name__}")
    return distribution


def _rows(*tensors: Tensor) -> list[Tensor]:
    """Tensors `[*lead, B, E]` as `[N, E]`."""
    return [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]


def _ratios(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """p(x | z) over that of the most probable x, float64 `[X, Z]`, and the log of the latter, `[Z]`."""
    log_p = log_p.double()
    top = log_p.amax(0).detach()
    return (log_p - top).exp().clamp(min=SMALLEST_RATIO), top


def _summed(rows: int, place: Tensor, states: int, codes: Tensor, weight: Tensor) -> Tensor:
    """Weights `[*lead, B]` added up by row, at `place`, and state: `[rows, Z]`."""
    place = place * states + codes
    shape = torch.broadcast_shapes(place.shape, weight.shape)  # type: ignore[no-untyped-call]
    table = torch.zeros(rows * states, dtype=torch.float64, device=weight.device)
    table.index_put_((place.expand(shape).reshape(-1),), weight.expand(shape).reshape(-1), accumulate=True)
    return table.reshape(rows, states)
