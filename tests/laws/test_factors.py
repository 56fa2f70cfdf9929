"""Every law on every factor of the registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import latentia as lt
from latentia.testing import FACTOR_LAWS, FactorCase, check_factor, check_maximum_likelihood
from tests.laws.registry import FACTORS


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("law", FACTOR_LAWS, ids=lambda law: law.__name__.removeprefix("check_"))
def test_law(law: Callable[[FactorCase], str | None], name: str) -> None:
    case = FACTORS[name].case()
    exempt = law.__name__ in FACTORS[name].exempt
    if law is check_maximum_likelihood:
        exempt = exempt or not case.factor.has_closed_form
    word = law(case)
    assert (word is not None) == exempt, word


@pytest.mark.parametrize("name", FACTORS)
def test_event_and_kind_are_known_at_construction(name: str) -> None:
    factor, case = FACTORS[name].factor(), FACTORS[name].case()
    value = case.draw((1,)).value if factor.has_density else case.computed()
    assert tuple(value.shape[value.ndim - len(factor.event) :]) == factor.event
    family = getattr(factor, "discrete", factor)
    assert value.is_floating_point() == (not isinstance(family, lt.Categorical | lt.BayesianCategorical))


@pytest.mark.parametrize("name", FACTORS)
def test_log_prob_is_finite_in_float32(name: str) -> None:
    entry = FACTORS[name]
    factor, case = entry.factor(), entry.case()
    parents = [p.float() if p.is_floating_point() else p for p in case.parents]
    factor.bind([p.ndim - 1 for p in parents])
    if not factor.has_density:
        assert factor.value(*parents).isfinite().all()
        return
    value = case.draw((5,)).value
    value = value.float() if value.is_floating_point() else value
    log_p = factor.log_prob(value, *parents)
    assert log_p.dtype == torch.float32
    torch.testing.assert_close(
        log_p.double(),
        case.log_prob(value if not value.is_floating_point() else value.double()),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("scale", [0.0, -1.0, torch.tensor([1.0, 0.0])])
def test_a_fixed_scale_must_be_positive(scale: float | torch.Tensor) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        lt.Normal(lt.MLP(2, 2), given="z", scale=scale)


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_no_scale_is_below_its_floor(link: str) -> None:
    net = lt.Constant(2, value=-50.0)
    scale = lt.Normal(net, link=link, floor=0.25).distribution().base_dist.scale
    torch.testing.assert_close(scale, torch.tensor([0.25]))


def test_a_learnt_scale_starts_at_one() -> None:
    for link in ("softplus", "exp"):
        factor = lt.Normal(lt.MLP(2, 3), given="z", scale="learnt", link=link, floor=0.0)
        torch.testing.assert_close(factor.distribution(torch.zeros(1, 2)).base_dist.scale, torch.ones(1, 3))


def test_grey_values_weigh_the_bernoulli() -> None:
    factor = lt.Bernoulli(lt.Constant(1, value=0.7))
    on, off = factor.log_prob(torch.ones(1, 1)), factor.log_prob(torch.zeros(1, 1))
    torch.testing.assert_close(factor.log_prob(torch.full((1, 1), 0.25)), 0.25 * on + 0.75 * off)


def test_the_report_says_which_laws_apply() -> None:
    report = check_factor(lt.Deterministic(lt.MLP(3, 2), given="z"), [3])
    assert report["check_density_integrates"] == "does not apply: no density"
    assert report["check_archive_round_trip"] == "holds"
    assert "states or nodes" in check_factor(lt.Bernoulli(lt.Constant(30)))["check_density_integrates"]
