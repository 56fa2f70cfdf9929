"""Pictures: a display object per subject, and all of them for a run."""

from ._display import Display, DoesNotApply
from .graph import GraphDisplay
from .kl_per_dimension import KLDisplay
from .latent_plane import LatentPlaneDisplay
from .latent_scatter import LatentScatterDisplay
from .loss import LossDisplay
from .reconstructions import ReconstructionDisplay
from .run import pictures, plot_run
from .samples import SamplesDisplay

__all__ = [
    "Display",
    "DoesNotApply",
    "GraphDisplay",
    "KLDisplay",
    "LatentPlaneDisplay",
    "LatentScatterDisplay",
    "LossDisplay",
    "ReconstructionDisplay",
    "SamplesDisplay",
    "pictures",
    "plot_run",
]
