"""Diagnostics: what the latent variables are used for, and how good q, reconstructions and samples are."""

from .calibration import Calibration, calibration
from .collapse import COLLAPSED, collapse_warning
from .disentanglement import DCI, MutualInformationGap, dci, mutual_information_gap
from .gaps import Gaps, inference_gaps
from .information import Information, information
from .reconstruction import Reconstruction, reconstruction_error
from .two_sample import EnergyDistance, FrechetDistance, energy_distance, frechet_distance
from .units import ACTIVE, active_units, activity, count_active, kl_per_dimension, total_kl

__all__ = [
    "ACTIVE",
    "COLLAPSED",
    "activity",
    "active_units",
    "count_active",
    "kl_per_dimension",
    "total_kl",
    "collapse_warning",
    "information",
    "Information",
    "inference_gaps",
    "Gaps",
    "calibration",
    "Calibration",
    "reconstruction_error",
    "Reconstruction",
    "mutual_information_gap",
    "MutualInformationGap",
    "dci",
    "DCI",
    "energy_distance",
    "EnergyDistance",
    "frechet_distance",
    "FrechetDistance",
]
