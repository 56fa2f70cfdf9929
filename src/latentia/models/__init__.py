"""The models, each a short function with its equation and source."""

from .vae import autoencoder, linear_vae, vae

__all__ = ["autoencoder", "linear_vae", "vae"]
