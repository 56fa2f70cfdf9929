"""NumPyro: stochastic variational inference, all steps of a measurement in one compiled scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import numpyro
from jax import Array, lax, random
from jax import numpy as jnp
from numpyro import distributions as dist
from numpyro.infer import SVI, RenyiELBO, TraceMeanField_ELBO

from .contestants import Run
from .tasks import CHANNELS, PIXELS, RATE, SIDE, Autoencoder, images

Net = Callable[[Array], Array]
LAYOUT = ("NHWC", "HWIO", "NHWC")  # the one that XLA runs fastest on a CPU


def parameter(name: str, shape: tuple[int, ...], fan_in: int) -> Array:
    """A parameter with torch's default start, uniform within 1 / sqrt(fan_in)."""
    bound = fan_in**-0.5
    value: Array = numpyro.param(name, lambda key: random.uniform(key, shape, minval=-bound, maxval=bound))
    return value


def dense(name: str, x: Array, outputs: int) -> Array:
    inputs = x.shape[-1]
    return x @ parameter(f"{name}.w", (inputs, outputs), inputs) + parameter(f"{name}.b", (outputs,), inputs)


def convolution(name: str, x: Array, outputs: int, transposed: bool = False) -> Array:
    """4x4, stride 2: halves the image, or doubles it if transposed."""
    inputs = x.shape[-1]
    weight = parameter(f"{name}.w", (4, 4, inputs, outputs), 16 * inputs)
    bias = parameter(f"{name}.b", (outputs,), 16 * inputs)
    if transposed:
        return lax.conv_transpose(x, weight, (2, 2), "SAME", dimension_numbers=LAYOUT) + bias
    return lax.conv_general_dilated(x, weight, (2, 2), ((1, 1), (1, 1)), dimension_numbers=LAYOUT) + bias


def encode(task: Autoencoder, x: Array) -> tuple[Array, Array]:
    """Mean and scale of q(z | x)."""
    if task.conv:
        h = x.reshape(-1, SIDE, SIDE, 1)
        for layer, width in enumerate(CHANNELS):
            h = jax.nn.relu(convolution(f"encoder.{layer}", h, width))
        h = h.reshape(len(x), -1)
    else:
        h = _hidden("encoder", x, task.hidden, task.activation)
    mean, raw = jnp.split(dense("encoder.out", h, 2 * task.latent), 2, axis=-1)
    return mean, jax.nn.softplus(raw)


def decode(task: Autoencoder, z: Array) -> Array:
    """Logits of p(x | z)."""
    if not task.conv:
        return dense("decoder.out", _hidden("decoder", z, task.hidden[::-1], task.activation), PIXELS)
    narrow, wide = CHANNELS
    h = jax.nn.relu(dense("decoder.in", z, wide * (SIDE // 4) ** 2)).reshape(-1, SIDE // 4, SIDE // 4, wide)
    h = jax.nn.relu(convolution("decoder.0", h, narrow, transposed=True))
    return convolution("decoder.1", h, 1, transposed=True).reshape(-1, PIXELS)


def _hidden(name: str, x: Array, sizes: tuple[int, ...], activation: str) -> Array:
    activate: Net = jnp.tanh if activation == "tanh" else jax.nn.relu
    for layer, (_, size) in enumerate(pairwise((0, *sizes))):
        x = activate(dense(f"{name}.{layer}", x, size))
    return x


def build(task: Autoencoder) -> Run:
    numpyro.enable_validation(False)
    grey = jnp.asarray(images()[0], dtype=jnp.float32) / 255

    def model(x: Array) -> None:
        with numpyro.plate("batch", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(task.latent), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(task, z)).to_event(1), obs=x)

    def guide(x: Array) -> None:
        mean, scale = encode(task, x)
        with numpyro.plate("batch", len(x)):
            numpyro.sample("z", dist.Normal(mean, scale).to_event(1))

    loss = RenyiELBO(num_particles=task.samples) if task.samples > 1 else TraceMeanField_ELBO()
    svi = SVI(model, guide, numpyro.optim.Adam(RATE), loss)
    state = svi.init(random.key(0), grey[: task.batch])
    per_epoch = len(grey) // task.batch

    @partial(jax.jit, static_argnums=1, donate_argnums=0)
    def train(state: Any, steps: int, rows: Array) -> tuple[Any, Array]:
        def step(state: Any, index: Array) -> tuple[Any, Array]:
            return svi.update(state, grey[index])

        return lax.scan(step, state, rows)

    place, keys = 0, random.key(1)
    order = random.permutation(keys, len(grey))

    def run(steps: int) -> float:
        nonlocal state, place, keys, order
        if place + steps > per_epoch:
            keys, key = random.split(keys)
            order, place = random.permutation(key, len(grey)), 0
        rows = order[place * task.batch : (place + steps) * task.batch].reshape(steps, task.batch)
        place += steps
        state, losses = train(state, steps, rows)
        return -float(losses.mean()) / task.batch

    return run
