"""Playing environments and keeping what happens in a replay of sequences."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from latentwrap.agents.stepping import Played, Stepper
from latentwrap.devices import to_device
from latentwrap.envs.frames import FRAME, VECTORS
from latentwrap.joint.beliefs import ReplayFilter, replayed_history
from latentwrap.joint.sequences import SequenceReplay
from latentwrap.models import LatentModel, map_belief
from latentwrap.types import AnyArray, BoolArray, FloatArray, IntArray
from latentwrap.wrappers.following import Followed, Follower, Seen
from latentwrap.wrappers.frame_envs import FrameEnvironment
from latentwrap.wrappers.vector_memory import VectorMemory


class Experience:
    """Steps environments, follows them with the model, and keeps every frame once.

    Args:
        frames: the environments.
        model: follows them, as it is at each step.
        replay: with a lane for each environment.
        filter_: whose noise the beliefs are drawn with.
        history: frames that the actor's history holds.

    Attributes:
        acting: where an action is taken next, bool (num,); elsewhere the environment resets.
        vectors: beside the latest frames, float32 (num, V); what is not finite keeps its last
            value.
    """

    def __init__(
        self,
        frames: FrameEnvironment,
        model: LatentModel,
        replay: SequenceReplay,
        filter_: ReplayFilter,
        *,
        history: int,
    ) -> None:
        self._model, self._replay, self._filter = model, replay, filter_
        self._stepper = Stepper(frames.env, frames.rows)
        self._follower, self._length = Follower(model, history), history
        self._followed: Followed | None = None
        self._sent: AnyArray = np.zeros(0)
        self._memory = VectorMemory(frames.num, frames.vectors.size, frames.vectors.names)
        self.vectors: FloatArray = np.zeros((frames.num, frames.vectors.size), np.float32)

    @property
    def acting(self) -> BoolArray:
        """Where an action is taken next, bool (num,); elsewhere the environment resets."""
        return self._stepper.acting

    @property
    def followed(self) -> Followed:
        """Beliefs and histories of all environments."""
        assert self._followed is not None  # noqa: S101 - begin comes first
        return self._followed

    def begin(self, seed: int | None) -> None:
        """Begin episodes everywhere; from a seed, the i-th environment starts from seed + i."""
        self._stepper.begin(seed)
        self._begin_episodes()

    @property
    def overlaps(self) -> bool:
        """Whether the environments step between `send` and `receive`."""
        return self._stepper.overlaps

    def send(self, actions: AnyArray) -> None:
        """Let every environment take an action, (num, ...)."""
        self._sent = actions
        self._stepper.send(actions)

    def drop(self) -> None:
        """Wait for what came of the actions that were sent, and forget it."""
        self._stepper.drop()

    def receive(self) -> list[Played]:
        """Keep what came of it."""
        acted = self._stepper.acting
        played = self._stepper.receive()
        reached = self._stepper.observations.copy()
        for each in played:
            reached[each.number] = each.next_observation
        self._see_vectors(reached, acted, begun=np.zeros_like(acted))
        spec = self._model.action_spec
        stored = spec.flatten_batch(self._sent)
        taken = to_device(spec.encode(stored), self._model.device)
        self._move(acted, self._follower.step(self.followed, taken, self._see(reached)))
        rows = [
            self._replay.step(
                each.number,
                stored[each.number],
                each.reward,
                each.next_observation[FRAME],
                self.vectors[each.number],
                terminated=each.terminated,
                ended=each.ended is not None,
            )
            for each in played
        ]
        self._keep(np.array(rows, int), acted)
        return played

    def catch_up(self) -> None:
        """Take up beliefs and histories that were filtered anew in the replay."""
        rows = self._replay.latest_rows()
        begun = rows[self._replay.begins(rows)]
        if len(begun):  # an episode of one frame is in no window
            self._filter.refresh(begun[:, None])
        windows = self._replay.windows_before(rows, self._length - 1)
        features = self._replay.features(windows)
        history = replayed_history(self._replay, windows, features)
        self._followed = Followed(self._replay.beliefs(rows), history)

    def restart(self) -> None:
        """Begin the episodes that follow those which ended."""
        self._stepper.restart()
        self._begin_episodes()

    def _begin_episodes(self) -> None:
        begun, shown = self._stepper.begun, self._stepper.observations
        if not begun.any():
            return
        shown = shown.copy()
        self._see_vectors(shown, begun, begun=begun)
        self._move(begun, self._follower.begin(self._see(shown)))
        rows = [
            self._replay.begin(int(lane), shown[lane][FRAME], self.vectors[lane])
            for lane in np.flatnonzero(begun)
        ]
        self._keep(np.array(rows, int), begun)

    def _see_vectors(self, rows: AnyArray, mask: BoolArray, *, begun: BoolArray) -> None:
        """Take up the vectors of some rows, and put in what was missing."""
        self.vectors = self._memory.see(rows[VECTORS], begun=begun, mask=mask)
        rows[VECTORS] = self.vectors

    def _see(self, rows: AnyArray) -> Seen:
        return Seen.by(self._model, rows[FRAME], rows[VECTORS], self._filter.noise(len(rows)))

    def _move(self, mask: BoolArray, followed: Followed) -> None:
        if not mask.all():
            followed = followed.where(self._on_device(mask), self.followed)
        self._followed = followed

    def _keep(self, rows: IntArray, mask: BoolArray) -> None:
        chosen = self._on_device(mask)
        beliefs = map_belief(lambda tensor: tensor[chosen], self.followed.belief)
        self._replay.keep(rows, self.followed.features[chosen], beliefs)

    def _on_device(self, mask: BoolArray) -> Tensor:
        return to_device(mask, self._model.device)
