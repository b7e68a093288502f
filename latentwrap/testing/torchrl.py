"""Playing latents in TorchRL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch

from latentwrap.seeding import numpy_generator
from latentwrap.testing.notes import Notes, Played
from latentwrap.testing.plans import Plan
from latentwrap.types import AnyArray, BoolArray

if TYPE_CHECKING:
    from latentwrap.testing.recording import RecordedEpisode

KEY = "latent"


def make_torchrl(makers: list[Any], model: Any, **options: Any) -> Any:
    """Gymnasium environments as one of TorchRL, with a `LatentTransform` around them."""
    from torchrl.envs import GymWrapper, SerialEnv, TransformedEnv

    from latentwrap.integrations.torchrl import LatentTransform

    envs = SerialEnv(len(makers), [lambda make=make: GymWrapper(make()) for make in makers])
    transform = LatentTransform(model, ["pixels"], [KEY], **options)
    return TransformedEnv(envs, transform)


def play_torchrl(env: Any, space: gym.Space[Any], plan: Plan) -> Played:
    """Play what `make_torchrl` made; some environments are reset before their episode ends.

    Args:
        env: with a `Recorder` in each environment.
        space: of one observation.
        plan: how.
    """
    with torch.random.fork_rng(devices=[]):  # TorchRL draws its actions from torch's own
        torch.manual_seed(plan.seed)
        return _Game(env, space, plan).play()


class _Game:
    def __init__(self, env: Any, space: gym.Space[Any], plan: Plan) -> None:
        self._env, self._plan, self._num = env, plan, env.batch_size.numel()
        self._rng = numpy_generator(plan.seed)
        self._notes = Notes(space, self._num, scribble=plan.scribble)

    def play(self) -> Played:
        env, plan = self._env, self._plan
        env.transform.set_seed(plan.seed)
        env.set_seed(plan.seed)
        tensordict = env.reset()
        before = [len(episodes) - 1 for episodes in self._recorded()]
        for i, row in enumerate(self._rows(tensordict)):
            self._notes.begin(i, row, plan.seed + i)
        self._notes.keep(self._rows(tensordict))
        for _ in range(plan.steps):
            tensordict = self._step(env.rand_action(tensordict))
            done = tensordict["done"].reshape(self._num).numpy()
            mask = done | (self._rng.random(self._num) < plan.leave)
            if mask.any():
                tensordict = self._reset(tensordict, mask)
        recorded = zip(self._recorded(), before, strict=True)
        return self._notes.close([episodes[count:] for episodes, count in recorded])

    def _step(self, tensordict: Any) -> Any:
        tensordict = self._env.step(tensordict)
        for i, row in enumerate(self._rows(tensordict["next"])):
            self._notes.go_on(i, None, row)
        self._notes.keep(self._rows(tensordict["next"]))
        return self._env.step_mdp(tensordict)

    def _reset(self, tensordict: Any, mask: BoolArray) -> Any:
        latest = self._rows(tensordict).copy()
        tensordict["_reset"] = torch.from_numpy(mask.copy()).reshape(self._num, 1)
        tensordict = self._env.reset(tensordict)
        rows = self._rows(tensordict)
        if latest[~mask].tobytes() != rows[~mask].tobytes():
            self._notes.faults.append("_reset changes observations outside of the mask")
        for i in np.flatnonzero(mask):
            self._notes.begin(int(i), rows[i])
        self._notes.keep(rows)
        return tensordict

    def _rows(self, tensordict: Any) -> AnyArray:
        rows: AnyArray = tensordict[KEY].reshape(self._num, -1).numpy()
        return rows

    def _recorded(self) -> list[list[RecordedEpisode]]:
        inside = self._env.base_env._envs
        return [env._env.get_wrapper_attr("recorded") for env in inside]
