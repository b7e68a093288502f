"""A world that a model can know perfectly: a grey bar that actions move around a ring."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from latentwrap.actions import ActionSpec
from latentwrap.config import Config
from latentwrap.datasets import Dataset, DatasetInfo, DatasetWriter, Episode
from latentwrap.models import LatentModel, LossTerms, WindowTensors
from latentwrap.pixels import FrameSpec
from latentwrap.types import Frames

WIDTH = 24
SPEC = FrameSpec(height=8, width=WIDTH, channels=1)
ACTION = ActionSpec(spaces.Box(-2, 2, (1,)))
DARK, BRIGHT = 40, 200


def draw(places: Tensor) -> Tensor:
    """Frames of bars at places (B,), uint8 (B, H, W, 1)."""
    frames = torch.full((len(places), *SPEC.shape), DARK, dtype=torch.uint8)
    rows = torch.arange(len(places))
    for offset in (0, 1):
        frames[rows, 2:6, (places.long() + offset) % WIDTH] = BRIGHT
    return frames


def find(frames: Tensor) -> Tensor:
    """The place of the bar in each frame, float32 (B,)."""
    bright = (frames[:, 3, :, 0] == BRIGHT).float()
    # The bar begins where a bright pixel follows a dark one.
    return (bright - bright.roll(1, dims=1)).argmax(dim=1).float()


class DotBelief(NamedTuple):
    """Place and last move of the bar, each float32 (B, 1)."""

    place: Tensor
    move: Tensor


class DotModel(LatentModel):
    """Knows the world exactly; without noise and without a KL.

    Args:
        sees: off, it decodes the empty background.
        forgets: it reads the place off frames, but no move.
    """

    kind = "dot"
    config = Config()

    def __init__(self, *, sees: bool = True, forgets: bool = False) -> None:
        super().__init__(SPEC, ACTION, 1)
        self.sees, self.forgets = sees, forgets
        self.unused = nn.Parameter(torch.zeros(1))

    @property
    def latent_size(self) -> int:
        return 3

    @property
    def noise_size(self) -> int:
        return 0

    @property
    def seen_size(self) -> int:
        return 1

    def see(self, frames: Tensor, vectors: Tensor | None = None) -> Tensor:
        return find(frames)[:, None]

    def believe_first(self, features: Tensor, noise: Tensor | None = None) -> DotBelief:
        return DotBelief(features, torch.zeros_like(features))

    def believe_next(
        self, belief: Any, action: Tensor, features: Tensor, noise: Tensor | None = None
    ) -> DotBelief:
        return DotBelief(features, torch.zeros_like(features) if self.forgets else 2 * action)

    def predict(self, belief: Any, action: Tensor, noise: Tensor | None = None) -> DotBelief:
        return DotBelief((belief.place + 2 * action).round() % WIDTH, 2 * action)

    def latent(self, belief: Any) -> Tensor:
        angle = belief.place * (2 * torch.pi / WIDTH)
        return torch.cat([angle.sin(), angle.cos(), belief.move], dim=1)

    def decode(self, belief: Any) -> Tensor:
        frames = draw(belief.place[:, 0])
        return frames if self.sees else torch.full_like(frames, DARK)

    def loss(self, windows: WindowTensors, noise: Tensor) -> LossTerms:
        assert noise.shape == (*windows.frames.shape[:2], 0)
        image = windows.frames.float().mean()
        features = find(windows.frames.flatten(0, 1)).view(*windows.frames.shape[:2], 1)
        return LossTerms(2 * image, {"image": image}, features)

    def fit_frames(self, frames: Tensor) -> None:
        pass

    def fit_rewards(self, mean: float, std: float) -> None:
        pass


def make_episode(steps: int, seed: int, *, states: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    moves = rng.integers(-2, 3, steps)
    places = np.cumsum([rng.integers(WIDTH), *moves]) % WIDTH
    angle = places * (2 * np.pi / WIDTH)
    place = np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
    # Nobody knows how the bar came to be where an episode begins.
    move = np.array([np.nan, *moves], np.float32)[:, None]
    frames: Frames = draw(torch.from_numpy(places)).numpy()
    return Episode(
        frames=frames,
        actions=moves[:, None].astype(np.float32),
        rewards=None,
        terminated=False,
        truncated=True,
        states={"move": move, "place": place} if states else {},
    )


def write_dots(path: Path, lengths: list[int], *, states: bool = True) -> Dataset:
    """A dataset of episodes of so many transitions."""
    info = DatasetInfo(
        env_id="Dots-v0", frame=SPEC, action=ACTION, frame_skip=1, provenance={"seed": 0}
    )
    with DatasetWriter(path, info) as writer:
        for seed, steps in enumerate(lengths):
            writer.add(make_episode(steps, seed, states=states))
    return Dataset(path)
