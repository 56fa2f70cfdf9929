"""A saved model comes back to the bit, and what is damaged or untrusted is refused with a sentence."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import latentia as lt
from latentia._expression import Reader, Writer
from latentia._files import atomic_write
from latentia.archive import foreign_parts
from latentia.errors import ArchiveError
from tests.laws.registry import FACTORS

MODELS: dict[str, Callable[[], lt.Model]] = {
    "vae": lambda: lt.models.vae(event=(1, 4, 4), latent=2, hidden=(5,), likelihood="bernoulli"),
    "vae_full": lambda: lt.models.vae(event=6, latent=3, hidden=(5,), covariance=lt.Full()),
    "vae_low_rank": lambda: lt.models.vae(event=6, latent=3, hidden=(5,), covariance=lt.LowRank(2)),
    "vae_conv": lambda: lt.models.vae(event=(1, 9, 7), latent=2, conv=True, channels=(3, 4)),
    "vae_missing": lambda: lt.models.vae(event=5, latent=2, hidden=(4,), missing=True),
    "vae_normal_network": lambda: lt.models.vae(event=5, latent=2, likelihood="normal_network"),
    "linear_vae": lambda: lt.models.linear_vae(event=5, latent=2),
    "autoencoder": lambda: lt.models.autoencoder(event=5, latent=2, hidden=(4,)),
    "without_q": lambda: lt.Model(lt.Joint(x=lt.Normal(lt.Constant(4)))),
    "fixed_scales": lambda: lt.Model(
        lt.Joint(x=lt.Normal(lt.Constant(3), scale=torch.tensor([0.5, 1.0, 1e-3])))
    ),
    "any_name": lambda: lt.Model(lt.Joint({"a name, of a column": lt.Bernoulli(lt.Constant(2))})),
    "conditional": lambda: lt.Model(
        lt.Joint(y=lt.Categorical(3, logits="uniform"), x=lt.Normal(lt.Table(3, 4), given="y")),
        lt.Joint(y=lt.Categorical(lt.MLP(2, 3), given="x")),
    ),
}


class Shifted(lt.Normal):
    """A class of a user's own."""


def own_model() -> lt.Model:
    return lt.Model(
        lt.Joint(z=lt.StandardNormal(2), x=Shifted(lt.MLP(2, 3), given="z", scale="learnt")),
        lt.Joint(z=lt.Normal(lt.MLP(3, 4), given="x")),
    )


def same_bits(one: lt.Model, other: lt.Model) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return MODELS["vae"]().save(tmp_path / "model")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_comes_back_to_the_bit(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = MODELS[name]().to(dtype)
    model.fitted = name == "vae"
    again = lt.load_model(model.save(tmp_path / "model"))
    assert same_bits(model, again)
    assert again.dtype == dtype
    assert again.fitted == model.fitted
    assert repr(again) == repr(model) and again.p.equation() == model.p.equation()
    drawn = [m.sample(3, seed=1) if not m.p.inputs else m.decode(torch.ones(3, 2)) for m in (again, model)]
    torch.testing.assert_close(*drawn, rtol=0, atol=0)
    assert {k: p.requires_grad for k, p in again.named_parameters()} == {
        k: p.requires_grad for k, p in model.named_parameters()
    }


@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_of_the_registry_archives_itself_without_user_code(name: str) -> None:
    assert foreign_parts(lt.Model(lt.Joint(value=FACTORS[name].factor()))) == []


def test_the_folder_holds_weights_config_and_card_and_no_pickle(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    config = json.loads((saved / "config.json").read_text())
    content = (saved / "model.safetensors").read_bytes()
    assert config["sha256"] == hashlib.sha256(content).hexdigest()
    assert config["format"] == 1 and config["latentia"] == lt.__version__
    assert config["expression"]["p"]["call"] == "Joint"
    card = (saved / "README.md").read_text()
    assert "p(x, z) = p(z) p(x | z)" in card and "q(z | x)" in card and "lt.load_model(folder)" in card


def test_the_card_says_what_it_is_told(tmp_path: Path) -> None:
    folder = lt.save(MODELS["vae"](), tmp_path / "model", about="Fitted to digits.")
    assert "Fitted to digits." in (folder / "README.md").read_text()


def test_the_schema_comes_back(tmp_path: Path) -> None:
    data = lt.load_data("iris")
    model = lt.models.vae(data=data, latent=2, hidden=(4,))
    again = lt.load_model(model.save(tmp_path / "model"))
    assert again.schema == data.schema
    x = model.sample(2)
    torch.testing.assert_close(again.encode(x), model.encode(x), rtol=0, atol=0)
    assert data.schema.units in (tmp_path / "model" / "README.md").read_text()


def test_a_net_shared_by_two_factors_is_shared_again_and_written_once(tmp_path: Path) -> None:
    net = lt.MLP(3, 4)
    q = lt.Joint(z=lt.Normal(net, given="x"), w=lt.Normal(net, given="x"))
    p = lt.Joint(
        z=lt.StandardNormal(2), w=lt.StandardNormal(2), x=lt.Normal(lt.MLP(4, 3), given=("z", "w"), scale=1.0)
    )
    folder = lt.Model(p, q).save(tmp_path / "model")
    again = lt.load_model(folder)
    assert again.q["z"].net is again.q["w"].net
    assert (
        len(load_file(folder / "model.safetensors"))
        == len(list(again.parameters())) + len(list(again.buffers())) - 4
    )


def test_weights_tied_by_hand_are_written_once_and_tied_again(tmp_path: Path) -> None:
    model = lt.Model(
        lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 2), given="z", scale=1.0)),
        lt.Joint(z=lt.Normal(lt.MLP(2, 2), given="x", scale=1.0)),
    )
    model.q["z"].net.layers[0].weight = model.p["x"].net.layers[0].weight
    folder = model.save(tmp_path / "model")
    assert json.loads((folder / "config.json").read_text())["aliases"]
    again = lt.load_model(folder)
    assert again.q["z"].net.layers[0].weight is again.p["x"].net.layers[0].weight
    assert same_bits(model, again)


def test_a_slice_of_another_tensor_is_no_alias(tmp_path: Path) -> None:
    model = lt.Model(lt.Joint(x=lt.Normal(lt.Constant(4))))
    storage = torch.arange(8.0)
    model.p["x"].net.value.data = storage[::2]
    again = lt.load_model(model.save(tmp_path / "model"))
    torch.testing.assert_close(again.p["x"].net.value.data, torch.tensor([0.0, 2.0, 4.0, 6.0]))


def test_loading_does_not_touch_the_users_generator(saved: Path) -> None:
    state = torch.random.get_rng_state()
    lt.load_model(saved).save(saved)
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_arguments_are_those_at_construction(tmp_path: Path) -> None:
    hidden = [4]
    model = lt.Model(lt.Joint(x=lt.Normal(lt.MLP(3, 2, hidden), given="y")))
    hidden.append(5)
    assert same_bits(model, lt.load_model(model.save(tmp_path / "model")))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -(10**30),
        0.1,
        float("inf"),
        -float("inf"),
        "a\u2028b",
        (),
        (1, (2,)),
        [1, [None]],
        {"a": 1, 2: (3,)},
        lt.LowRank(3),
        torch.tensor([1.5, 2.0]),
        np.arange(3.0),
    ],
    ids=repr,
)
def test_an_expression_is_read_as_it_was_written(value: Any) -> None:
    writer = Writer()
    again = Reader(writer.tensors).read(json.loads(json.dumps(writer.write(value), allow_nan=False)))
    assert type(again) is type(value)
    assert np.array_equal(again, value) if isinstance(value, torch.Tensor | np.ndarray) else again == value


def test_not_a_number_survives() -> None:
    assert np.isnan(Reader({}).read(json.loads(json.dumps(Writer().write(float("nan"))))))


def test_user_code_is_named_and_never_imported(tmp_path: Path) -> None:
    model = own_model()
    with pytest.warns(UserWarning, match=r"Shifted.*load_model\(.*, into=model\)"):
        folder = model.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert config["expression"] is None and config["foreign"] == [f"{Shifted.__module__}.Shifted"]
    assert "into=model" in (folder / "README.md").read_text()
    with pytest.raises(ArchiveError, match=r"Shifted.*build it as before, then load_model\(.*, into=model\)"):
        lt.load_model(folder)
    other = own_model()
    assert not same_bits(model, other)
    assert lt.load_model(folder, into=other) is other
    assert same_bits(model, other)


def test_into_takes_the_weights_the_schema_and_the_precision(tmp_path: Path) -> None:
    data = lt.load_data("iris")
    model = lt.models.vae(data=data, latent=2, hidden=(4,)).double()
    model.fitted = True
    other = lt.models.vae(event=data.event_shape, latent=2, hidden=(4,), seed=5)
    lt.load_model(model.save(tmp_path / "model"), into=other)
    assert same_bits(model, other) and other.dtype == torch.float64
    assert other.schema == data.schema and other.fitted


def test_a_model_changed_after_it_was_made_is_not_written_as_an_expression(tmp_path: Path) -> None:
    model = MODELS["linear_vae"]()
    model.p["x"].net.layers[0] = torch.nn.Linear(2, 5, bias=False)
    with pytest.warns(UserWarning, match="changed after it was made"):
        folder = model.save(tmp_path / "model")
    with pytest.raises(ArchiveError, match="changed after it was made"):
        lt.load_model(folder)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            lambda: lt.models.vae(event=(1, 4, 4), latent=2, hidden=(6,), likelihood="bernoulli"),
            "has shape .* in .* and .* in the model",
        ),
        (lambda: lt.models.vae(event=(1, 4, 4), latent=2), "lacks p.factors.1.raw_scale"),
        (
            lambda: lt.models.vae(event=(1, 4, 4), latent=2, hidden=(), likelihood="bernoulli"),
            "has, beyond those of the model, p.factors.1.net.layers.1.bias",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(
    saved: Path, other: Callable[[], lt.Model], sentence: str
) -> None:
    model, before = other(), other()
    with pytest.raises(ArchiveError, match=f"the weights do not fit the model: .*{sentence}"):
        lt.load_model(saved, into=model)
    assert same_bits(model, before)


def test_loading_runs_no_code_from_the_folder(saved: Path) -> None:
    (saved / "latentia.py").write_text("raise SystemExit('imported')")
    here = Path.cwd()
    os.chdir(saved)
    try:
        lt.load_model(saved)
    finally:
        os.chdir(here)


def test_a_failed_save_leaves_what_was_there(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        lt.models.vae(event=(1, 4, 4), latent=2, hidden=(5,), seed=3).save(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_nothing_is_renamed_before_everything_is_on_the_disk(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        events.append("fsync")
        fsync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        events.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    MODELS["vae"]().save(saved)
    assert events == ["fsync"] * 3 + ["rename"] * 3 + ["fsync"]


def test_a_saved_folder_is_replaced_whole(saved: Path) -> None:
    model = lt.models.vae(event=3, latent=1, hidden=())
    assert same_bits(lt.load_model(model.save(saved)), model)


def test_an_atomic_write_has_the_permissions_of_an_ordinary_file(tmp_path: Path) -> None:
    atomic_write(tmp_path / "one", b"1")
    (tmp_path / "two").write_bytes(b"2")
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "two").stat().st_mode
    assert (tmp_path / "one").read_bytes() == b"1" and len(list(tmp_path.iterdir())) == 2
