"""The models that SLAC begins with, and how they learn."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch

from latentwrap.actions import ActionSpec
from latentwrap.errors import ConfigError
from latentwrap.joint.sequences import SequenceReplay
from latentwrap.models import LatentModel, WindowTensors, build_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.seeding import torch_generator
from latentwrap.training.memory import MemoryEstimate, estimate_memory, weight_bytes
from latentwrap.training.recipes import Recipe, TrainingConfig, make_recipe, stored_recipe
from latentwrap.wrappers.frame_envs import FrameEnvironment


def find_recipe(
    start: LatentModel | None, preset: str, kind: str | None, options: Mapping[str, Any]
) -> Recipe:
    """How the model learns: a checkpoint as it did before, but for what is named."""
    if start is None:
        return make_recipe(preset, options, kind=kind)
    known = {} if start.checkpoint is None else start.checkpoint.document["training"]
    if "recipe" not in known:
        return make_recipe(preset, options, kind=start.kind)
    return _learning_by(stored_recipe(known["recipe"]), options)


def with_window(recipe: Recipe, window: int | None) -> Recipe:
    """The same with windows of so many actions; `None` leaves them.

    Raises:
        ConfigError: no valid number.
    """
    return recipe if window is None else _learning_by(recipe, {"window": window})


def _learning_by(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    return recipe.model_copy(update={"training": recipe.training.replace(**options)})


def new_model(frames: FrameEnvironment, recipe: Recipe, seed: int) -> LatentModel:
    """A model of what environments show, its weights drawn from a seed."""
    model = build_model(
        recipe.kind,
        recipe.model.model_dump(),
        frame_spec=frames.frame,
        action_spec=ActionSpec(frames.action_space),
        frame_skip=frames.frame_skip,
        vector_spec=frames.vectors,
        generator=torch_generator(seed),
    )
    if frames.vectors.size:
        model.vector_normalizer = LatentNormalizer.identity(frames.vectors.size)
    return model


def check_window(frames: FrameEnvironment, replay: SequenceReplay, window: int) -> None:
    """Refuse windows that no episode can hold, before a step is taken.

    Raises:
        ConfigError: the environment's time limit, or the room for each environment, is shorter.
    """
    room = replay.lane_rows - 1
    if window > room:
        raise ConfigError(
            f"The model learns from windows of {window} actions, a replay of {replay.capacity} has "
            f"room for {room} of each of {replay.lanes} environments: set a buffer_size of "
            f"{window * replay.lanes} or more."
        )
    spec = frames.env.spec
    if spec is None or spec.max_episode_steps is None:
        return
    # The limit counts what a FrameSkip outside of it repeats.
    longest = math.ceil(spec.max_episode_steps / frames.frame_skip)
    if window > longest:
        raise ConfigError(
            f"The model learns from windows of {window} actions, an episode of {spec.id} has at "
            f"most {longest}: set a smaller one, model.window={longest} or less."
        )


def memory_of(
    model: LatentModel, training: TrainingConfig, replay: SequenceReplay, *, learns: bool
) -> MemoryEstimate:
    """What learning will need once a replay is full, of a model that learns or only filters."""
    kept = replay.spec.row_bytes + 4 * (_belief_size(model) + model.seen_size)
    frames = replay.num_rows * kept
    if not learns:
        return MemoryEstimate(frames, weight_bytes(model), batch=0)
    return estimate_memory(
        copy.deepcopy(model).requires_grad_(),  # it may be frozen as yet
        _empty_window(model, training.window),
        batch_size=training.batch_size,
        frames=frames,
    )


@torch.no_grad()
def _belief_size(model: LatentModel) -> int:
    nothing = torch.zeros(1, model.seen_size, device=model.device)
    return sum(tensor.shape[-1] for tensor in model.believe_first(nothing))


def _empty_window(model: LatentModel, steps: int) -> WindowTensors:
    """A window of zeros, to count with."""
    zeros = torch.zeros(1, steps, device=model.device)
    shape = (1, steps + 1, *model.frame_spec.shape)
    frames = torch.zeros(shape, dtype=torch.uint8, device=model.device)
    actions = torch.zeros(1, steps, model.action_spec.size, device=model.device)
    vectors = torch.zeros(1, steps + 1, model.vector_spec.size, device=model.device)
    seen = vectors if model.sees_vectors else None
    return WindowTensors(frames, actions, zeros, zeros, seen)
