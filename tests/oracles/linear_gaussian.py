"""A model whose answers are known: p(z) = N(0, I), p(x | z) = N(Wz + b, s^2 I), in float64.

Posterior N(V W^T (x - b) / s^2, V) with V = (I + W^T W / s^2)^-1; evidence N(x; b, W W^T + s^2 I).
Bishop (2006), "Pattern recognition and machine learning", section 2.3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

import latentia as lt
from latentia.factors import gaussian_outputs
from latentia.factors.normal import Covariance
from latentia.noise import GivenNoise, Noise
from latentia.numerics import inverse_softplus

LATENT, OBSERVED = 2, 3


@dataclass
class LinearGaussian:
    """The model with a few rows x `[B, 3]`, and what is true of it by the formulas above."""

    weight: Tensor
    bias: Tensor
    scale: float
    x: Tensor
    p: lt.Joint

    @staticmethod
    def make(seed: int = 0, rows: int = 4, scale: float = 0.7) -> LinearGaussian:
        net = built(lambda: lt.MLP(LATENT, OBSERVED), seed)
        fixed = torch.tensor(scale, dtype=torch.float64)
        p = lt.Joint(z=lt.StandardNormal(LATENT), x=lt.Normal(net, given="z", scale=fixed)).double()
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(rows, OBSERVED, generator=generator, dtype=torch.float64)
        weight, bias = (parameter.detach() for parameter in net.parameters())
        return LinearGaussian(weight, bias, scale, x, p)

    @property
    def values(self) -> dict[str, Tensor]:
        return {"x": self.x}

    def evidence(self) -> Tensor:
        """log p(x), `[B]`."""
        covariance = self.weight @ self.weight.mT + self.scale**2 * torch.eye(OBSERVED, dtype=torch.float64)
        return MultivariateNormal(self.bias, covariance).log_prob(self.x)

    def posterior(self) -> MultivariateNormal:
        """p(z | x) of each row."""
        identity = torch.eye(LATENT, dtype=torch.float64)
        covariance = torch.linalg.inv(identity + self.weight.mT @ self.weight / self.scale**2)
        mean = (self.x - self.bias) @ self.weight @ covariance / self.scale**2
        return MultivariateNormal(mean, covariance)

    def q(self, covariance: Covariance | None = None, seed: int = 1) -> lt.Joint:
        """Some Gaussian q(z | x), a linear map of x."""
        covariance = lt.Diagonal() if covariance is None else covariance
        net = built(lambda: lt.MLP(OBSERVED, gaussian_outputs(LATENT, covariance)), seed)
        return lt.Joint(z=lt.Normal(net, given="x", covariance=covariance)).double()

    def exact_q(self) -> lt.Joint:
        """q(z | x) = p(z | x), as a linear map with a full covariance."""
        q = self.q(lt.Full())
        factor, posterior = q["z"], self.posterior()
        tril = posterior.scale_tril[0]
        diagonal = [inverse_softplus(float(entry) - factor.floor) for entry in tril.diagonal()]
        layer = factor.net.layers[0]
        with torch.no_grad():
            gain = posterior.covariance_matrix[0] @ self.weight.mT / self.scale**2
            layer.weight.zero_()
            layer.weight[:LATENT] = gain
            layer.bias.copy_(torch.cat([-gain @ self.bias, torch.tensor([*diagonal, tril[1, 0]])]))
        return q

    def wide_q(self) -> lt.Joint:
        """A q(z | x) beside the posterior and wider, so that importance weights have moments."""
        q = self.exact_q()
        with torch.no_grad():
            q["z"].net.layers[0].bias[: 2 * LATENT] += torch.tensor([0.2, -0.1, 0.5, 0.4])
        return q

    def bound(self, q: lt.Joint) -> Tensor:
        """log p(x) - KL(q(z | x) || p(z | x)), `[B]`, differentiable in q's parameters."""
        q_z = as_multivariate(q["z"].distribution(self.x))
        return self.evidence() - torch.distributions.kl_divergence(q_z, self.posterior())


def built(make: Callable[[], torch.nn.Module], seed: int) -> torch.nn.Module:
    """A net in float64 with weights from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def as_multivariate(distribution: Distribution) -> MultivariateNormal:
    """One of the library's Gaussians as torch's."""
    if isinstance(distribution, Independent):
        return MultivariateNormal(
            distribution.mean, scale_tril=torch.diag_embed(distribution.base_dist.scale)
        )
    return MultivariateNormal(distribution.mean, distribution.covariance_matrix)


def sigma_points(
    draw: Callable[[Noise, int], object], dtype: torch.dtype = torch.float64
) -> tuple[GivenNoise, int]:
    """Noise whose first and second moments are exact, and how many samples it has: +-sqrt(n) e_i, i <= n.

    Means over it are exact expectations of quadratic functions. `draw(noise, samples)` is run once to learn
    what is asked for; all that is asked for must be normal.
    """
    probe = Noise(0, dtype=dtype)
    draw(probe, 1)
    sizes = {key: math.prod(shape[2:]) for key, (shape, _) in probe.requests.items()}
    total = sum(sizes.values())
    points = math.sqrt(total) * torch.cat([torch.eye(total), -torch.eye(total)]).to(dtype)
    pieces = points.split(list(sizes.values()), dim=1)
    tensors = {}
    for (key, (shape, _)), piece in zip(probe.requests.items(), pieces, strict=True):
        tensors[key] = piece.reshape(2 * total, 1, *shape[2:]).expand(2 * total, *shape[1:])
    return GivenNoise(tensors), 2 * total
