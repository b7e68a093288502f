"""Acting on observations, the way that Stable-Baselines3 asks for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from latentwrap import storage
from latentwrap._version import __version__
from latentwrap.actions import space_from_json, space_to_json
from latentwrap.agents.config import SACConfig
from latentwrap.agents.kinds import ActionKind, kind_of
from latentwrap.agents.learner import Learner
from latentwrap.agents.networks import Actor
from latentwrap.agents.spaces import ActionSpace, check_fits
from latentwrap.devices import resolve_device, to_device
from latentwrap.errors import CheckpointError, EnvironmentMismatch
from latentwrap.optimizers import under
from latentwrap.seeding import torch_generator
from latentwrap.types import AnyArray, FloatArray
from latentwrap.wrappers.workers import Environment

FORMAT = "latentwrap-agent"


class Policy:
    """Chooses the actions of an actor, as the environment takes them.

    Args:
        actor: acts, as it is at each call.
        kind: of the actions.
        observation_space, action_space: of one environment.
        noise: the generator of samples, on the CPU.
        device: where the actor is.

    Attributes:
        observation_space, action_space, noise: as given.
        model_fingerprint: the latent model whose latents it acts on, where there is one.
        num_timesteps: environment steps that the agent had learned for when it was saved.
    """

    def __init__(
        self,
        actor: Actor,
        kind: ActionKind,
        observation_space: spaces.Box,
        action_space: ActionSpace,
        *,
        noise: torch.Generator,
        device: torch.device,
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.noise = noise
        self.model_fingerprint: str | None = None
        self.num_timesteps = 0
        self._actor, self._kind, self._device = actor, kind, device

    @classmethod
    def of(
        cls,
        learner: Learner,
        kind: ActionKind,
        observation_space: spaces.Box,
        action_space: ActionSpace,
    ) -> Policy:
        """What a learner does, as it is at each call."""
        return cls(
            learner.actor,
            kind,
            observation_space,
            action_space,
            noise=learner.noise,
            device=learner.device,
        )

    @torch.inference_mode()
    def choose(self, seen: Tensor, *, deterministic: bool) -> FloatArray:
        """Actions as the replay stores them, float32 (B, A).

        Args:
            seen: observations, float32 (B, d).
            deterministic: the mean or the most probable action instead of a sample.
        """
        rows = to_device(seen, self._device)
        actions = self._actor.best(rows) if deterministic else self._actor.draw(rows, self.noise)
        chosen: FloatArray = actions.float().cpu().numpy()
        return chosen

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,  # noqa: ARG002 - part of SB3's signature
        deterministic: bool = False,  # noqa: FBT001, FBT002 - likewise
    ) -> tuple[AnyArray, Any]:
        """Choose actions.

        Args:
            observation: one, or a batch of them.
            state, episode_start: ignored; the policy has no memory.
            deterministic: the mean or the most probable action instead of a sample.

        Returns:
            Actions as the environment takes them, and `state`.

        Raises:
            EnvironmentMismatch: observations of another shape.
        """
        batch, shape = np.asarray(observation, np.float32), self.observation_space.shape
        single = batch.shape == shape
        if not single and batch.shape[1:] != shape:
            raise EnvironmentMismatch(
                f"The policy requires an observation of shape {shape} or a batch of them, got "
                f"{batch.shape}: pass what the environment that it learned in observes, or for "
                "SLAC what watch(env) does."
            )
        rows = torch.from_numpy(batch.reshape(-1, math.prod(shape)))
        actions = self._kind.to_actions(self.choose(rows, deterministic=deterministic))
        return (actions[0] if single else actions), state

    def describe(self, config: SACConfig) -> dict[str, Any]:
        """What a file of the agent says beside its weights; JSON-serialisable."""
        return {
            "format": FORMAT,
            "latentwrap": __version__,
            "config": config.model_dump(mode="json"),
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "model_fingerprint": self.model_fingerprint,
        }

    @classmethod
    def load(
        cls, path: str | Path, env: Environment | None = None, *, device: str = "auto"
    ) -> Policy:
        """The policy of a saved agent; nothing is unpickled.

        Args:
            path: a file that `SAC.save` or `SLAC.save_policy` wrote.
            env: where it is to act; `None` checks nothing.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            CheckpointError: missing, foreign or damaged file; or the environment's spaces or
                latent model are not those that the agent was trained with.
        """
        stored = storage.load(path, file_format=FORMAT, what="agent")
        where = resolve_device(device)
        with agent_files_named(path):
            policy = _rebuilt(stored, where)
        if env is not None:
            check_fits(policy, env, source=str(path))
        return policy


@contextmanager
def agent_files_named(path: str | Path) -> Iterator[None]:
    """Turn what a foreign document raises into one sentence.

    Raises:
        CheckpointError: the block found a file of another version.
    """
    try:
        yield
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"The agent {path} is not of this version of latentwrap: {reason}."
        ) from None


def _rebuilt(stored: storage.Stored, device: torch.device) -> Policy:
    document = stored.document
    observed = space_from_json(document["observation_space"])
    actions: Any = space_from_json(document["action_space"])
    if not isinstance(observed, spaces.Box):
        raise TypeError(f"an agent that observes {observed}")
    kind = kind_of(actions)
    actor = kind.make_actor(int(np.prod(observed.shape)), SACConfig.parse(document["config"]))
    actor.load_state_dict(under("actor.", stored.tensors))
    noise = torch_generator(0).set_state(stored.tensors["noise"])
    policy = Policy(actor.to(device), kind, observed, actions, noise=noise, device=device)
    policy.model_fingerprint = document["model_fingerprint"]
    policy.num_timesteps = int(document["num_timesteps"])
    return policy
