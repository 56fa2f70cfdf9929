"""How probable the data are: bounds and estimates with their errors."""

from .bdmc import Sandwich, bdmc
from .estimate import Estimate
from .log_evidence import log_evidence

__all__ = ["Estimate", "Sandwich", "bdmc", "log_evidence"]
