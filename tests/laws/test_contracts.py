"""The contracts between the parts: shapes, factors, joints, what is observed, noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import latentia as lt
from latentia.noise import BoundNoise, GivenNoise, Noise, Request, draw_noise

CHANCE = 2e-5


class Spy(nn.Module):
    """A net that notes the shapes it is called with."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seen = net, []
        self.out_shape, self.takes_codes = net.out_shape, net.takes_codes

    def forward(self, *inputs: Tensor) -> Tensor:
        self.seen.append([(tuple(x.shape), x.is_floating_point()) for x in inputs])
        return self.net(*inputs)


def m2() -> lt.Model:
    """p(y) p(z) p(x | y, z) with q(y | x) q(z | x, y)."""
    return lt.Model(
        lt.Joint(
            y=lt.Categorical(3, logits="uniform"),
            z=lt.StandardNormal(2),
            x=lt.Normal(lt.MLP(5, 4), given=("y", "z"), scale=1.0),
        ),
        lt.Joint(y=lt.Categorical(lt.MLP(4, 3), given="x"), z=lt.Normal(lt.MLP(7, 4), given=("x", "y"))),
    )


def test_a_completion_is_lead_batch_event_and_an_image_stays_an_image() -> None:
    p = lt.Joint(
        z=lt.StandardNormal(3), x=lt.Bernoulli(lt.ConvDecoder(3, (2, 7, 5), channels=(4,)), given="z")
    )
    done = p.complete({}, Noise(), samples=4, batch=6)
    assert done.values["z"].shape == (4, 6, 3)
    assert done.values["x"].shape == (4, 6, 2, 7, 5)
    assert p.log_prob(done.values).shape == (4, 6)
    assert p["x"].event == (2, 7, 5)


def test_an_encoder_runs_once_on_unled_parents_and_a_decoder_on_all_samples_folded() -> None:
    encoder, decoder = Spy(lt.MLP((1, 2, 2), 6)), Spy(lt.MLP(3, (1, 2, 2)))
    p = lt.Joint(z=lt.StandardNormal(3), x=lt.Bernoulli(decoder, given="z"))
    q = lt.Joint(z=lt.Normal(encoder, given="x"))
    lt.elbo(p, q, {"x": torch.ones(5, 1, 2, 2)}, Noise(), samples=7)
    assert encoder.seen == [[((5, 1, 2, 2), True)]]
    assert decoder.seen == [[((35, 3), True)]]


def test_a_root_factor_draws_for_every_sample_and_row() -> None:
    z = lt.Joint(z=lt.StandardNormal(1)).complete({}, Noise(), samples=3, batch=5).values["z"]
    assert len(z.unique()) == 15


def test_nets_see_codes_one_hot_and_tables_see_codes_and_both_take_relaxed_values() -> None:
    net, table = Spy(lt.MLP(3, 2)), Spy(lt.Table(3, 2))
    p = lt.Joint(
        y=lt.Categorical(3), a=lt.Normal(net, given="y", scale=1.0), b=lt.Normal(table, given="y", scale=1.0)
    )
    values = {"y": torch.tensor([0, 2]), "a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}
    p.log_prob(values)
    assert net.seen == [[((2, 3), True)]] and table.seen == [[((2,), False)]]
    (one_hot,) = p.parents("a", values)
    assert torch.equal(one_hot, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    (relaxed,) = p.parents("a", {**values, "y": torch.tensor([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])})
    assert torch.equal(relaxed[0], torch.tensor([0.2, 0.8, 0.0]))


def test_codes_reach_a_model_in_float64_in_its_own_precision() -> None:
    model = m2().double()
    values = {"x": torch.zeros(2, 4, dtype=torch.float64), "y": torch.tensor([0, 2])}
    assert lt.elbo(model.p, model.q, values, Noise(dtype=torch.float64)).value.dtype == torch.float64


def test_codes_of_an_unknown_number_of_classes_are_refused() -> None:
    p = lt.Joint(x=lt.Normal(lt.MLP(3, 2), given="y", scale=1.0))
    with pytest.raises(ValueError, match="'y' holds integer codes of an unknown number of classes"):
        p.log_prob({"x": torch.zeros(2, 2), "y": torch.tensor([0, 1])})


def test_a_nets_output_is_split_along_dimension_1_whatever_the_net() -> None:
    flat, image = lt.MLP(3, 4), lt.ConvDecoder(3, (4, 3, 5), channels=(2,))
    h = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    for net, event in ((flat, (2,)), (image, (2, 3, 5))):
        factor = lt.Normal(net, given="h")
        assert factor.event == event
        base = factor.distribution(h).base_dist
        loc, raw = net(h).split(2, dim=1)
        torch.testing.assert_close(base.loc, loc)
        torch.testing.assert_close(base.scale, nn.functional.softplus(raw) + factor.floor)


def test_an_event_that_a_net_hides_is_told() -> None:
    with pytest.raises(ValueError, match="pass event=, such as"):
        lt.Bernoulli(nn.Linear(3, 2), given="z")
    assert lt.Bernoulli(nn.Linear(3, 2), given="z", event=2).event == (2,)
    with pytest.raises(ValueError, match="splits its net's output in 2 along dimension 1, which has size 3"):
        lt.Normal(lt.MLP(3, 3), given="z")
    with pytest.raises(ValueError, match="needs 4 outputs from its net"):
        lt.Normal(nn.Linear(3, 2), given="z", event=2).distribution(torch.zeros(1, 3))


def test_a_draw_is_one_pass_through_the_net() -> None:
    spy = Spy(lt.MLP(3, 4))
    drawn = lt.Normal(spy, given="z").draw(BoundNoise(Noise(), "x", (2, 5)), torch.zeros(5, 3))
    assert drawn.log_prob().shape == (2, 5) and len(spy.seen) == 1


@pytest.mark.parametrize(
    ("joint", "equation"),
    [
        (
            lambda: lt.Joint(z=lt.StandardNormal(2), x=lt.Bernoulli(lt.MLP(2, 3), given="z")),
            "p(x, z) = p(z) p(x | z)",
        ),
        (
            lambda: lt.Joint(z=lt.StandardNormal(2), x=lt.Bernoulli(lt.MLP(4, 3), given=("z", "y"))),
            "p(x, z | y) = p(z) p(x | z, y)",
        ),
        (lambda: lt.Joint(x=lt.Bernoulli(lt.Constant(3))), "p(x)"),
        (
            lambda: lt.Joint(
                h=lt.Deterministic(lt.MLP(2, 2), given="x"), z=lt.Normal(lt.MLP(2, 4), given="h")
            ),
            "p(z, h | x) = [h = f(x)] p(z | h)",
        ),
    ],
)
def test_a_joint_prints_as_its_equation(joint: Any, equation: str) -> None:
    assert joint().equation() == equation
    assert repr(joint()).startswith(equation)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: lt.Joint(x=lt.Bernoulli(lt.MLP(2, 3), given="z"), z=lt.StandardNormal(2)),
            r"p\(x \| z\): define 'z' before 'x'",
        ),
        (lambda: lt.Joint(x=lt.Bernoulli(lt.MLP(2, 2), given="x")), "a variable cannot be its own parent"),
        (lambda: lt.Joint(), "a Joint needs at least one factor"),
        (lambda: lt.Joint(row=lt.StandardNormal(2)), "'row' is a reserved name"),
        (lambda: lt.Joint({"x.observed": lt.StandardNormal(2)}), "'x.observed' is a reserved name"),
        (lambda: lt.Joint(x=nn.Linear(1, 1)), "'x' must be a Factor, got Linear"),  # type: ignore[arg-type]
    ],
)
def test_a_graph_that_is_none_is_refused_with_a_sentence(make: Any, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence):
        make()


def test_any_text_can_name_a_variable_and_order_is_ancestral() -> None:
    p = lt.Joint({"sepal length (cm)": lt.StandardNormal(1), "given": lt.StandardNormal(1)})
    assert p.variables == ("sepal length (cm)", "given") and "given" in p
    assert p.log_prob({name: torch.zeros(2, 1) for name in p}).shape == (2,)


@pytest.mark.parametrize(
    ("q", "sentence"),
    [
        (
            lambda: lt.Joint(w=lt.Normal(lt.MLP(3, 4), given="x")),
            r"q draws 'w', which p\(x, z\) = .* does not name",
        ),
        (lambda: lt.Joint(z=lt.Normal(lt.MLP(3, 4), given="X")), "q is given 'X', which .* is it misspelt"),
        (
            lambda: lt.Joint(z=lt.Normal(lt.MLP(3, 6), given="x")),
            r"'z' has event \(2,\) in p and \(3,\) in q",
        ),
    ],
)
def test_a_q_that_does_not_know_p_is_refused(q: Any, sentence: str) -> None:
    p = lt.Joint(z=lt.StandardNormal(2), x=lt.Bernoulli(lt.MLP(2, 3), given="z"))
    with pytest.raises(ValueError, match=sentence):
        lt.Model(p, q())


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        ({"x": torch.zeros(2, 4), "Y": torch.zeros(2)}, "the data hold 'Y', which .* does not name"),
        ({"x": torch.zeros(2, 3)}, r"'x': the model expects events of shape \(4,\), got \(3,\)"),
    ],
)
def test_a_misspelt_or_misshapen_variable_never_becomes_latent(x: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        m2().log_evidence(x)


def test_a_missing_input_is_refused() -> None:
    p = lt.Joint(z=lt.StandardNormal(2), x=lt.Bernoulli(lt.MLP(4, 3), given=("z", "y")))
    model = lt.Model(p, lt.Joint(z=lt.Normal(lt.MLP(3, 4), given="x")))
    with pytest.raises(ValueError, match=r"p\(x, z \| y\) = .* needs 'y', which the data do not hold"):
        model.log_evidence({"x": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match="needs 'y', which has no value"):
        lt.elbo(model.p, model.q, {"x": torch.zeros(2, 3)}, Noise())


def test_observed_means_present() -> None:
    model = m2()
    x, y = torch.zeros(5, 4), torch.tensor([0, 1, 2, 0, 1])
    latent = model.q.complete({"x": x}, Noise(), samples=3)
    labelled = model.q.complete({"x": x, "y": y}, Noise(), samples=3)
    assert set(latent.log_q) == {"y", "z"} and latent.values["y"].shape == (3, 5)
    assert set(labelled.log_q) == {"z"} and labelled.values["y"] is y
    assert model.latent == ("y", "z") and model.observed == ("x",)
    everything = model.q.complete({"x": x, "y": y, "z": torch.zeros(5, 2)}, Noise())
    assert not everything.log_q
    with pytest.raises(ValueError, match="'z' has no value: it is latent"):
        model.p.log_prob({"x": x, "y": y})


def test_draws_weigh_one_over_s() -> None:
    done = m2().q.complete({"x": torch.zeros(2, 4)}, Noise(), samples=8)
    assert float(torch.as_tensor(done.log_weight).exp().sum()) == pytest.approx(1 / 8)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        m2().q.complete({"x": torch.zeros(2, 4)}, Noise(), samples=0)
    with pytest.raises(ValueError, match="say how many examples to draw with batch="):
        m2().p.complete({}, Noise())


def test_a_deterministic_node_is_computed_when_absent_and_in_no_sum() -> None:
    net = lt.MLP(2, 3)
    p = lt.Joint(
        z=lt.StandardNormal(2),
        h=lt.Deterministic(net, given="z"),
        x=lt.Normal(lt.MLP(3, 4), given="h", scale=1.0),
    )
    z, x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(5, 4)
    assert set(p.log_probs({"z": z, "x": x})) == {"z", "x"}
    torch.testing.assert_close(p.computed({"z": z})["h"], net(z))
    torch.testing.assert_close(p.log_prob({"z": z, "x": x}), p.log_prob({"z": z, "x": x, "h": net(z)}))
    assert torch.equal(p.computed({"z": z, "h": torch.ones(5, 3)})["h"], torch.ones(5, 3))
    with pytest.raises(TypeError, match="no density"):
        p["h"].log_prob(torch.zeros(5, 3), z)


def test_a_per_datum_posterior_is_a_table_given_the_row() -> None:
    q = lt.Joint(z=lt.Normal(lt.Table(6, 4), given="row"))
    model = lt.Model(lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 3), given="z", scale=1.0)), q)
    rows = torch.tensor([5, 0, 0])
    bound = lt.elbo(model.p, model.q, {"x": torch.zeros(3, 3), "row": rows}, Noise(), samples=4)
    mean = model.q["z"].distribution(rows).mean
    assert bound.value.shape == (3,) and torch.equal(mean[1], mean[2]) and not torch.equal(mean[0], mean[1])


def test_given_noise_is_all_the_randomness_there_is() -> None:
    model = m2()
    values = {"x": torch.zeros(3, 4), "y": torch.tensor([0, 1, 2])}
    noise = Noise(7)
    value = lt.elbo(model.p, model.q, values, noise, samples=2).value
    assert noise.requests == {"z.0": Request((2, 3, 2), "normal")} and noise.replayable
    tensors = {"z.0": draw_noise(noise.requests["z.0"], torch.Generator().manual_seed(7), torch.float32)}
    assert torch.equal(lt.elbo(model.p, model.q, values, GivenNoise(tensors), samples=2).value, value)
    with pytest.raises(ValueError, match=r"noise for 'z.0': expected shape \(5, 3, 2\), got \(2, 3, 2\)"):
        lt.elbo(model.p, model.q, values, GivenNoise(tensors), samples=5)
    with pytest.raises(ValueError, match=r"no noise was given for 'z\.0'"):
        lt.elbo(model.p, model.q, values, GivenNoise({}))


def test_bernoulli_is_u_below_p_and_categorical_a_gumbel_argmax() -> None:
    u = torch.rand(50, 3, 4, generator=torch.Generator().manual_seed(0))
    bernoulli = lt.Bernoulli(lt.Constant(4, value=0.3))
    drawn = bernoulli.draw(BoundNoise(GivenNoise({"x.0": u}), "x", (50, 3))).value
    assert torch.equal(drawn, (u < torch.sigmoid(torch.tensor(0.3))).float())
    g = draw_noise(Request((50, 3, 4), "gumbel"), torch.Generator().manual_seed(0), torch.float32)
    categorical = lt.Categorical(4)
    categorical.net.value.data = torch.tensor([0.1, 1.0, -2.0, 0.4])
    drawn = categorical.draw(BoundNoise(GivenNoise({"k.0": g}), "k", (50, 3))).value
    assert torch.equal(drawn, (categorical.net.value + g).argmax(-1))


@pytest.mark.parametrize(
    ("kind", "law"), [("normal", stats.norm), ("uniform", stats.uniform), ("gumbel", stats.gumbel_r)]
)
def test_noise_follows_its_kind(kind: str, law: Any) -> None:
    drawn = draw_noise(Request((20_000,), kind), torch.Generator().manual_seed(0), torch.float64)
    assert stats.kstest(drawn.numpy(), law.cdf).pvalue > CHANCE
    with pytest.raises(
        ValueError, match="noise kind 'cauchy' is unknown: use 'normal', 'uniform' or 'gumbel'"
    ):
        draw_noise(Request((1,), "cauchy"), torch.Generator(), torch.float32)


def test_gumbel_noise_is_finite_at_the_ends_of_the_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    for end in (0.0, 1.0 - 2**-24):
        monkeypatch.setattr(torch, "rand", lambda shape, end=end, **_: torch.full(shape, end))
        assert draw_noise(Request((3,), "gumbel"), torch.Generator(), torch.float32).isfinite().all()


def test_a_family_without_given_noise_runs_eagerly_only_and_says_so() -> None:
    factor = lt.Columns(lt.Constant(2), columns=("count", "number"))
    noise = Noise()
    assert factor.draw(BoundNoise(noise, "x", (2, 3))).value.shape == (2, 3, 2)
    assert not noise.replayable
    with pytest.raises(ValueError, match="has no draw from given noise, so it runs eagerly only"):
        factor.draw(BoundNoise(GivenNoise({}), "x", (2, 3)))


def test_an_indirect_discrete_draw_never_trains_with_a_silent_bias() -> None:
    """k's own factor has no parameters, but it depends on z's: no gradient comes back through k."""
    encoder = lt.MLP(3, 2)
    frozen = lt.MLP(1, 2).requires_grad_(False)
    p = lt.Joint(z=lt.StandardNormal(1), k=lt.Categorical(2), x=lt.Normal(lt.MLP(2, 3), given="k", scale=1.0))
    q = lt.Joint(z=lt.Normal(encoder, given="x"), k=lt.Categorical(frozen, given="z"))
    model = lt.Model(p, q)
    with pytest.raises(ValueError, match="q draws 'k' from Categorical, which cannot be reparameterised"):
        lt.elbo(model.p, model.q, {"x": torch.zeros(2, 3)}, Noise())
