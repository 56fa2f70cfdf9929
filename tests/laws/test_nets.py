"""The laws of nets, on every net of the registry."""

from __future__ import annotations

import pytest
import torch

import latentia as lt
from latentia.nets import fold
from tests.laws.registry import CODES, NETS, RELAXED


@pytest.mark.parametrize("name", NETS)
def test_out_shape_is_that_of_an_output_without_the_batch(name: str) -> None:
    entry = NETS[name]
    net, values = entry.net(), entry.values()
    assert net.out_shape == entry.output
    assert tuple(net(*values).shape) == ((len(values[0]), *entry.output) if values else entry.output)


@pytest.mark.parametrize("name", NETS)
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    net, values = NETS[name].net(), NETS[name].values()
    if values:
        alone = torch.cat([net(*(v[i : i + 1] for v in values)) for i in range(len(values[0]))])
        torch.testing.assert_close(net(*values), alone)


@pytest.mark.parametrize("name", NETS)
def test_folding_lead_dimensions_is_a_loop_over_them(name: str) -> None:
    net, values = NETS[name].net(), NETS[name].values()
    led = [torch.stack([torch.stack([v.roll(s + k, 0) for s in range(2)]) for k in range(3)]) for v in values]
    out = fold(net, led, [v.ndim - 1 for v in values])
    for k, s in torch.cartesian_prod(torch.arange(3), torch.arange(2)).tolist() if values else ():
        torch.testing.assert_close(out[k, s], net(*(v[k, s] for v in led)))


def test_parents_without_lead_dimensions_meet_those_with_them() -> None:
    net, (a, b) = NETS["mlp_of_two"].net(), NETS["mlp_of_two"].values()
    led = torch.stack([a, a.roll(1, 0)])
    torch.testing.assert_close(fold(net, [led, b], [1, None])[1], net(a.roll(1, 0), b))


@pytest.mark.parametrize("name", NETS)
def test_gradients_reach_every_parameter(name: str) -> None:
    net = NETS[name].net()
    net(*NETS[name].values()).exp().sum().backward()
    for parameter in net.parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any()


@pytest.mark.parametrize("size", [(5, 5), (7, 9), (8, 6), (28, 28), (31, 4)])
def test_a_decoder_mirrors_its_encoder_at_any_size(size: tuple[int, int]) -> None:
    event = (2, *size)
    encoder, decoder = lt.ConvEncoder(event, 3, channels=(4, 5)), lt.ConvDecoder(3, event, channels=(4, 5))
    assert decoder(encoder(torch.zeros(2, *event))).shape == (2, *event)


def test_no_hidden_layers_make_a_linear_map() -> None:
    net = NETS["linear"].net()
    x, y = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(0.3 * x + 0.7 * y), 0.3 * net(x) + 0.7 * net(y))


def test_a_table_mixes_its_rows_as_one_hot_and_relaxed_codes_say() -> None:
    table = NETS["table"].net()
    one_hot = torch.nn.functional.one_hot(CODES, 3).double()
    torch.testing.assert_close(table(CODES), table(one_hot))
    torch.testing.assert_close(table(RELAXED.double()), RELAXED.double() @ table(torch.arange(3)))


def test_a_net_built_for_holes_takes_as_many_mask_features_again() -> None:
    assert lt.MLP(3, 2, missing=True).layers[0].in_features == 6
    assert lt.ConvEncoder((1, 8, 8), 2, channels=(4,), missing=True).convolutions[0].in_channels == 2


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: lt.MLP(3, 2)(torch.zeros(1, 4)), "built for 3 input features and got 4"),
        (lambda: lt.MLP(0, 2), "sizes must be at least 1"),
        (lambda: lt.MLP(3, 2, hidden=(4, 0)), "sizes must be at least 1"),
        (lambda: lt.MLP(3, 2, activation="rely"), "activation 'rely' is unknown"),
        (lambda: lt.ConvEncoder((28, 28), 2), "needs an image shape"),
        (lambda: lt.ConvEncoder((1, 3, 9), 2), "3x9 images are too small for 2 halvings"),
        (lambda: lt.ConvDecoder(2, (1, 1, 1), channels=(4,)), "1x1 images are too small"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(make: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()  # type: ignore[operator]


def test_tanh_is_tanh() -> None:
    x = torch.linspace(-20, 20, 101, dtype=torch.float64)
    net = lt.MLP(1, 1, hidden=(1,), activation="tanh").double()
    torch.testing.assert_close(net.activation(x), torch.tanh(x))
