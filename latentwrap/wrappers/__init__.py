"""Latents as observations: the filter on its own, and the environment wrapper around it."""

from latentwrap.wrappers.filter import LatentFilter
from latentwrap.wrappers.observation import LatentObservation

__all__ = ["LatentFilter", "LatentObservation"]
