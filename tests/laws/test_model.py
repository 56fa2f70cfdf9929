"""A model is a function of its seed, speaks the data's units, and refuses with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import latentia as lt


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


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: lt.models.vae(event=4, latent=2, hidden=(3,), seed=seed),
        lambda seed: lt.models.linear_vae(event=4, latent=2, seed=seed),
        lambda seed: lt.models.autoencoder(event=(1, 4, 4), latent=2, conv=True, channels=(2,), seed=seed),
    ],
)
def test_models_are_built_from_their_seed_and_leave_the_users_generator_alone(make: Any) -> None:
    state = torch.random.get_rng_state()
    one, two, other = (torch.cat([p.flatten() for p in make(seed).parameters()]) for seed in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_sampling_is_a_function_of_its_seed() -> None:
    model = lt.models.vae(event=4, latent=2, hidden=(3,))
    state = torch.random.get_rng_state()
    assert torch.equal(model.sample(5, seed=1), model.sample(5, seed=1))
    assert not torch.equal(model.sample(5, seed=1), model.sample(5, seed=2))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_model_speaks_the_datas_units_and_the_data_keep_theirs() -> None:
    data = lt.load_data("iris")
    model = lt.models.vae(data=data, latent=2, hidden=(8,))
    x = model.sample(200)
    assert x.shape == (200, 4) and 4 < float(x[:, 0].mean()) < 8
    z, again = model.encode(x), model.reconstruct(x)
    assert z.shape == (200, 2) and again.shape == x.shape
    torch.testing.assert_close(model.decode(z), again)
    assert model.posterior(x).mean.shape == (200, 2)


def test_several_latents_come_and_go_as_dicts() -> None:
    model = m2()
    x = torch.zeros(5, 4)
    codes = model.encode(x)
    assert isinstance(codes, dict) and codes["y"].shape == (5,) and codes["z"].shape == (5, 2)
    assert model.decode(codes).shape == (5, 4)
    with pytest.raises(ValueError, match="pass a dict with the latent variables y, z"):
        model.decode(torch.zeros(5, 2))


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda m: m.sample(0), "the number of samples must be at least 1, got 0"),
        (lambda m: m.decode(torch.zeros(2, 3)), r"'z': expected shape \(N, 2\), got \(2, 3\)"),
        (lambda m: m.encode(torch.zeros(2, 5)), r"'x': the model expects events of shape \(4,\), got \(5,\)"),
        (
            lambda m: lt.Model(m.p).encode(torch.zeros(2, 4)),
            "has no inference model: there is nothing to encode",
        ),
    ],
)
def test_what_cannot_be_asked_of_a_model_is_refused_with_a_sentence(ask: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ask(lt.models.vae(event=4, latent=2, hidden=(3,)))


def test_an_autoencoder_has_no_prior_to_sample_from() -> None:
    model = lt.models.autoencoder(event=4, latent=2, hidden=(3,))
    with pytest.raises(ValueError, match=r"p\(x \| z\) has no distribution for 'z'.*or use decode"):
        model.sample(3)
    assert model.encode(torch.zeros(5, 4)).shape == (5, 2)
    assert model.reconstruct(torch.zeros(5, 4)).shape == (5, 4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"event": 4, "latent": 0}, "at least 1 latent dimension, got latent=0"),
        ({}, "say the shape of one example with event="),
        ({"event": 0}, "event sizes must be at least 1"),
        ({"event": 4, "likelihood": "gauss"}, "likelihood 'gauss' is unknown"),
        ({"event": 4, "conv": True}, "needs an image shape"),
        ({"event": 4, "covariance": lt.LowRank(2), "latent": 3, "hidden": (0,)}, "sizes must be at least 1"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_with_a_sentence(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        lt.models.vae(**options)


def test_binarised_data_are_other_data_than_grey_ones() -> None:
    grey, black = lt.load_data("digits"), lt.load_data("digits", binarise="threshold")
    assert grey.schema.comparable != black.schema.comparable
