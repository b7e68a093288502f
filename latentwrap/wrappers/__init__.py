"""Latents as observations: the filter on its own, and environment wrappers around it."""

from latentwrap.wrappers.diagnosis import Diagnosis
from latentwrap.wrappers.filter import LatentFilter
from latentwrap.wrappers.observation import LatentObservation
from latentwrap.wrappers.vector import VectorLatentObservation

__all__ = ["Diagnosis", "LatentFilter", "LatentObservation", "VectorLatentObservation"]
