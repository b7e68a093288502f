"""Latent models: distributions, networks, kinds, and their checkpoints."""

from latentwrap.models.base import Innovation, LatentModel, LossTerms, WindowTensors, map_belief
from latentwrap.models.checkpoint import describe_model, load_model, rebuild_model, save_model
from latentwrap.models.deterministic import DeterministicConfig, DeterministicModel
from latentwrap.models.kinds import KINDS, build_model
from latentwrap.models.observation import ObservationConfig
from latentwrap.models.rssm import RSSMConfig, RSSMModel
from latentwrap.models.slac import SLACConfig, SLACModel

__all__ = [
    "KINDS",
    "DeterministicConfig",
    "DeterministicModel",
    "Innovation",
    "LatentModel",
    "LossTerms",
    "ObservationConfig",
    "RSSMConfig",
    "RSSMModel",
    "SLACConfig",
    "SLACModel",
    "WindowTensors",
    "build_model",
    "describe_model",
    "load_model",
    "map_belief",
    "rebuild_model",
    "save_model",
]
