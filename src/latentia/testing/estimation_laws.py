"""The law of `statistics` and `maximize`, where a factor has them.

N examples, drawn from the factor itself at the case's parents, with weights that differ.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from ..factor import Factor
from ._require import close, numbers, require
from .case import FactorCase

DRAWS = 40  # for each row of parents
FLAT = 1e-6  # gradient of the mean log likelihood, in nats, at a maximum
FACTOR = 2.5  # on all weights


def check_maximum_likelihood(case: FactorCase) -> str | None:
    """statistics add up over chunks, and `maximize` reaches the maximum of sum_n w_n log p(x_n | parents_n),
    which a factor common to all weights does not move.

    Parameters with a posterior have no maximum: of them only the sums are held to the law.
    """
    factor = case.factor
    if not factor.has_closed_form:
        return "maximum likelihood has no closed form"
    value = case.draw((DRAWS,)).value.detach().flatten(0, 1)  # [N, *event]
    parents = tuple(parent.repeat(DRAWS, *(1,) * (parent.ndim - 1)) for parent in case.parents)
    weight = 0.2 + torch.rand(len(value), generator=case.generator, dtype=torch.float64)
    try:
        whole = factor.statistics(value, *parents, weight=weight)
    except TypeError as refusal:
        return str(refusal)
    _check_sums(case, whole, value, parents, weight)
    if factor.is_bayesian:
        return None
    scaled = copy.deepcopy(factor)
    before = _mean_log_prob(factor, value, parents, weight)
    factor.maximize(whole)
    after = _mean_log_prob(factor, value, parents, weight)
    require(
        after >= before - 1e-9 * (1 + before.abs()),
        f"{case.name}: maximize must not lower the weighted log likelihood, and it went from "
        f"{numbers(before)} to {numbers(after)} nats per example",
    )
    scaled.maximize(scaled.statistics(value, *parents, weight=FACTOR * weight))
    again = _mean_log_prob(scaled, value, parents, weight)
    require(
        torch.allclose(again, after, rtol=1e-7, atol=1e-7),
        f"{case.name}: weights {FACTOR} times as large must have the same maximum, and give {numbers(again)} "
        f"nats per example where there were {numbers(after)}",
    )
    if not factor.troubles("value"):  # a parameter at a bound has a gradient there
        _check_flat(case, value, parents, weight)
    return None


def _check_sums(
    case: FactorCase,
    whole: Mapping[str, Tensor],
    value: Tensor,
    parents: tuple[Tensor, ...],
    weight: Tensor,
) -> None:
    cut = len(value) // 3
    chunks = [
        case.factor.statistics(value[part], *(parent[part] for parent in parents), weight=weight[part])
        for part in (slice(0, cut), slice(cut, None))
    ]
    for name, tensor in whole.items():
        total = chunks[0][name] + chunks[1][name]
        require(
            tensor.dtype == torch.float64 and close(total, tensor),
            f"{case.name}: statistics must be float64 sums over examples, and {name!r} of two chunks is "
            f"{numbers(total)} where the whole has {numbers(tensor)}",
        )


def _check_flat(case: FactorCase, value: Tensor, parents: tuple[Tensor, ...], weight: Tensor) -> None:
    learnt = {name: p for name, p in case.factor.named_parameters() if p.requires_grad}
    if not learnt:
        return
    mean = _mean_log_prob(case.factor, value, parents, weight)
    gradients = torch.autograd.grad(mean, list(learnt.values()), allow_unused=True)
    for name, gradient in zip(learnt, gradients, strict=True):
        steepest = 0.0 if gradient is None else float(gradient.abs().max())
        require(
            steepest <= FLAT,
            f"{case.name}: after maximize the gradient of the weighted log likelihood must be 0, and that of "
            f"{name} is up to {steepest:.2g} nats per example",
        )


def _mean_log_prob(factor: Factor, value: Tensor, parents: tuple[Tensor, ...], weight: Tensor) -> Tensor:
    """The weighted mean of log p(value | parents): a scalar."""
    return (weight * factor.log_prob(value, *parents)).sum() / weight.sum()
