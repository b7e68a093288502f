"""latentwrap: the filtered latent state of a world model as the observation of any environment.

Names are loaded when used, so that `import latentwrap` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from latentwrap.envs import register_environments, register_latent

if TYPE_CHECKING:
    from latentwrap.agents import SAC
    from latentwrap.envs.frames import FrameSkip, RenderFrame
    from latentwrap.errors import LatentwrapError
    from latentwrap.filtering import OnnxFilter
    from latentwrap.joint import SLAC
    from latentwrap.models import LatentModel, load_model
    from latentwrap.wrappers import LatentFilter, LatentObservation, VectorLatentObservation

from latentwrap._version import __version__

_HOME = {
    "SAC": "latentwrap.agents",
    "SLAC": "latentwrap.joint",
    "FrameSkip": "latentwrap.envs.frames",
    "LatentFilter": "latentwrap.wrappers",
    "LatentModel": "latentwrap.models",
    "LatentObservation": "latentwrap.wrappers",
    "LatentwrapError": "latentwrap.errors",
    "OnnxFilter": "latentwrap.filtering",
    "RenderFrame": "latentwrap.envs.frames",
    "VectorLatentObservation": "latentwrap.wrappers",
    "load_model": "latentwrap.models",
}

__all__ = [
    "SAC",
    "SLAC",
    "FrameSkip",
    "LatentFilter",
    "LatentModel",
    "LatentObservation",
    "LatentwrapError",
    "OnnxFilter",
    "RenderFrame",
    "VectorLatentObservation",
    "__version__",
    "load_model",
    "register_latent",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'latentwrap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


register_environments()
