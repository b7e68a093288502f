"""SLAC in full: a latent model and an agent that learn together."""

from latentwrap.joint.config import JointConfig
from latentwrap.joint.slac import SLAC

__all__ = ["SLAC", "JointConfig"]
