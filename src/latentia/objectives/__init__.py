"""Objectives: functions of (p, q, values, noise) that return a Bound."""

from .bound import Bound, Direction
from .elbo import elbo
from .iwae import iwae

__all__ = ["Bound", "Direction", "elbo", "iwae"]
