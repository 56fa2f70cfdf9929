"""Elementary functions against torch's own, where theirs are slow and where numbers end."""

from __future__ import annotations

import math

import pytest
import torch

from latentia.numerics import exp, log_bernoulli, logsumexp, tanh

KINDS = [torch.float32, torch.float64]


@pytest.mark.parametrize("kind", KINDS)
def test_exp_is_torchs_down_to_the_smallest_normal_numbers_and_then_0(kind: torch.dtype) -> None:
    least = math.log(torch.finfo(kind).tiny)
    x = torch.linspace(least + 1.5, 10, 1001, dtype=kind)
    torch.testing.assert_close(exp(x), x.exp(), rtol=4 * torch.finfo(kind).eps, atol=0)
    small = torch.tensor([least, least - 5, 10 * least, -math.inf], dtype=kind)
    assert exp(small).eq(0).all()
    ends = exp(torch.tensor([math.nan, math.inf, 0.0], dtype=kind))
    assert ends[0].isnan() and ends[1] == math.inf and ends[2] == 1


def test_exp_leaves_its_argument_and_has_its_gradient() -> None:
    x = torch.tensor([-1000.0, -1.0, 2.0])
    kept = x.clone()
    exp(x)
    assert torch.equal(x, kept)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(exp(x).sum(), x)
    torch.testing.assert_close(gradient, kept.exp())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [(0,), (0, 1)])
def test_logsumexp_is_torchs(kind: torch.dtype, dims: tuple[int, ...]) -> None:
    x = 300 * torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(0)).to(kind)
    x[0, :, 0] = x[:, :, 1] = -math.inf
    x[1, 1, 2], x[2, 2, 3] = math.inf, math.nan
    tolerance = 16 * torch.finfo(kind).eps
    torch.testing.assert_close(
        logsumexp(x, dims), torch.logsumexp(x, dims), rtol=tolerance, atol=tolerance, equal_nan=True
    )


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("event", [(784,), (1, 28, 28), (13,), (127,), (3,)])
def test_log_bernoulli_in_a_graph_is_that_of_each_entry(event: tuple[int, ...]) -> None:
    """Values and both gradients, with logits far out and a value that is given for all samples."""
    generator = torch.Generator().manual_seed(0)
    logits = 30 * torch.randn(6, 4, *event, generator=generator, dtype=torch.float64)
    value = torch.rand(4, *event, generator=generator, dtype=torch.float64)
    dims = len(event)
    torch._dynamo.reset()  # one function is compiled for few shapes, and then runs eagerly
    compiled = torch.compile(log_bernoulli, backend="aot_eager", dynamic=False)
    entries = value * logits - torch.nn.functional.softplus(logits, threshold=700)
    torch.testing.assert_close(compiled(logits, value, dims), entries.flatten(2).sum(-1), rtol=1e-12, atol=0)
    weight = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    parts = logits.clone().requires_grad_(), value.clone().requires_grad_()
    found = torch.autograd.grad((weight * compiled(*parts, dims)).sum(), parts)
    outer = weight.reshape(6, 4, *(1,) * dims)
    by_hand = outer * (value - logits.sigmoid()), (outer * logits).sum(0)
    for one, other in zip(found, by_hand, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    single = compiled(logits.float(), value.float(), dims)
    torch.testing.assert_close(single.double(), entries.flatten(2).sum(-1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("shapes", [((60, 500), (60, 500)), ((3, 20, 500), (20, 500)), ((500,), (60, 500))])
def test_log_bernoulli_of_many_entries_is_that_of_each(shapes: tuple[tuple[int, ...], ...]) -> None:
    """Values and both gradients, in float32, where one may be given for all samples of the other."""
    generator = torch.Generator().manual_seed(0)
    logits = (40 * torch.randn(shapes[0], generator=generator)).requires_grad_()
    value = torch.rand(shapes[1], generator=generator).requires_grad_()
    precise = logits.detach().double().requires_grad_(), value.detach().double().requires_grad_()
    entries = precise[1] * precise[0] - torch.nn.functional.softplus(precise[0], threshold=700)
    found, exact = log_bernoulli(logits, value, 1), entries.sum(-1)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
    weight = torch.randn(exact.shape, generator=generator)
    by_hand = torch.autograd.grad((weight * exact).sum(), precise)
    for one, other in zip(torch.autograd.grad((weight * found).sum(), (logits, value)), by_hand, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_tanh_in_a_graph_is_torchs_and_so_is_its_gradient() -> None:
    x = torch.tensor([-200.0, -30.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 30.0, 200.0], dtype=torch.float64)
    torch._dynamo.reset()
    compiled = torch.compile(tanh, backend="aot_eager", dynamic=False)
    torch.testing.assert_close(compiled(x), x.tanh(), rtol=1e-12, atol=1e-15)
    x.requires_grad_()
    (found,) = torch.autograd.grad(compiled(x).sum(), x)
    torch.testing.assert_close(found, 1 - x.detach().tanh() ** 2, rtol=1e-12, atol=1e-15)
