"""Digits under a mixture of PPCAs: held-out evidence above a single PPCA's and above a diagonal mixture's."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

import latentia as lt

GREY_LEVEL = 1 / 16  # no standard deviation below it: the pixels are whole numbers of grey levels


def test_a_mixture_of_ppcas_beats_ppca_and_a_diagonal_mixture_on_held_out_digits() -> None:
    pixels = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(1))
    train, test = pixels[order[:1400]], pixels[order[1400:]]
    models = {
        "mixture of PPCAs": lt.models.mixture_of_factor_analysers(
            64, 10, 20, covariance=lt.Spherical(), floor=GREY_LEVEL
        ),
        "PPCA": lt.models.ppca(64, 20, floor=GREY_LEVEL),
        "diagonal mixture": lt.models.gaussian_mixture(64, 10, covariance=lt.Diagonal(), floor=GREY_LEVEL),
    }
    evidence = {}
    for name, model in models.items():
        lt.fit(model, train, steps=12, progress=False)
        evidence[name] = lt.log_evidence(model, test)
    best = evidence.pop("mixture of PPCAs")
    for other in evidence.values():
        difference = (best.values - other.values).double()
        error = float(difference.std()) / len(difference) ** 0.5
        assert float(difference.mean()) > 2 * error
