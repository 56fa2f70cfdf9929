"""Gradients of the IWAE family for continuous q: sticking the landing, doubly reparameterised, Renyi.

Expectations of the ELBO's gradients are exact, by sigma points; others are means over R repetitions of K
samples.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

import latentia as lt
from latentia.factors.normal import Covariance
from latentia.noise import Noise
from latentia.testing import check_objective
from tests.oracles.linear_gaussian import LinearGaussian, as_multivariate, built, sigma_points

COVARIANCES: list[Covariance] = [lt.Diagonal(), lt.Full(), lt.LowRank(1)]
ERRORS = 5.0  # standard errors of a mean


def gradients(bound: lt.Bound, of: lt.Joint) -> list[Tensor]:
    """The gradient of the surrogate for each parameter that is learnt."""
    learnt = [parameter for parameter in of.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(bound.surrogate.sum(), learnt))


def noise(seed: int = 0) -> Noise:
    return Noise(seed, dtype=torch.float64)


@pytest.mark.parametrize("gradient", ["standard", "stl"])
@pytest.mark.parametrize("covariance", COVARIANCES, ids=repr)
def test_the_expected_gradient_is_that_of_the_closed_form(covariance: Covariance, gradient: str) -> None:
    model = LinearGaussian.make()
    q = model.q(covariance)
    points, samples = sigma_points(lambda source, size: q.complete(model.values, source, size))
    exact = torch.autograd.grad(model.bound(q).sum(), list(q.parameters()))
    bound = lt.elbo(model.p, q, model.values, points, samples=samples, gradient=gradient)
    torch.testing.assert_close(bound.value, model.bound(q), rtol=1e-10, atol=1e-10)
    for ours, expected in zip(gradients(bound, q), exact, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_at_the_posterior_sticking_the_landing_has_no_variance() -> None:
    model = LinearGaussian.make()
    q = model.exact_q()
    for seed in range(3):
        stl = gradients(lt.elbo(model.p, q, model.values, noise(seed), gradient="stl"), q)
        many = gradients(lt.iwae(model.p, q, model.values, noise(seed), gradient="dreg"), q)
        standard = gradients(lt.elbo(model.p, q, model.values, noise(seed), analytic=False), q)
        assert max(float(g.abs().max()) for g in stl + many) < 1e-12
        assert max(float(g.abs().max()) for g in standard) > 0.1


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("objective", [lt.elbo, lt.iwae])
def test_values_and_the_gradient_for_p_are_the_standard_ones(objective: object, samples: int) -> None:
    model = LinearGaussian.make()
    q = model.q()
    ways = ["standard", "stl"] if objective is lt.elbo else ["standard", "stl", "dreg"]
    options = {"analytic": False} if objective is lt.elbo else {}
    bounds = [
        objective(model.p, q, model.values, noise(), samples=samples, gradient=way, **options)  # type: ignore[operator]
        for way in ways
    ]
    expected, *others = [(bound, gradients(bound, model.p)) for bound in bounds]
    for bound, ours in others:
        torch.testing.assert_close(bound.value, expected[0].value)
        assert bound.direction == "lower"
        for one, other in zip(ours, expected[1], strict=True):
            torch.testing.assert_close(one, other)


def two_layers(between: bool) -> tuple[lt.Joint, lt.Joint, dict[str, Tensor]]:
    """z2 -> z1 -> x under p, x -> z1 -> z2 under q, all nonlinear; 40 rows of the same x.

    between: under q, z2 is given a computation on z1.
    """

    def net(inputs: int, outputs: int, seed: int) -> torch.nn.Module:
        made = built(lambda: lt.MLP(inputs, outputs, hidden=(3,), activation="tanh"), seed)
        for weight in made.parameters():
            weight.data *= 1.5
        return made

    p = lt.Joint(
        z2=lt.StandardNormal(1),
        z1=lt.Normal(net(1, 2, 0), given="z2"),
        x=lt.Normal(net(1, 2, 1), given="z1", scale=0.5),
    )
    factors: dict[str, lt.Factor] = {"z1": lt.Normal(built(lambda: lt.MLP(2, 2), 2), given="x")}
    if between:
        factors["h"] = lt.Deterministic(net(1, 2, 3).requires_grad_(False), given="z1")
    top = built(lambda: lt.MLP(2 if between else 1, 2), 4)
    factors["z2"] = lt.Normal(top, given="h" if between else "z1")
    x = torch.tensor([[0.9, -1.1]], dtype=torch.float64).expand(40, 2)
    return p.double(), lt.Joint(factors).double(), {"x": x}


def repeated(make: Callable[[int], lt.Bound], q: lt.Joint, repetitions: int = 100) -> Tensor:
    """The gradient for q with fresh noise each time, `[R, G]`."""
    return torch.stack([torch.cat([g.flatten() for g in gradients(make(s), q)]) for s in range(repetitions)])


def excess(differences: Tensor) -> Tensor:
    """|mean| of `[R, G]` in standard errors, `[G]`."""
    return differences.mean(0).abs() / (differences.std(0) / len(differences) ** 0.5)


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize(("objective", "gradient"), [(lt.elbo, "stl"), (lt.iwae, "dreg")])
def test_with_two_stochastic_layers_the_mean_gradient_is_the_standard_one(
    objective: object, gradient: str, between: bool
) -> None:
    p, q, values = two_layers(between)
    ours, standard = (
        repeated(lambda seed, way=way: objective(p, q, values, noise(seed), samples=6, gradient=way), q)  # type: ignore[operator]
        for way in (gradient, "standard")
    )
    assert (excess(ours - standard) < ERRORS).all()
    assert (excess(standard) > 3 * ERRORS).any()  # the test sees a gradient
    assert (ours - standard).std(0).mean() > 0.05 * standard.std(0).mean()  # and two estimators of it


def test_sticking_the_landing_is_biased_for_many_samples() -> None:
    p, q, values = two_layers(between=False)
    ours, standard = (
        repeated(lambda seed, way=way: lt.iwae(p, q, values, noise(seed), samples=6, gradient=way), q)
        for way in ("stl", "standard")
    )
    assert (excess(ours - standard) > 2 * ERRORS).any()


def one_row_many_times(model: LinearGaussian, repetitions: int) -> tuple[lt.Joint, dict[str, Tensor]]:
    """A q with parameters of its own for each of R repetitions of the first row, all equal."""
    with torch.no_grad():
        wide = as_multivariate(model.wide_q()["z"].distribution(model.x[:1]))
        scale = wide.variance[0].sqrt()
        raw = torch.cat([wide.mean[0], torch.log(torch.expm1(scale - 1e-4))])
    table = lt.Table(repetitions, 4)
    table.weight.data = raw.expand(repetitions, 4).clone()
    values = {"x": model.x[:1].expand(repetitions, -1), "row": torch.arange(repetitions)}
    return lt.Joint(z=lt.Normal(table, given="row")).double(), values


def each_gradient(samples: int, gradient: str, repetitions: int) -> Tensor:
    """The gradient for q of each repetition, `[R, 4]`."""
    model = LinearGaussian.make()
    q, values = one_row_many_times(model, repetitions)
    return gradients(lt.iwae(model.p, q, values, noise(), samples=samples, gradient=gradient), q)[0]


@pytest.mark.parametrize("samples", [1, 2, 10])
def test_the_doubly_reparameterised_gradient_has_the_standard_mean(samples: int) -> None:
    ours, standard = (each_gradient(samples, way, 20_000) for way in ("dreg", "standard"))
    assert (excess(ours - standard) < ERRORS).all()
    assert (excess(standard) > 2 * ERRORS).any()
    assert (ours.var(0) < standard.var(0)).all()


def test_the_signal_of_dreg_grows_with_k_where_that_of_iwae_falls() -> None:
    """Signal to noise, |mean| / standard deviation; theory: as sqrt(K) and as 1 / sqrt(K)."""
    signal = {}
    for samples in (4, 64):
        each = {gradient: each_gradient(samples, gradient, 4000) for gradient in ("standard", "dreg")}
        mean = each["dreg"].mean(0).abs()  # of both, by the one with less error
        signal |= {(gradient, samples): float((mean / g.std(0)).mean()) for gradient, g in each.items()}
    assert signal["standard", 64] < 0.6 * signal["standard", 4]
    assert signal["dreg", 64] > 2 * signal["dreg", 4]


def test_renyi_joins_the_elbo_and_the_importance_weighted_bound() -> None:
    model = LinearGaussian.make()
    q = model.q()

    def value(alpha: float, samples: int = 8) -> Tensor:
        return lt.renyi(model.p, q, model.values, noise(), samples=samples, alpha=alpha).value.detach()

    weighed = lt.iwae(model.p, q, model.values, noise(), samples=8).value
    plain = lt.elbo(model.p, q, model.values, noise(), samples=8, analytic=False).value
    torch.testing.assert_close(value(0.0), weighed)
    torch.testing.assert_close(value(1.0), plain)
    torch.testing.assert_close(value(1 - 1e-6), plain, rtol=1e-4, atol=1e-4)
    for alpha in (-2.0, 0.5, 3.0):
        torch.testing.assert_close(value(alpha, samples=1), value(1.0, samples=1))
    rising = torch.stack([value(alpha) for alpha in (5.0, 2.0, 1.0, 0.5, 0.0, -1.0, -5.0)])
    assert (rising.diff(dim=0) > 0).all()


@pytest.mark.parametrize("alpha", [-0.5, 0.3, 1.2])
def test_renyi_is_the_evidence_less_a_renyi_divergence(alpha: float) -> None:
    """D_alpha(q || p(z | x)) of Gaussians: Gil, Alajaji & Linder (2013), table 2. K = 200,000."""
    model = LinearGaussian.make(rows=2)
    q = model.wide_q()
    with torch.no_grad():
        estimate = lt.renyi(model.p, q, model.values, noise(), samples=200_000, alpha=alpha).value
        one, other = as_multivariate(q["z"].distribution(model.x)), model.posterior()
        exact = model.evidence() - divergence(one, other, alpha)
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.01)
    assert (divergence(one, other, alpha).abs() > 0.05).all()


def divergence(q: MultivariateNormal, p: MultivariateNormal, alpha: float) -> Tensor:
    """1 / (alpha - 1) log int q^alpha p^(1 - alpha)."""
    mixed = alpha * p.covariance_matrix + (1 - alpha) * q.covariance_matrix
    shift = (q.mean - p.mean).unsqueeze(-1)
    distance = (shift.mT @ torch.linalg.solve(mixed, shift)).squeeze((-2, -1))
    log_det = [torch.logdet(c) for c in (mixed, q.covariance_matrix, p.covariance_matrix)]
    volume = log_det[0] - (1 - alpha) * log_det[1] - alpha * log_det[2]
    return alpha / 2 * distance - volume / (2 * (alpha - 1))


def test_the_direction_of_renyi_is_lower_from_alpha_zero_on() -> None:
    model = LinearGaussian.make()
    found = {
        alpha: lt.renyi(model.p, model.q(), model.values, noise(), alpha=alpha).direction
        for alpha in (-0.1, 0.0, 0.5, 1.0, 4.0)
    }
    assert found == {-0.1: "estimate", 0.0: "lower", 0.5: "lower", 1.0: "lower", 4.0: "lower"}


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        (lt.elbo, {"gradient": "stl"}),
        (lt.iwae, {"gradient": "stl", "samples": 1}),
        (lt.iwae, {"gradient": "dreg"}),
        (lt.renyi, {}),
        (lt.renyi, {"alpha": -1.0}),
        (lt.renyi, {"alpha": 2.0}),
    ],
)
def test_every_law_of_an_objective_holds(objective: object, options: dict[str, object]) -> None:
    check_objective(objective, **options)  # type: ignore[arg-type]


def test_in_rows_where_the_latent_was_seen_nothing_is_weighed_against_q() -> None:
    model = LinearGaussian.make()
    q = model.q()
    seen = torch.tensor([True, False, True, False])
    z = torch.ones(4, 2, dtype=torch.float64)
    values = {**model.values, "z": z, "z.observed": seen}
    bounds = [lt.iwae(model.p, q, values, noise(), gradient=way) for way in ("standard", "stl", "dreg")]
    for bound in bounds:
        torch.testing.assert_close(bound.value, bounds[0].value)
        torch.testing.assert_close(bound.value[seen], model.p.log_prob({"x": model.x, "z": z})[seen])


@pytest.mark.parametrize(
    ("objective", "options", "sentence"),
    [
        (lt.elbo, {"gradient": "dreg"}, "gradient 'dreg' is unknown: use 'standard' or 'stl'"),
        (
            lt.iwae,
            {"gradient": "sticking"},
            "gradient 'sticking' is unknown: use 'standard' or 'stl' or 'dreg'",
        ),
        (lt.renyi, {"alpha": float("inf")}, "alpha must be a finite number, the same at each step, got inf"),
        (lt.renyi, {"alpha": torch.tensor(0.5)}, "alpha must be a finite number, the same at each step"),
    ],
)
def test_what_an_objective_does_not_know_is_refused(
    objective: object, options: dict[str, object], sentence: str
) -> None:
    model = LinearGaussian.make()
    with pytest.raises(ValueError, match=sentence):
        objective(model.p, model.q(), model.values, noise(), **options)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("objective", "options"),
    [(lt.elbo, {"gradient": "stl"}), (lt.iwae, {"gradient": "dreg"}), (lt.renyi, {})],
)
def test_a_discrete_q_is_refused_and_so_is_the_path_gradient_of_a_relaxed_or_exact_one(
    objective: object, options: dict[str, object]
) -> None:
    p = lt.Joint(z=lt.Bernoulli(lt.Constant(2)), x=lt.Normal(lt.MLP(2, 3), given="z", scale=1.0)).double()
    values = {"x": torch.zeros(2, 3, dtype=torch.float64)}
    encoder = lt.Bernoulli(lt.MLP(3, 2), given="x")
    with pytest.raises(ValueError, match="q draws 'z' from Bernoulli, which cannot be reparameterised"):
        objective(p, lt.Joint(z=encoder).double(), values, noise(), **options)  # type: ignore[operator]
    if objective is lt.renyi:
        return
    with pytest.raises(ValueError, match="for continuous latents, and q draws 'z' from Concrete"):
        objective(p, lt.Joint(z=lt.Concrete(encoder)).double(), values, noise(), **options)  # type: ignore[operator]
    model = LinearGaussian.make()
    with pytest.raises(ValueError, match="the exact posterior has none of its own: use gradient='standard'"):
        objective(model.p, lt.Exact(model.p), model.values, noise(), **options)  # type: ignore[operator]


def test_dreg_refuses_to_enumerate() -> None:
    p = lt.Joint(
        k=lt.Categorical(2), z=lt.Normal(lt.Table(2, 2), given="k"), x=lt.Normal(lt.MLP(1, 2), given="z")
    )
    q = lt.Joint(k=lt.Categorical(lt.MLP(1, 2), given="x"), z=lt.Normal(lt.MLP(3, 2), given=("k", "x")))
    model, values = lt.Model(p, q).double(), {"x": torch.zeros(3, 1, dtype=torch.float64)}
    with pytest.raises(ValueError, match="'dreg' draws every latent, and 'k' would be enumerated"):
        lt.iwae(model.p, model.q, values, noise(), gradient="dreg", enumerate="k")
    for gradient in ("standard", "stl"):
        bound = lt.iwae(model.p, model.q, values, noise(), gradient=gradient, enumerate="k")
        assert bound.direction == "lower" and bound.value.isfinite().all()
