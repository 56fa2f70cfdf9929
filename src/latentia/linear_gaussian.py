"""Conditioning in linear-Gaussian models: p(u | x) and p(x) for x = A u + b + noise, u Gaussian.

The Gaussian latents are stacked into one vector u of M entries. Leading dimensions are those of enumerated
states; then B examples, or 1 where something is the same for all of them. D entries of an observed event.

Bishop (2006), eqs. 2.113-2.117.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .factor import Affine
from .factors.gaussian import HALF_LOG_TWO_PI, FullNormal


class Observation(NamedTuple):
    """An observed linear-Gaussian variable: its value `[B, *event]`, its parents in the stack, its mask."""

    name: str
    affine: Affine
    parents: tuple[str, ...]
    value: Tensor
    observed: Tensor | None


class Stack:
    """The joint prior N(mean, covariance) of the Gaussian latents, built in ancestral order.

    The covariance is kept in float64: a latent that follows another closely has one that is nearly singular.
    """

    def __init__(self) -> None:
        self.places: dict[str, slice] = {}
        self.mean: Tensor | None = None  # [..., M]
        self.covariance: Tensor | None = None  # [..., M, M]

    @property
    def size(self) -> int:
        return sum(place.stop - place.start for place in self.places.values())

    def add(self, name: str, affine: Affine, parents: tuple[str, ...], event_dims: int) -> None:
        """Append u_j = sum_i W_i u_i + offset + L epsilon."""
        offset, scale = flattened(affine, event_dims)
        scale = scale.double()
        noise = scale @ scale.mT if affine.full else torch.diag_embed(scale.square())
        place = slice(self.size, self.size + offset.shape[-1])
        if self.mean is None or self.covariance is None:
            self.mean, self.covariance = offset, noise
        else:
            weight = self.spread(affine.weights, parents, offset.shape[-1])
            cross = weight.double() @ self.covariance
            mean = _times(self.mean, weight.mT) + offset
            own = cross @ weight.double().mT + noise
            upper = joined(self.covariance, cross.mT, -1, core=2)
            self.covariance = joined(upper, joined(cross, own, -1, core=2), -2, core=2)
            self.mean = joined(self.mean, mean, -1, core=1)
        self.places[name] = place

    def spread(self, weights: tuple[Tensor, ...], parents: tuple[str, ...], outputs: int) -> Tensor:
        """The weights of some parents as one matrix `[..., D, M]` on the whole stack, zero elsewhere."""
        if len(weights) == 1 and weights[0].shape[-1] == self.size:
            return weights[0]
        if self.mean is None:
            raise ValueError("the stack is empty")
        lead = torch.broadcast_shapes(*(w.shape[:-2] for w in weights)) if weights else ()  # type: ignore[no-untyped-call]
        whole = self.mean.new_zeros(*lead, outputs, self.size)
        for weight, parent in zip(weights, parents, strict=True):
            place = self.places[parent]
            whole[..., place] = whole[..., place] + weight
        return whole


def condition(stack: Stack, observations: list[Observation]) -> tuple[FullNormal, Tensor]:
    """p(u | x), batch `[..., B]`, and log p(x) `[..., B]` of the observed variables together.

    The posterior has precision P = S^-1 + sum A^T R^-1 A and mean m + P^-1 sum A^T R^-1 (x - b - A m); the
    evidence is log p(x, u) - log p(u | x) at that mean, where nothing large cancels. Missing entries leave
    the sums. What has M entries alone is worked out in float64: beside small noise P is nearly singular.
    """
    if stack.mean is None or stack.covariance is None:
        raise ValueError("there is no Gaussian latent to condition on")
    dtype = stack.mean.dtype
    prior_tril = torch.linalg.cholesky(stack.covariance)
    whitening = _inverse(prior_tril)  # S = L L^T, L^-1
    precision = whitening.mT @ whitening
    constant, pull = _log_det(prior_tril).to(dtype), torch.zeros_like(stack.mean)
    whitened = [_whitened(stack, seen) for seen in observations]
    for weight, residual, mask, log_scale in whitened:
        constant = constant + log_scale
        pull = pull + _times(residual, weight)
        if mask is None:
            precision = precision + weight.double().mT @ weight.double()
        else:
            squares = (weight.unsqueeze(-1) * weight.unsqueeze(-2)).flatten(-2)  # [..., D, M * M]
            flat = _times(mask, squares)
            precision = precision + flat.reshape(*flat.shape[:-1], *precision.shape[-2:])
    root = _inverse_root(precision)
    move = _times(pull.double(), root @ root.mT)  # from the prior's mean
    distance = _times(move, whitening.mT).square().sum(-1).to(dtype)
    move, root = move.to(dtype), root.to(dtype)
    for weight, residual, mask, _ in whitened:
        error = residual - _times(move, weight.mT)
        distance = distance + (error if mask is None else error * mask).square().sum(-1)
    return FullNormal(stack.mean + move, root), _log_det(root) - constant - 0.5 * distance


def _whitened(stack: Stack, seen: Observation) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """R^-1/2 A, R^-1/2 (x - b - A m), the mask as floats, and log det R^1/2 with the Gaussian's constant."""
    dims = seen.value.ndim - 1
    offset, scale = flattened(seen.affine, dims)
    value = seen.value.unsqueeze(-1) if dims == 0 else seen.value.flatten(1)
    entries = offset.shape[-1]
    weight = stack.spread(seen.affine.weights, seen.parents, entries)
    residual = value - offset
    if stack.mean is not None:
        residual = residual - _times(stack.mean, weight.mT)
    mask = None
    if seen.observed is not None:
        mask = seen.observed.reshape(len(value), -1).to(residual.dtype).expand(value.shape)
    if seen.affine.full:
        count: Tensor | int = entries
        if mask is not None:  # unseen entries get a noise of their own, and say nothing
            noise = scale @ scale.mT * mask.unsqueeze(-1) * mask.unsqueeze(-2)
            scale = torch.linalg.cholesky(noise + torch.diag_embed(1 - mask))
            weight, residual, count = weight * mask.unsqueeze(-1), residual * mask, mask.sum(-1)
        weight = torch.linalg.solve_triangular(scale, weight, upper=False)
        residual = torch.linalg.solve_triangular(scale, residual.unsqueeze(-1), upper=False).squeeze(-1)
        return weight, residual, None, _log_det(scale) + count * HALF_LOG_TWO_PI
    log_scale = scale.log() + HALF_LOG_TWO_PI
    weight, residual = weight / scale.unsqueeze(-1), residual / scale
    if mask is None:
        return weight, residual, None, log_scale.sum(-1)
    return weight, residual * mask, mask, (log_scale * mask).sum(-1)


def flattened(affine: Affine, event_dims: int) -> tuple[Tensor, Tensor]:
    """Offset and scale with one event dimension of D entries."""
    offset, scale = affine.offset, affine.scale
    event = offset.shape[offset.ndim - event_dims :]
    if affine.full:
        return offset, scale
    scale = scale.expand(*scale.shape[: max(0, scale.ndim - event_dims)], *event)
    if event_dims == 0:
        return offset.unsqueeze(-1), scale.unsqueeze(-1)
    return offset.flatten(-event_dims), scale.flatten(-event_dims)


def _times(rows: Tensor, matrix: Tensor) -> Tensor:
    """Row vectors `[..., D]` times a matrix `[D, M]`, or `[..., 1, D, M]` or `[..., B, D, M]` of matrices."""
    if matrix.ndim == 2:
        return rows @ matrix
    if matrix.shape[-3] == 1 and rows.ndim > 1:
        return rows @ matrix.squeeze(-3)
    return (rows.unsqueeze(-2) @ matrix).squeeze(-2)


def _inverse_root(precision: Tensor) -> Tensor:
    """The lower triangular L with L L^T = precision^-1.

    The inverse itself is never factorised: rounding may leave it with an eigenvalue below 0.
    """
    flipped, fault = torch.linalg.cholesky_ex(precision.flip(-2, -1))
    if fault.any():
        raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
            "the posterior of the Gaussian latents is beyond the arithmetic: the noise is some 10^10 times "
            "smaller than what it is added to; standardise the data, or raise the floor of the scales"
        )
    return _inverse(flipped.flip(-2, -1).mT)  # precision = U U^T


def _inverse(tril: Tensor) -> Tensor:
    """L^-1 of lower triangular matrices `[..., M, M]`."""
    identity = torch.eye(tril.shape[-1], dtype=tril.dtype, device=tril.device)
    inverse: Tensor = torch.linalg.solve_triangular(tril, identity.expand(tril.shape), upper=False)
    return inverse


def lower_root(rows: Tensor) -> Tensor:
    """The lower triangular L with a positive diagonal and L L^T = A A^T, for rows A `[..., m, M]`.

    By A^T = Q R, L = R^T: A A^T, which rounding may leave with an eigenvalue below 0, is never formed.
    """
    upper: Tensor = torch.linalg.qr(rows.mT).R
    return (upper * upper.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-1)).mT


def _log_det(tril: Tensor) -> Tensor:
    return tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def joined(one: Tensor, other: Tensor, dim: int, core: int) -> Tensor:
    """Concatenate along `dim`; the dimensions before the last `core` are broadcast."""
    lead = torch.broadcast_shapes(one.shape[:-core], other.shape[:-core])  # type: ignore[no-untyped-call]
    return torch.cat([part.expand(*lead, *part.shape[-core:]) for part in (one, other)], dim)
