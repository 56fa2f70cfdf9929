"""Objectives: functions of (p, q, values, noise) that return a Bound."""

from .arm import arm, disarm
from .bound import Bound, Direction
from .elbo import elbo
from .iwae import iwae
from .reinforce import LEARNT, Reinforce, nvil
from .renyi import renyi
from .rws import rws
from .vimco import vimco
from .wake_sleep import wake_sleep

__all__ = [
    "LEARNT",
    "Bound",
    "Direction",
    "Reinforce",
    "arm",
    "disarm",
    "elbo",
    "iwae",
    "nvil",
    "renyi",
    "rws",
    "vimco",
    "wake_sleep",
]
