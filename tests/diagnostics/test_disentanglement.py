"""MIG and DCI: scores of codes that are known to be disentangled or not, and information by integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import latentia as lt
from latentia.diagnostics import dci, mutual_information_gap
from latentia.diagnostics.disentanglement import scores_of

from .gaussian_q import gaussian_q

EYE = torch.eye(2, dtype=torch.float64)


def two_factors(rows: int = 120) -> tuple[Tensor, np.ndarray]:
    """x `[N, 2]` whose entries are each set by a factor of its own, with a little noise."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.stack([torch.arange(rows) % 2, torch.arange(rows) // 2 % 3], 1)
    noise = 0.1 * torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    return 2.0 * factors.double() + noise, factors.numpy()


def test_one_unit_for_each_factor_has_a_gap_near_one() -> None:
    x, factors = two_factors()
    found = mutual_information_gap(gaussian_q(2 * EYE, 0.3 * EYE, full=False), x, factors)
    assert found.value > 0.95
    np.testing.assert_allclose(found.entropy, [math.log(2), math.log(3)], rtol=1e-9)
    assert found.information.argmax(0).tolist() == [0, 1]
    assert "most in z[1]" in repr(found)


def test_rotated_codes_have_a_smaller_gap() -> None:
    x, factors = two_factors()
    turn = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    found = mutual_information_gap(gaussian_q(2 * turn, 0.3 * EYE, full=True), x, {"a": factors[:, 0]})
    assert found.value < 0.5 and found.factors == ("a",)


def test_the_information_is_that_of_the_integral() -> None:
    x, factors = two_factors(24)
    scale = 0.9
    found = mutual_information_gap(
        gaussian_q(EYE, scale * EYE, full=False), x, factors[:, 1], samples=2000, seed=1
    )
    u = torch.linspace(-6, 11, 8001, dtype=torch.float64)
    for unit in range(2):
        own = Normal(x[:, unit : unit + 1], scale).log_prob(u).exp()  # [N, grid]
        q, truth = own.mean(0), 0.0
        for value in range(3):
            among = own[factors[:, 1] == value]
            q_v = among.mean(0)
            truth += len(among) / len(x) * float(torch.trapezoid(torch.xlogy(q_v, q_v / q), u))
        assert found.information[unit, 0] == pytest.approx(truth, abs=0.01)


def test_scores_of_known_importances() -> None:
    assert scores_of(np.eye(3)) == pytest.approx((1.0, 1.0))
    assert scores_of(np.ones((4, 3))) == pytest.approx((0.0, 0.0))
    # two units for one factor, each of them for it alone: disentangled, not complete
    matrix = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    disentangled, complete = scores_of(matrix)
    assert disentangled == pytest.approx(1.0)
    assert complete == pytest.approx(0.5 * (1 - math.log(2) / math.log(4)) + 0.5)


@pytest.mark.parametrize("method", ["trees", "lasso"])
def test_dci_tells_codes_of_single_factors_from_mixed_ones(method: str) -> None:
    x, factors = two_factors()
    columns = {"shape": factors[:, 0], "size": factors[:, 1].astype(float)}
    turn = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    straight = dci(gaussian_q(EYE, EYE, full=False), x, columns, method=method)
    mixed = dci(gaussian_q(turn, EYE, full=False), x, columns, method=method)
    assert straight.disentanglement > 0.9 and straight.completeness > 0.9
    assert straight.informativeness > 0.9
    assert mixed.disentanglement < straight.disentanglement - 0.3
    np.testing.assert_allclose(straight.importance.sum(0), 1.0)
    assert "shape" in repr(straight)


def test_what_has_no_score_is_refused_in_words() -> None:
    x, factors = two_factors()
    model = gaussian_q(EYE, EYE, full=False)
    for score in (mutual_information_gap, dci):
        with pytest.raises(ValueError, match=r"shape \[119\], and there are 120 rows"):
            score(model, x, factors[1:, 0])
        with pytest.raises(ValueError, match="one value only"):
            score(model, x, {"same": np.zeros(120, dtype=int)})
        with pytest.raises(ValueError, match="missing values"):
            score(model, x, np.where(factors > 1, np.nan, factors))
    with pytest.raises(ValueError, match="factors of few values"):
        mutual_information_gap(model, x, np.arange(120))
    with pytest.raises(ValueError, match="did you mean 'lasso'"):
        dci(model, x, factors, method="laso")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 20 rows"):
        dci(model, x[:10], factors[:10])
    one = gaussian_q(EYE[:1], EYE[:1, :1], full=False)
    with pytest.raises(ValueError, match="one unit only"):
        mutual_information_gap(one, x, factors)
    mixture = lt.models.gaussian_mixture(event=2, components=3).double()
    with pytest.raises(ValueError, match="at least two that are numbers; there are 0"):
        dci(mixture, x, factors)
