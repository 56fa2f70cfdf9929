"""Learning: the methods, the engine that runs them, and checkpoints."""

from .fit import fit
from .folder import read_metrics
from .run import Run

__all__ = ["Run", "fit", "read_metrics"]
