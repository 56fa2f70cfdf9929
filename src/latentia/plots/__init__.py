"""Pictures: a display object per subject, and all of them for a run."""

from ._display import Display, DoesNotApply
from .aggregate_posterior import AggregatePosteriorDisplay
from .calibration import CalibrationDisplay
from .comparison import ComparisonDisplay
from .components import ComponentsDisplay
from .graph import GraphDisplay
from .kl_per_dimension import KLDisplay
from .latent_plane import LatentPlaneDisplay
from .latent_scatter import LatentScatterDisplay
from .loss import LossDisplay
from .mixture import MixtureDisplay
from .receptive_fields import ReceptiveFieldsDisplay
from .reconstructions import ReconstructionDisplay
from .responsibilities import ResponsibilityDisplay
from .run import pictures, plot_run
from .samples import SamplesDisplay
from .spectrum import SpectrumDisplay

__all__ = [
    "AggregatePosteriorDisplay",
    "CalibrationDisplay",
    "ComparisonDisplay",
    "ComponentsDisplay",
    "Display",
    "DoesNotApply",
    "GraphDisplay",
    "KLDisplay",
    "LatentPlaneDisplay",
    "LatentScatterDisplay",
    "LossDisplay",
    "MixtureDisplay",
    "ReceptiveFieldsDisplay",
    "ReconstructionDisplay",
    "ResponsibilityDisplay",
    "SamplesDisplay",
    "SpectrumDisplay",
    "pictures",
    "plot_run",
]
