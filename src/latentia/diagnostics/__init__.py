"""Diagnostics: what the latent variables are used for, and how good q, the reconstructions and samples are."""

from .collapse import COLLAPSED, collapse_warning
from .units import ACTIVE, active_units, activity, count_active, kl_per_dimension, total_kl

__all__ = [
    "ACTIVE",
    "COLLAPSED",
    "active_units",
    "activity",
    "collapse_warning",
    "count_active",
    "kl_per_dimension",
    "total_kl",
]
