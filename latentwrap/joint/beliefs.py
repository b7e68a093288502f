"""What a model that still learns makes of rows of the replay."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentwrap.devices import to_device
from latentwrap.joint.sequences import SequenceReplay
from latentwrap.models import LatentModel, map_belief
from latentwrap.types import IntArray
from latentwrap.wrappers.following import History, choose

_ROWS_AT_ONCE = 2048


class Filtered(NamedTuple):
    """Windows of rows, filtered.

    Attributes:
        features: of every frame, float32 (B, L+1, F).
        beliefs: after every frame; tensors (B, L+1, ·).
    """

    features: Tensor
    beliefs: Any


class ReplayFilter:
    """Filters rows of the replay by the model as it is now, and keeps the outcome there.

    Args:
        model: the model.
        replay: the rows.
        sample: beliefs are samples of the posterior; else means.
        noise: draws them.

    Attributes:
        generator: of the noise, on the CPU.
    """

    def __init__(
        self,
        model: LatentModel,
        replay: SequenceReplay,
        *,
        sample: bool,
        noise: torch.Generator,
    ) -> None:
        self._model, self._replay = model, replay
        self.generator = noise
        self._sample = sample

    @torch.no_grad()
    def refresh(self, rows: IntArray, features: Tensor | None = None) -> Filtered:
        """Filter windows anew.

        A window that begins where its episode does begins without a belief, any other with the one
        that the replay keeps of its first row.

        Args:
            rows: of windows, int64 (B, L+1); a row that is repeated is filtered once.
            features: of their frames, where they are known, float32 (B, L+1, F).
        """
        seen = self.see(rows) if features is None else features
        belief = self._begin(rows, seen[:, 0])
        series = [belief]
        for t in range(1, rows.shape[1]):
            belief = self._advance(belief, rows[:, t - 1], rows[:, t], seen[:, t])
            series.append(belief)
        beliefs = map_belief(lambda *steps: torch.stack(steps, dim=1), *series)
        self._replay.keep(
            rows.reshape(-1),
            seen.flatten(0, 1),
            map_belief(lambda tensor: tensor.flatten(0, 1), beliefs),
        )
        return Filtered(seen, beliefs)

    def refresh_all(self, window: int = 32) -> None:
        """Filter every episode of the replay anew, from its first row on."""
        episodes = sorted((each.rows for each in self._replay.episodes()), key=len)
        at_once = max(1, _ROWS_AT_ONCE // window)
        for begin in range(0, len(episodes), at_once):
            some = episodes[begin : begin + at_once]
            longest = max(map(len, some))
            # A short one waits at its last row.
            rows = np.stack([np.pad(each, (0, longest - len(each)), mode="edge") for each in some])
            for start in range(0, longest - 1, window):
                self.refresh(rows[:, start : start + window + 1])

    @torch.no_grad()
    def see(self, rows: IntArray) -> Tensor:
        """Features of the frames of windows, float32 (B, L+1, F)."""
        model, flat = self._model, rows.reshape(-1)
        frames = to_device(self._replay.frames(flat), model.device)
        vectors = model.prepare_vectors(self._replay.vectors(flat))
        return model.see(frames, vectors).view(*rows.shape, -1)

    def _begin(self, rows: IntArray, seen: Tensor) -> Any:
        first = to_device(self._replay.begins(rows[:, 0]), seen.device)
        if not first.any():
            return self._replay.beliefs(rows[:, 0])
        begun = self._model.believe_first(seen, self.noise(len(rows)))
        if first.all():
            return begun
        return choose(first, begun, self._replay.beliefs(rows[:, 0]))

    def _advance(self, belief: Any, before: IntArray, rows: IntArray, seen: Tensor) -> Any:
        actions = to_device(self._replay.actions(before), seen.device)
        following = self._model.believe_next(belief, actions, seen, self.noise(len(rows)))
        stays = rows == before
        if not stays.any():
            return following
        return choose(to_device(stays, seen.device), belief, following)

    def noise(self, count: int) -> Tensor | None:
        """Noise for so many beliefs; `None` for means."""
        if not self._sample:
            return None
        shape = (count, self._model.noise_size)
        return to_device(torch.randn(shape, generator=self.generator), self._model.device)


def replayed_history(replay: SequenceReplay, rows: IntArray, features: Tensor) -> History:
    """The history along windows of rows.

    Args:
        replay: where they are.
        rows: of windows, int64 (B, length); one that is repeated stands for what was not yet.
        features: of their frames, float32 (B, length, F).
    """
    before, after = rows[:, :-1], rows[:, 1:]
    size = replay.spec.action.size
    taken = replay.actions(before.reshape(-1)).reshape(*before.shape, size)
    known = np.where((before == after)[..., None], np.float32(0), taken)
    return History(features, to_device(known, features.device))
