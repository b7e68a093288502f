"""What latentwrap does in the races of `speed.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch.utils.flop_counter import FlopCounterMode

from latentwrap import LatentFilter
from latentwrap.actions import ActionSpec
from latentwrap.agents.config import SACConfig
from latentwrap.agents.kinds import kind_of
from latentwrap.agents.learner import Learner, Sight
from latentwrap.agents.replay import Replay
from latentwrap.allocator import keep_freed_memory
from latentwrap.models import LatentModel, WindowTensors, build_model, save_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec
from latentwrap.training import make_recipe

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


def sac_update(size: int) -> Callable[[], object]:
    """Draw a batch and update on it."""
    learner, replay = make_learner(size), make_replay(size)
    return lambda: learner.update(replay.sample(BATCH))


def random_windows() -> WindowTensors:
    """A batch of windows of noise."""
    frames = torch.randint(0, 256, (WINDOWS, STEPS + 1, SIZE, SIZE, 3), dtype=torch.uint8)
    actions = torch.rand(WINDOWS, STEPS, ACTION_SIZE) * 2 - 1
    return WindowTensors(frames, actions, torch.randn(WINDOWS, STEPS), torch.zeros(WINDOWS, STEPS))


def model_update(preset: str, kind: str | None = None) -> Callable[[], object]:
    """Descend the loss of 32 windows of 9 frames."""
    keep_freed_memory()
    model, windows = make_model(preset, kind), random_windows()
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def update() -> None:
        noise = torch.randn(WINDOWS, STEPS + 1, model.loss_noise_size)
        loss = model.loss(windows, noise).total
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()

    return update


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


def joint_update(*, published: bool) -> Callable[[], object]:
    """Update model and agent of the paper's sizes from one replay of pixels."""
    from latentwrap import SLAC

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

    def update() -> None:
        agent.updates.update_model()
        agent.updates.update_agent()

    return update


def flops(work: Callable[[], object]) -> int:
    """Multiplications and additions in products of matrices and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def encoder_flops(num: int, preset: str = "fast") -> int:
    """Those of encoding frames."""
    model, frames = make_model(preset), torch.zeros(num, SIZE, SIZE, 3, dtype=torch.uint8)
    return flops(lambda: model.see(frames))


def matrices() -> Callable[[], object]:
    """A product of large matrices."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return lambda: a @ b


MATRICES_FLOPS = 2 * 2048**3
