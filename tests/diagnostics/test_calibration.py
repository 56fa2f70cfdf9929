"""Simulation-based calibration: exact posteriors pass, wrong ones are caught and named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import latentia as lt
from latentia.diagnostics import Calibration, calibration
from latentia.diagnostics._rows import Unit
from latentia.numerics import inverse_softplus
from tests.oracles.linear_gaussian import LATENT, LinearGaussian

KNOWN = LinearGaussian.make()


def wrong(width: float = 1.0, shift: float = 0.0) -> lt.Model:
    """The exact posterior with its standard deviations times `width`, and z[0] moved by `shift`."""
    q = KNOWN.exact_q()
    factor, tril = q["z"], width * KNOWN.posterior().scale_tril[0]
    with torch.no_grad():
        bias = factor.net.layers[0].bias
        bias[0] += shift
        for i in range(LATENT):
            bias[LATENT + i] = inverse_softplus(float(tril[i, i]) - factor.floor)
        bias[-1] = tril[1, 0]
    return lt.Model(KNOWN.p, q)


def bernoulli() -> lt.Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        p = lt.Joint(
            h=lt.Bernoulli(lt.Constant(3)), x=lt.Normal(lt.MLP(3, 2, (4,)), given="h", scale=0.5)
        ).double()
        return lt.Model(p, lt.Exact(p))


EXACT = {
    "linear map": lambda: wrong(),
    "ppca": lambda: lt.models.ppca(event=5, latent=3).double(),
    "mixture": lambda: lt.models.gaussian_mixture(event=3, components=3).double(),
    "factor analysers": lambda: lt.models.mixture_of_factor_analysers(
        event=5, components=3, latent=2
    ).double(),
    "binary codes": bernoulli,
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_posteriors_pass(name: str) -> None:
    found = calibration(EXACT[name](), seed=1)
    assert found.simulations == 2000 and found.draws == 99
    assert found.passed and found.p_values.min() > 1e-3
    assert "Calibrated as far as 2,000 simulations can tell" in repr(found)
    low, high = found.envelope()
    inside = (found.counts >= low) & (found.counts <= high)
    assert inside.mean() > 0.95


@pytest.mark.parametrize(
    ("width", "fault"), [(1.3, "too wide"), (1 / 1.3, "too narrow")], ids=["too wide", "too narrow"]
)
def test_a_posterior_of_the_wrong_width_is_caught(width: float, fault: str) -> None:
    found = calibration(wrong(width), likelihood=False)
    assert found.failing and found.p_values.max() < 1e-6
    assert all(found.fault(unit) == fault for unit in found.failing)
    assert f"posterior of z[0] is {fault}" in found.verdict


def test_a_shifted_posterior_is_caught_and_the_right_unit_named() -> None:
    found = calibration(wrong(shift=0.3), likelihood=False)
    assert str(found.units[found.failing[0]]) == "z[0]"
    assert found.fault(0) == "too high"
    assert calibration(wrong(shift=-0.3), likelihood=False).fault(0) == "too low"


def test_the_prior_in_place_of_the_posterior_is_caught_by_the_likelihood_alone() -> None:
    q = KNOWN.q(lt.Diagonal())
    with torch.no_grad():
        for parameter in q.parameters():
            parameter.zero_()
        q["z"].net.layers[0].bias[LATENT:] = inverse_softplus(1 - q["z"].floor)
    assert calibration(lt.Model(KNOWN.p, q), likelihood=False).passed
    found = calibration(lt.Model(KNOWN.p, q))
    assert [str(found.units[i]) for i in found.failing] == ["log p(x | z)"]
    assert "draws fit x worse than the true z" in found.verdict


def test_ties_of_discrete_latents_are_broken_at_random() -> None:
    found = calibration(bernoulli(), likelihood=False, draws=9)
    mean = found.ranks.double().mean(1)
    assert bool(((mean - 4.5).abs() < 4.5 * (99 / 12 / 2000) ** 0.5).all())
    assert int(found.ranks.min()) == 0 and int(found.ranks.max()) == 9


def test_any_number_of_draws_has_its_bins() -> None:
    ranks = torch.arange(17).repeat(1, 100)
    found = Calibration(ranks, (Unit("z", None),), draws=16)
    assert found.counts.sum() == 1700 and found.expected.sum() == pytest.approx(1700)
    np.testing.assert_array_equal(found.counts[0], found.expected)
    assert found.p_values[0] == pytest.approx(1.0)
    few = Calibration(ranks[:, :40], (Unit("z", None),), draws=16)
    assert len(few.expected) == 8 and few.expected.min() >= 5 * 0.9


def test_inputs_of_p_are_given_for_each_simulation() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        p = lt.Joint(z=lt.StandardNormal(1), x=lt.Normal(lt.MLP(2, 2), given=("z", "y"), scale=1.0)).double()
    model = lt.Model(p, lt.Exact(p, "z"))
    y = torch.randn(500, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert calibration(model, 500, y=y).passed
    with pytest.raises(ValueError, match="pass y="):
        calibration(model, 500)
    with pytest.raises(ValueError, match="500 simulations need 500 values of 'y', got 3"):
        calibration(model, 500, y=y[:3])
    with pytest.raises(ValueError, match="'w' is no input"):
        calibration(model, 500, y=y, w=y)


def test_the_same_seed_gives_the_same_ranks_and_touches_no_generator() -> None:
    state = torch.random.get_rng_state()
    one, other = (calibration(wrong(), 200, seed=5).ranks for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_what_cannot_be_calibrated_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="at least 100 simulations"):
        calibration(wrong(), simulations=10)
    with pytest.raises(ValueError, match="no latent variables"):
        calibration(lt.Model(lt.Joint(x=lt.Normal(lt.Constant(8)))))
    with pytest.raises(ValueError, match="no evidence"):
        calibration(lt.models.autoencoder(event=3, latent=2))
    table = lt.Joint(z=lt.Normal(lt.Table(5, 2 * LATENT), given="row")).double()
    with pytest.raises(ValueError, match="each row that it was fitted to"):
        calibration(lt.Model(KNOWN.p, table))
