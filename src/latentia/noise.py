"""Noise: the epsilon of z = g(epsilon, parents), drawn outside the factors.

A factor asks `noise(event_shape, kind)` and gets a tensor `[*lead, B, *event_shape]`. Eager runs draw it from
a generator of our own; a compiled step receives the same tensors as inputs. Kinds: "normal" N(0, 1),
"uniform" on [0, 1), "gumbel".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution


class Request(NamedTuple):
    """What a factor asked for: the whole shape `[*lead, B, *event]` and the kind."""

    shape: tuple[int, ...]
    kind: str


class Source(Protocol):
    """Anything that serves noise: `Noise` draws it, `GivenNoise` hands out tensors made before."""

    def take(self, key: str, request: Request) -> Tensor: ...

    def sample(self, distribution: Distribution) -> Tensor: ...


def draw_noise(request: Request, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """One tensor of standard noise from `generator`, on its device."""
    shape, kind = request
    if kind == "normal":
        return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
    uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)
    if kind == "uniform":
        return uniform
    if kind == "gumbel":
        tiny = torch.finfo(dtype).tiny
        exponential = -torch.log(uniform.clamp(min=tiny))
        return -torch.log(exponential.clamp(min=tiny))
    raise ValueError(f"noise kind {kind!r} is unknown: use 'normal', 'uniform' or 'gumbel'")


def mixed_seed(seed: int, purpose: str, count: int = 0) -> int:
    """A seed for one purpose and one step of a run: any step can be repeated without those before it."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{count}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Noise:
    """Draws noise from a generator of its own; torch's global generators are never touched."""

    def __init__(
        self,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        self.generator = generator if generator is not None else torch.Generator(device).manual_seed(seed)
        self.dtype = dtype
        self.requests: dict[str, Request] = {}
        self.replayable = True

    def take(self, key: str, request: Request) -> Tensor:
        self.requests[key] = request
        return draw_noise(request, self.generator, self.dtype)

    def sample(self, distribution: Distribution) -> Tensor:
        """A draw of a family that has no g(noise, parents), under a forked global generator."""
        self.replayable = False
        device = self.generator.device
        seed = int(torch.randint(2**62, (), generator=self.generator, device=device))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            return distribution.rsample() if distribution.has_rsample else distribution.sample()


class GivenNoise:
    """Hands out tensors made before, by key: what compiled, captured and tested steps use."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def take(self, key: str, request: Request) -> Tensor:
        if key not in self.tensors:
            raise ValueError(f"no noise was given for {key!r}; given: {', '.join(self.tensors) or 'nothing'}")
        tensor = self.tensors[key]
        if tuple(tensor.shape) != request.shape:
            raise ValueError(f"noise for {key!r}: expected shape {request.shape}, got {tuple(tensor.shape)}")
        return tensor

    def sample(self, distribution: Distribution) -> Tensor:
        name = type(distribution).__name__
        raise ValueError(f"{name} has no draw from given noise, so it runs eagerly only: use compile=False")


class Under:
    """A source whose keys stand under a name: dreams from p and draws from q of one variable stay apart."""

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name

    def take(self, key: str, request: Request) -> Tensor:
        return self.source.take(f"{self.name}/{key}", request)

    def sample(self, distribution: Distribution) -> Tensor:
        return self.source.sample(distribution)


class BoundNoise:
    """A source bound to one variable and its `[*lead, B]`: the `noise` that a factor's `draw` is given."""

    def __init__(self, source: Source, name: str, batch: tuple[int, ...]) -> None:
        self.source, self.name, self.batch = source, name, batch
        self._count = 0

    def __call__(self, event_shape: tuple[int, ...], kind: str = "normal") -> Tensor:
        key = f"{self.name}.{self._count}"
        self._count += 1
        return self.source.take(key, Request((*self.batch, *event_shape), kind))

    def sample(self, distribution: Distribution) -> Tensor:
        """A draw `[*lead, B, *event]` of any torch distribution, for families without g(noise, parents)."""
        return self.source.sample(distribution.expand(self.batch))
