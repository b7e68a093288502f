"""The model kinds by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentwrap.actions import ActionSpec
from latentwrap.errors import ConfigError, did_you_mean
from latentwrap.models.base import LatentModel
from latentwrap.models.deterministic import DeterministicConfig, DeterministicModel
from latentwrap.models.observation import ObservationConfig
from latentwrap.models.rssm import RSSMConfig, RSSMModel
from latentwrap.models.slac import SLACConfig, SLACModel
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

_KINDS: dict[str, tuple[type[Any], type[ObservationConfig]]] = {
    "rssm": (RSSMModel, RSSMConfig),
    "slac": (SLACModel, SLACConfig),
    "deterministic": (DeterministicModel, DeterministicConfig),
}

KINDS = tuple(_KINDS)
"""Names of all kinds."""


def build_model(
    kind: str,
    config: Mapping[str, Any],
    *,
    frame_spec: FrameSpec,
    action_spec: ActionSpec,
    frame_skip: int = 1,
    vector_spec: VectorSpec | None = None,
    generator: torch.Generator | None = None,
) -> LatentModel:
    """A new model of the named kind.

    Args:
        kind: one of `KINDS`.
        config: hyperparameters by name; those left out take the kind's defaults.
        frame_spec, action_spec, frame_skip, vector_spec: what the data looks like.
        generator: draws the initial weights; `None` leaves them to be loaded.

    Raises:
        ConfigError: unknown kind, unknown hyperparameter or invalid value, or a model that is to
            see vectors where there are none.
    """
    if kind not in _KINDS:
        raise ConfigError(f"There is no model kind {kind!r}: {did_you_mean(kind, _KINDS)}")
    model_class, config_class = _KINDS[kind]
    model = model_class(
        config_class.parse(config),
        frame_spec,
        action_spec,
        frame_skip=frame_skip,
        vector_spec=vector_spec,
        generator=generator,
    )
    # Convolutions are fastest on H, W, C memory, which is how frames arrive.
    return model.to(memory_format=torch.channels_last)  # type: ignore[no-any-return]
