"""A model whose q(z | x) = N(A x, S), and rows for which q(z) is N(0, A A^T + S) to high accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

import latentia as lt
from latentia.factors import gaussian_outputs
from latentia.numerics import inverse_softplus


def gaussian_q(gain: Tensor, tril: Tensor, full: bool = True) -> lt.Model:
    """z `[M]` and x `[D]` with a standard normal prior; gain A `[M, D]`, S = tril tril^T."""
    latent, observed = gain.shape
    covariance = lt.Full() if full else lt.Diagonal()
    net = lt.MLP(observed, gaussian_outputs(latent, covariance))
    q = lt.Joint(z=lt.Normal(net, given="x", covariance=covariance)).double()
    diagonal = [inverse_softplus(float(entry) - q["z"].floor) for entry in tril.diagonal()]
    lower = [float(tril[i, j]) for i in range(latent) for j in range(i)] if full else []
    with torch.no_grad():
        net.layers[0].weight.zero_()
        net.layers[0].weight[:latent] = gain
        net.layers[0].bias.copy_(torch.tensor([0.0] * latent + diagonal + lower, dtype=torch.float64))
    decoder = lt.MLP(latent, observed)
    p = lt.Joint(z=lt.StandardNormal(latent), x=lt.Normal(decoder, given="z", scale=1.0)).double()
    return lt.Model(p, q)


def normal_grid(size: int) -> Tensor:
    """size^2 points whose distribution is nearly N(0, I): quantiles at the middles of equal shares."""
    shares = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    quantiles = torch.special.ndtri(shares)
    quantiles = quantiles / quantiles.square().mean().sqrt()
    return torch.cartesian_prod(quantiles, quantiles)


def gaussian_kl(covariance: Tensor) -> float:
    """KL(N(0, C) || N(0, I))."""
    size = len(covariance)
    return float(0.5 * (covariance.trace() - size - torch.logdet(covariance)))
