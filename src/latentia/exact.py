"""Exact: the posterior q(z | x) = p(x, z) / p(x), computed from p itself.

Discrete latents are enumerated; Gaussian ones, whose children are linear in them, are conditioned on in
closed form, given every state of the discrete ones. B examples, M entries of all Gaussian latents together,
D of an observed event, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution, MixtureSameFamily

from ._recorded import recorded
from .codings import Coding
from .factor import Affine, Factor, Moments
from .factors.gaussian import HALF_LOG_TWO_PI, FullNormal
from .factors.log_linear import Enumerated
from .factors.lookup import Lookup
from .joint import MASK, Completion, Densities, Joint, Values, along, is_latent, total, where_observed
from .linear_gaussian import Observation, Stack, condition, lower_root
from .noise import BoundNoise, Source
from .numerics import exp, logsumexp


class NotExactError(ValueError):
    """A model's posterior has no closed form; the sentence says why, and `reason` is it without a remedy."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}: {remedy}" if remedy else reason)
        self.reason = reason


class Posterior(NamedTuple):
    """p(z | x), its discrete part and, for each state of that, its Gaussian part.

    log_evidence  log p(x), `[B]` in nats
    states        every value of each discrete latent, `[*lead, 1, *event]`, one lead dimension for each
    log_weights   log p(states | x), `[*lead, B]`
    gaussian      p(u | states, x) of the Gaussian latents stacked into u `[M]`, batch `[*lead, B]`
    places        where each Gaussian latent stands in the stack
    """

    log_evidence: Tensor
    states: dict[str, Tensor]
    log_weights: Tensor
    gaussian: FullNormal | None
    places: dict[str, slice]


class Expectation(NamedTuple):
    """An E-step's result.

    log_evidence  `[B]`
    weight        posterior weights of the states, `[*lead, B]`
    values        discrete latents as their states `[*lead, 1, *event]`, Gaussian ones as Moments, what was
                  observed as it is
    posterior     what they were made of; `posterior.states` names the lead dimensions
    """

    log_evidence: Tensor
    weight: Tensor
    values: dict[str, Tensor | Moments]
    posterior: Posterior


@recorded
class Exact(nn.Module):
    """q(z | x) = p(z | x): the posterior of p, in the place of an inference model.

        p = Joint(k=Categorical(3), x=Normal(Table(3, 4), given="k"))
        model = Model(p, Exact(p))

    latents: the variables to infer; by default those that others depend on. Each is discrete (Categorical,
    Bernoulli), or Gaussian with linear-Gaussian children. It has no parameters of its own. Raises ValueError
    for a name that p does not know; the methods raise NotExactError, with the reason, where the posterior has
    no closed form.
    """

    exact = True

    def __init__(self, p: Joint, latents: str | Sequence[str] | None = None) -> None:
        super().__init__()
        self.__dict__["p"] = p  # not a submodule: the parameters are p's
        chosen = {parent for name in p for parent in p[name].given} if latents is None else latents
        chosen = {chosen} if isinstance(chosen, str) else set(chosen)
        if latents is not None:
            for name in chosen - {*p.variables}:
                raise ValueError(f"{name!r} is no variable of {p.equation()}: is it misspelt?")
        self.variables = tuple(name for name in p if name in chosen and p[name].has_density)
        if not self.variables:
            raise ValueError(f"{p.equation()}: nothing is latent, so there is no posterior")
        observed = (name for name in p if name not in self.variables and p[name].has_density)
        self.inputs = (*observed, *p.inputs)

    p: Joint

    def __getitem__(self, name: str) -> Factor:
        if name not in self:
            raise KeyError(f"{name!r} is not inferred; there are {', '.join(self.variables)}")
        return self.p[name]

    def __contains__(self, name: object) -> bool:
        return name in self.variables

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    @property
    def state_count(self) -> int:
        """How many states all discrete latents have together."""
        states = self.p.states(name for name in self.variables if is_discrete(self.p[name]))
        return math.prod(map(len, states.values()))

    def know(self, codings: Mapping[str, Coding]) -> None:
        """Codings are p's business."""

    def descendants(self, name: str) -> set[str]:
        """The latents that depend on `name`: those after it."""
        return set(self.variables[self.variables.index(name) + 1 :]) if name in self else {*self.variables}

    def equation(self, symbol: str = "q") -> str:
        """Bayes' rule as the lectures write it: `q(z | x) = p(z, x) / p(x)`."""
        z, x = ", ".join(self.variables), ", ".join(self.inputs)
        given = f" | {', '.join(self.p.inputs)}" if self.p.inputs else ""
        seen = ", ".join(name for name in self.inputs if name not in self.p.inputs)
        return f"{symbol}({z} | {x}) = p({z}, {seen}{given}) / p({seen}{given})"

    def log_evidence(self, values: Values) -> Tensor:
        """log p(x) of each row, `[B]` nats: summed over discrete latents, integrated over Gaussian ones."""
        return self.posterior(values).log_evidence

    def posterior(self, values: Values, expected: bool = False) -> Posterior:
        """p(z | x) for the latents absent from `values`. Raises NotExactError where it has no closed form.

        expected: of parameters that have a posterior, E[log p] in the place of log E[p]: the E-step of
        variational Bayes, with its bound as the log-evidence. Bishop (2006), eq. 10.46.
        """
        discrete, gaussian = self._latent_in(values)
        states = self.p.states(discrete)
        known = {name: value for name, value in values.items() if name.removesuffix(MASK) not in states}
        known = self.p.computed(known | {name: along(states, name) for name in states})
        stack, observations, terms = Stack(), [], []
        for name in self.p.variables:
            factor = self.p[name]
            if not factor.has_density:
                continue
            touched = tuple(parent for parent in factor.given if parent in gaussian)
            for parent in factor.given:
                if parent in self.p and parent not in known and parent not in touched:
                    raise NotExactError(
                        f"p({name} | {', '.join(factor.given)}): {parent!r} is computed from a Gaussian "
                        f"latent, so the posterior has no closed form",
                        "use an inference model, q = Joint(...)",
                    )
            mask = known.get(name + MASK)
            if name in gaussian:
                stack.add(name, self._affine(name, known, gaussian), touched, len(factor.event))
            elif touched:
                affine = self._affine(name, known, gaussian)
                observations.append(Observation(name, affine, touched, known[name], mask))
            else:
                log_p = self.p.log_prob_of(name, known, expected)
                if name in states and name in values:
                    seen = where_observed(
                        values[name + MASK], known[name], values[name], torch.zeros_like(log_p)
                    )
                    log_p = log_p + seen
                terms.append(log_p)
        posterior = None
        if gaussian:
            posterior, log_p = condition(stack, observations)
            terms.append(log_p)
        log_joint = total(terms).expand(*map(len, states.values()), len(next(iter(values.values()))))
        lead = tuple(range(len(states)))
        log_evidence = logsumexp(log_joint, lead) if lead else log_joint
        shown = {name: known[name] for name in states}
        return Posterior(log_evidence, shown, log_joint - log_evidence, posterior, stack.places)

    def expect(self, values: Values, expected: bool = False) -> Expectation:
        """The E-step: posterior weights of the states, means and covariances of Gaussian latents.

        Nothing enumerated is expanded to the batch. expected: as in `posterior`.
        """
        found = self.posterior(values, expected)
        result: dict[str, Tensor | Moments] = {
            name: value for name, value in values.items() if name.removesuffix(MASK) not in found.states
        }
        result |= found.states
        if found.gaussian is not None:
            mean, covariance = found.gaussian.loc, found.gaussian.covariance_matrix
            for name, place in found.places.items():
                result[name] = Moments(mean[..., place], covariance[..., place, place])
        return Expectation(found.log_evidence, exp(found.log_weights), result, found)

    def complete(
        self,
        values: Values,
        noise: Source,
        samples: int = 1,
        batch: int | None = None,
        enumerate: Sequence[str] = (),
    ) -> Completion:
        """As Joint.complete: discrete latents enumerated with their posterior weights, Gaussian ones drawn.

        Every draw gives log p(x, z) - log q(z | x) = log p(x), so the ELBO has neither gap nor variance.
        """
        found = self.posterior(values)
        size, weights = len(found.log_evidence), found.log_weights  # [B], [*lead, B]
        lead = weights.ndim - 1
        filled = {
            name: value for name, value in values.items() if name.removesuffix(MASK) not in found.states
        }
        log_q, log_weight = Densities(), -math.log(samples)
        known, lowest = torch.zeros_like(found.log_evidence), torch.finfo(weights.dtype).min / 4
        possible = weights.clamp(min=lowest)  # the sum of -inf alone would have no gradient
        for place, (name, states) in zip(range(lead), found.states.items(), strict=True):
            states = states.unsqueeze(lead)
            filled[name] = states.expand(*states.shape[: lead + 1], size, *self.p[name].event)
            upto = (
                torch.logsumexp(possible, tuple(range(place + 1, lead)), keepdim=True)
                if place + 1 < lead
                else possible
            )
            impossible = upto < lowest / 2  # the label of an observed row is another
            log_q.add(name, torch.where(impossible, 0.0, upto - known).unsqueeze(lead))
            known = torch.where(impossible, 0.0, upto)
        if found.gaussian is not None:
            self._draw(found, noise, samples, filled, log_q)
        log_weights = (weights - math.log(samples)).unsqueeze(lead) if lead else log_weight
        if isinstance(log_weights, Tensor):
            log_weights = log_weights.expand(*weights.shape[:-1], samples, size)
        return Completion(self.p.computed(filled), log_weights, log_q, {}, tuple(found.states))

    def distributions(self, values: Values) -> dict[str, Distribution]:
        """The marginal posterior of each latent, `[B]`: Categorical over codes, from 0 to the largest one,
        Enumerated over other states, Gaussian or a mixture.
        """
        found = self.posterior(values)
        impossible = ~found.log_evidence.isfinite()
        if bool(impossible.any()):
            raise ValueError(
                f"row {int(impossible.nonzero()[0])} of these has probability 0 under the model, so there is "
                f"no posterior: look for extreme values in it"
            )
        lead = found.log_weights.ndim - 1
        result: dict[str, Distribution] = {}
        for place, (name, states) in zip(range(lead), found.states.items(), strict=True):
            others = tuple(d for d in range(lead) if d != place)
            log_p = torch.logsumexp(found.log_weights, others) if others else found.log_weights  # [K, B]
            if not states.is_floating_point() and not self.p[name].event:
                result[name] = _of_codes(states.flatten(), log_p)
                continue
            rows = torch.arange(log_p.shape[1], device=log_p.device)
            lookup = Lookup(states.reshape(len(log_p), -1))
            result[name] = Enumerated(log_p, rows, lookup, self.p[name].event)
        result |= {name: _marginal(found, entries) for name, entries in found.places.items()}
        return result

    def _latent_in(self, values: Values) -> tuple[list[str], list[str]]:
        """The discrete and the Gaussian latents among those absent."""
        discrete, gaussian = [], []
        for name in self.p.variables:
            if not self.p[name].has_density or not is_latent(name, values):
                continue
            if name not in self and name in values:
                continue
            if name not in self:
                raise ValueError(
                    f"{name!r} has no value, and Exact was not told that it is latent: it infers "
                    f"{', '.join(self.variables)}"
                )
            if is_discrete(self.p[name]):
                discrete.append(name)
            elif name in values:
                raise NotExactError(
                    f"{name!r} is continuous and observed in some rows only, where no closed form "
                    f"is known: leave it out of all rows, or out of the model"
                )
            else:
                gaussian.append(name)
        return discrete, gaussian

    def _affine(self, name: str, known: Values, gaussian: Sequence[str]) -> Affine:
        """A factor with Gaussian latent parents, or of a Gaussian latent, as linear-Gaussian."""
        factor = self.p[name]
        parents = [
            None if parent in gaussian else self.p.feature(name, parent, known) for parent in factor.given
        ]
        affine = factor.affine(*parents)
        if affine is None:
            given = f" | {', '.join(factor.given)}" if factor.given else ""
            latent = " and ".join(
                map(repr, dict.fromkeys([*(g for g in factor.given if g in gaussian), name]))
            )
            raise NotExactError(
                f"p({name}{given}): {type(factor).__name__} is not linear-Gaussian in {latent}, so the "
                f"posterior has no closed form",
                "use an inference model, q = Joint(...), and the ELBO",
            )
        return affine

    def _draw(
        self, found: Posterior, noise: Source, samples: int, filled: dict[str, Tensor], log_q: Densities
    ) -> None:
        """Draw the stack, u = mean + L epsilon; log q of each latent given those before it, by L's rows."""
        gaussian = found.gaussian
        if gaussian is None:
            return
        lead = found.log_weights.shape[:-1]
        first = next(iter(found.places))
        bound = BoundNoise(noise, first, (*lead, samples, len(found.log_evidence)))
        epsilon = bound((gaussian.loc.shape[-1],), "normal")
        tril = gaussian.scale_tril
        tril = tril if tril.ndim == 2 else tril.unsqueeze(-4)
        drawn = gaussian.loc.unsqueeze(-3) + (tril @ epsilon.unsqueeze(-1)).squeeze(-1)
        entries = -0.5 * epsilon.square() - tril.diagonal(dim1=-2, dim2=-1).log() - HALF_LOG_TWO_PI
        for name, place in found.places.items():
            filled[name] = drawn[..., place].reshape(*drawn.shape[:-1], *self.p[name].event)
            log_q.add(name, entries[..., place].sum(-1))

    def extra_repr(self) -> str:
        return self.equation()


Inference = Joint | Exact


def is_discrete(factor: Factor) -> bool:
    """Whether the family's values can be enumerated."""
    return type(factor).support is not Factor.support


def _of_codes(codes: Tensor, log_p: Tensor) -> TorchCategorical:
    """The distribution of a code, given log p `[K, B]` of the codes `[K]` that it can be."""
    logits = log_p.mT
    if not torch.equal(codes, torch.arange(len(codes), device=codes.device)):
        every = logits.new_full((len(logits), int(codes.max()) + 1), -math.inf)
        logits = every.index_copy(1, codes, logits)
    return TorchCategorical(logits=logits, validate_args=False)


def _marginal(found: Posterior, place: slice) -> Distribution:
    """p(u[place] | x): a Gaussian, or a mixture over the states."""
    if found.gaussian is None:
        raise ValueError("there is no Gaussian latent")
    tril = found.gaussian.scale_tril[..., place, place]
    if place.start > 0:  # the first block of a Cholesky factor is that of the first block
        tril = lower_root(found.gaussian.scale_tril[..., place, : place.stop])
    part = FullNormal(found.gaussian.loc[..., place], tril)
    lead = found.log_weights.ndim - 1
    if not lead:
        return part
    part = part.expand(found.log_weights.shape)
    loc = part.loc.flatten(0, lead - 1).movedim(0, 1)  # [B, states, M]
    tril = part.scale_tril.flatten(0, lead - 1).movedim(0, 1)
    weights = TorchCategorical(logits=found.log_weights.flatten(0, lead - 1).mT, validate_args=False)
    return MixtureSameFamily(weights, FullNormal(loc, tril), validate_args=False)
