"""The loop that tutorials write: modules, a DataLoader over tensors in memory, Adam as it comes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from .contestants import Run
from .tasks import CHANNELS, PIXELS, RATE, SIDE, Autoencoder, images


def mlp(sizes: list[int], activation: str) -> nn.Sequential:
    """Linear layers with the activation after each of them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh() if activation == "tanh" else nn.ReLU()]
    return nn.Sequential(*layers)


def body(task: Autoencoder) -> tuple[nn.Module, int]:
    """The encoder up to its last hidden layer, `[B, 784]` to `[B, features]`, and the number of features."""
    if not task.conv:
        return mlp([PIXELS, *task.hidden], task.activation), task.hidden[-1]
    narrow, wide = CHANNELS
    convolutions = nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)),
        nn.Conv2d(1, narrow, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(narrow, wide, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
    )
    return convolutions, wide * (SIDE // 4) ** 2


def decoder(task: Autoencoder) -> nn.Module:
    """`[B, latent]` to logits `[B, 784]`."""
    if not task.conv:
        sizes = [task.latent, *reversed(task.hidden)]
        return nn.Sequential(mlp(sizes, task.activation), nn.Linear(sizes[-1], PIXELS))
    narrow, wide = CHANNELS
    return nn.Sequential(
        nn.Linear(task.latent, wide * (SIDE // 4) ** 2),
        nn.ReLU(),
        nn.Unflatten(1, (wide, SIDE // 4, SIDE // 4)),
        nn.ConvTranspose2d(wide, narrow, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(narrow, 1, 4, 2, 1),
        nn.Flatten(),
    )


class VAE(nn.Module):
    def __init__(self, task: Autoencoder) -> None:
        super().__init__()
        self.body, features = body(task)
        self.mean, self.log_variance = nn.Linear(features, task.latent), nn.Linear(features, task.latent)
        self.decoder = decoder(task)
        self.samples = task.samples

    def forward(self, x: Tensor) -> Tensor:
        """Minus the bound of each example, `[B]`."""
        h = self.body(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        if self.samples > 1:
            return self.importance_weighted(x, mean, log_variance)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        cross_entropy = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(1)
        return cross_entropy - 0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(1)

    def importance_weighted(self, x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        noise = torch.randn(self.samples, *mean.shape)
        z = mean + torch.exp(0.5 * log_variance) * noise  # [K, B, latent]
        logits = self.decoder(z.flatten(0, 1)).view(self.samples, *x.shape)
        repeated = x.expand_as(logits)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, repeated, reduction="none").sum(2)
        log_prior = -0.5 * z.pow(2).sum(2)
        log_q = -0.5 * (log_variance + noise.pow(2)).sum(2)
        log_weight = log_prior - cross_entropy - log_q  # [K, B]
        return math.log(self.samples) - torch.logsumexp(log_weight, 0)


def build(task: Autoencoder) -> Run:
    torch.manual_seed(0)
    grey = torch.from_numpy(images()[0]).float() / 255
    loader = DataLoader(TensorDataset(grey), batch_size=task.batch, shuffle=True, drop_last=True)
    model = VAE(task)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    batches = _endless(loader)

    def run(steps: int) -> float:
        total = 0.0
        for _ in range(steps):
            optimiser.zero_grad()
            loss = model(next(batches)).mean()
            loss.backward()
            optimiser.step()
            total += loss.item()
        return -total / steps

    return run


def _endless(loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[Tensor]:
    while True:
        for (x,) in loader:
            yield x
