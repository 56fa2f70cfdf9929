"""Comparison of models by the held-out evidence of the same rows."""

from .candidates import suited_models
from .entries import NotComparableError
from .result import Compared, Comparison
from .trials import compare

__all__ = ["Compared", "Comparison", "NotComparableError", "compare", "suited_models"]
