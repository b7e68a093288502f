"""What latentwrap does in the races of `speed.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from latentwrap import SLAC, LatentFilter
from latentwrap.actions import ActionSpec
from latentwrap.agents.config import SACConfig
from latentwrap.agents.kinds import kind_of
from latentwrap.agents.learner import Learner, Sight
from latentwrap.agents.replay import Replay
from latentwrap.allocator import keep_freed_memory
from latentwrap.datasets import Windows
from latentwrap.models import LatentModel, build_model, save_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec
from latentwrap.precision import Precision
from latentwrap.training import TrainingConfig, make_recipe
from latentwrap.training.updater import ModelUpdater

BATCH, ACTION_SIZE, TRANSITIONS = 256, 6, 2000
WINDOWS, STEPS, SIZE = 32, 8, 64
ACTIONS = spaces.Box(-1, 1, (ACTION_SIZE,))


def make_model(preset: str, kind: str | None = None) -> LatentModel:
    """A model with random weights."""
    recipe = make_recipe(preset, {}, kind=kind)
    model = build_model(
        recipe.kind,
        recipe.model.model_dump(),
        frame_spec=FrameSpec(height=SIZE, width=SIZE),
        action_spec=ActionSpec(ACTIONS),
        generator=torch.Generator().manual_seed(0),
    )
    model.normalizer = LatentNormalizer.identity(model.latent_size)
    return model


def filter_step(num: int, backend: str = "torch", preset: str = "fast") -> Callable[[], object]:
    """A step of `LatentFilter` for `num` environments, from bytes to latents."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(path, make_model(preset), training={})
        if backend == "onnx":
            from latentwrap.exporting import export_onnx

            export_onnx(path)
        latents = LatentFilter(path, num, backend=backend)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (num, SIZE, SIZE, 3), np.uint8)
    actions = rng.uniform(-1, 1, (num, ACTION_SIZE)).astype(np.float32)
    latents.reset(frames)
    return lambda: latents.step(actions, frames)


def make_replay(size: int) -> Replay:
    """A replay of random vectors."""
    rng = np.random.default_rng(0)
    replay = Replay(TRANSITIONS, size, ACTION_SIZE, seed=0, device=torch.device("cpu"))
    for _ in range(TRANSITIONS):
        observation, following = rng.normal(size=(2, size)).astype(np.float32)
        action = rng.uniform(-1, 1, ACTION_SIZE).astype(np.float32)
        replay.add(observation, action, 0.0, following, terminated=False)
    return replay


def make_learner(size: int) -> Learner:
    """SAC with the default hyperparameters."""
    keep_freed_memory()  # as `latentwrap.SAC` does
    where = torch.device("cpu")
    return Learner(kind_of(ACTIONS), Sight.of_all(size), SACConfig(), device=where, seed=0)


def sac_update(size: int, updates: int = 1) -> Callable[[], object]:
    """Draw a batch and update on it, as often as `SAC(gradient_steps=updates)` after a step."""
    learner, replay = make_learner(size), make_replay(size)

    def update() -> None:
        for _ in range(updates):
            learner.update(replay.sample(BATCH))

    return update


def random_windows(count: int = WINDOWS) -> Windows:
    """Windows of noise."""
    rng = np.random.default_rng(0)
    return Windows(
        frames=rng.integers(0, 256, (count, STEPS + 1, SIZE, SIZE, 3), np.uint8),
        actions=rng.uniform(-1, 1, (count, STEPS, ACTION_SIZE)).astype(np.float32),
        rewards=rng.normal(size=(count, STEPS)).astype(np.float32),
        terminations=np.zeros((count, STEPS), bool),
        vectors=None,
    )


def model_update(
    preset: str, kind: str | None = None, precision: Precision = "float32"
) -> Callable[[], object]:
    """Draw 32 windows of 9 frames, and update on them."""
    keep_freed_memory()
    config = TrainingConfig(batch_size=WINDOWS, window=STEPS, precision=precision)
    updater = ModelUpdater(make_model(preset, kind), config, seed=0)
    stored, rng = random_windows(TRANSITIONS // STEPS), np.random.default_rng(0)

    def update() -> None:
        rows = rng.integers(len(stored.frames), size=WINDOWS)
        updater.update(Windows(*(column[rows] for column in _columns(stored)), vectors=None))

    return update


def _columns(windows: Windows) -> list[Any]:
    return [windows.frames, windows.actions, windows.rewards, windows.terminations]


class Noise(gym.Env[Any, Any]):
    """Frames of noise in short episodes."""

    render_mode = "rgb_array"

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.action_space = spaces.Box(-1, 1, (ACTION_SIZE,), np.float32)
        self._steps = 0

    def reset(self, **arguments: Any) -> Any:
        """Begin."""
        super().reset(**arguments)
        self._steps = 0
        return self._draw(), {}

    def step(self, _action: Any) -> Any:
        """Fifty steps in an episode."""
        self._steps += 1
        return self._draw(), 0.0, False, self._steps == 50, {}

    def _draw(self) -> Any:
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)


def make_joint(*, published: bool) -> SLAC:
    """Model and agent of the paper's sizes, and a replay of pixels that they have begun with."""
    agent = SLAC(
        Noise(),
        preset="paper",
        seed=0,
        device="cpu",
        learning_starts=1000,
        initial_model_updates=1,
        fresh=published,
        actor_input="history",
        buffer_size=2000,
    )
    agent.learn(1000)
    return agent


def _joint_update(agent: SLAC) -> None:
    agent.updates.update_model()
    agent.updates.update_agent()


def joint_update(*, published: bool) -> Callable[[], object]:
    """Update both from one replay."""
    return partial(_joint_update, make_joint(published=published))


def flops(work: Callable[[], object]) -> int:
    """Multiplications and additions in products of matrices and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


class Cost(NamedTuple):
    """What a unit of work cannot do without.

    Attributes:
        flops: of products of matrices and convolutions.
        moved: bytes that it reads and writes, each once; what it computes on the way may stay in
            the caches, and is not counted.
    """

    flops: int
    moved: int


def filter_cost(num: int, preset: str = "fast") -> Cost:
    """Of encoding frames: they and the weights of the encoder are read."""
    model, frames = make_model(preset), torch.zeros(num, SIZE, SIZE, 3, dtype=torch.uint8)
    weights = _weight_bytes(model.networks.encoder)
    return Cost(flops(lambda: model.see(frames)), weights + frames.nbytes)


def sac_cost(size: int) -> Cost:
    """Of an update: the batch is read and written, for it is drawn."""
    learner, batch = make_learner(size), make_replay(size).sample(BATCH)
    moved = _learner_bytes(learner) + 2 * sum(x.nbytes for x in batch.columns().values())
    return Cost(flops(lambda: learner.update(batch)), moved)


def model_cost(preset: str, kind: str | None = None) -> Cost:
    """Of an update: the windows are read."""
    learned = _learned_bytes(make_model(preset, kind))
    return Cost(flops(model_update(preset, kind)), learned + _window_bytes())


def joint_cost() -> Cost:
    """Of an update of both."""
    agent = make_joint(published=False)
    learned = _learned_bytes(agent.model) + _learner_bytes(agent.learner)
    return Cost(flops(partial(_joint_update, agent)), learned + _window_bytes())


def _weight_bytes(*modules: nn.Module) -> int:
    return sum(weight.nbytes for module in modules for weight in module.parameters())


def _learned_bytes(*modules: nn.Module) -> int:
    """Parameters, their gradients and two moments are read and written."""
    return 2 * 4 * _weight_bytes(*modules)


def _learner_bytes(learner: Learner) -> int:
    return _learned_bytes(learner.actor, learner.critics) + 2 * _weight_bytes(learner.targets)


def _window_bytes() -> int:
    return sum(column.nbytes for column in _columns(random_windows()))


def matrices() -> Callable[[], object]:
    """A product of large matrices."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return lambda: a @ b


MATRICES_FLOPS = 2 * 2048**3


def copy() -> Callable[[], object]:
    """A copy of what no cache holds."""
    source = torch.ones(_COPIED, dtype=torch.uint8)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


_COPIED = 2**29
COPIED_BYTES = 2 * _COPIED
"""It is read and written."""
