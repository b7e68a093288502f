"""Stochastic latent actor-critic (Lee et al. 2020, arXiv:1907.00953): model and agent together."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from torch import Tensor

from latentwrap.agents.callbacks import Callbacks
from latentwrap.agents.kinds import kind_of
from latentwrap.agents.learner import Learner
from latentwrap.agents.online import OnlineAgent
from latentwrap.agents.policy import Policy
from latentwrap.agents.spaces import checked_actions
from latentwrap.agents.stepping import Played
from latentwrap.allocator import keep_freed_memory
from latentwrap.datasets import Dataset
from latentwrap.devices import resolve_device
from latentwrap.errors import ConfigError
from latentwrap.interrupts import InterruptFlag
from latentwrap.joint.beliefs import ReplayFilter
from latentwrap.joint.config import JointConfig
from latentwrap.joint.experience import Experience
from latentwrap.joint.models import (
    check_window,
    find_recipe,
    memory_of,
    new_model,
    with_window,
)
from latentwrap.joint.saving import AGENT, SavedState, replay_info, save_policy, save_state
from latentwrap.joint.sequences import SequenceReplay, SequenceSpec
from latentwrap.joint.store import ReplayStore, add_episodes, check_memories
from latentwrap.joint.updates import JointUpdates
from latentwrap.joint.view import AgentView
from latentwrap.models import LatentModel, load_model
from latentwrap.progress import bar
from latentwrap.seeding import child_seeds, torch_generator
from latentwrap.training.memory import MemoryEstimate
from latentwrap.training.recipes import Recipe
from latentwrap.training.statistics import check_dataset
from latentwrap.training.updater import ModelUpdater
from latentwrap.types import FloatArray, IntArray
from latentwrap.wrappers import LatentObservation
from latentwrap.wrappers.frame_envs import observe_frames
from latentwrap.wrappers.history import HistoryObservation
from latentwrap.wrappers.workers import Environment


class SLAC(OnlineAgent):
    """Learns a latent model of pixels and a policy on its latents from one replay.

    It acts at random at first, lets the model learn from that, and then updates model and agent
    after every step. The critics see the latent, the actor the latent too or, as published, the
    features of the latest frames and the actions between them.

    Args:
        env: a single environment with pixels, as of `LatentObservation`, or a
            `gymnasium.vector.VectorEnv` in any autoreset mode whose environments observe
            `latentwrap.RenderFrame`; with Discrete or finite Box actions.
        model: a checkpoint or a model to start from; `None` begins with a new one.
        frozen: the model does not learn; latents are then computed once.
        preset, kind, model_options: of a new model and of how it learns, as of
            `latentwrap.training.pretrain`; of a model to start from, only how it learns.
        recipe: all of these at once.
        seed: of weights, noise, replay, random actions and the first reset; `None` draws one.
        device: `auto`, `cpu` or `cuda`.
        config: hyperparameters; `None` takes the defaults.
        overrides: fields of `JointConfig` by name.

    Attributes:
        model: the latent model.
        policy: chooses the actions for what `watch` observes.
        num_timesteps: environment steps so far, those of all environments together.
        interrupted: whether Ctrl-C ended the latest `learn`.
        start: the checkpoint that the model began as, if any.
        remembered: fingerprints of the datasets that the replay was given.

    Raises:
        EnvironmentMismatch: no frames, other actions, or others than the model was trained on.
        ConfigError: an unknown or invalid hyperparameter, or a window of the model that is longer
            than any episode, or than what the replay keeps of one.

    Example:
        >>> import gymnasium, latentwrap
        >>> env = gymnasium.make("latentwrap/PixelPendulum-v0")
        >>> agent = latentwrap.SLAC(env, seed=0).learn(15_000)  # doctest: +SKIP
        >>> agent.save("runs/pendulum")  # doctest: +SKIP
    """

    config: JointConfig

    def __init__(
        self,
        env: Environment,
        model: str | Path | LatentModel | None = None,
        *,
        frozen: bool = False,
        preset: str = "fast",
        kind: str | None = None,
        model_options: Mapping[str, Any] | None = None,
        recipe: Recipe | None = None,
        seed: int | None = None,
        device: str = "auto",
        config: JointConfig | None = None,
        **overrides: Any,
    ) -> None:
        if frozen and model is None:
            raise ConfigError("A frozen model must have learned before: name a checkpoint.")
        given = (config or JointConfig()).replace(**overrides)
        self.config = given.settled(new_model=model is None)
        self.seed = child_seeds(seed, 1)[0] if seed is None else seed
        seeds = child_seeds(self.seed, 7)
        where = resolve_device(device)
        if where.type == "cpu":
            keep_freed_memory()
        # What was passed in stays as it is.
        start = load_model(model) if isinstance(model, str | Path) else copy.deepcopy(model)
        self.start = None if start is None else start.checkpoint
        self.remembered: list[str] = []
        self.frames = observe_frames(env, start)
        self.action_space = checked_actions(self.frames.env)
        self.recipe = recipe or find_recipe(start, preset, kind, model_options or {})
        self.is_new = start is None
        self.model = (start or new_model(self.frames, self.recipe, seeds[0])).to(where)
        self.frozen = frozen
        self._let_learn(not frozen)
        self.updater = ModelUpdater(self.model, self.recipe.training, seed=seeds[1])
        self.replay = self._make_replay(seeds[2])
        if not frozen:
            check_window(self.frames, self.replay, self.recipe.training.window)
        sample, noise = self.config.sample_latents, torch_generator(seeds[3])
        self.filter = ReplayFilter(self.model, self.replay, sample=sample, noise=noise)
        self.view = AgentView(self.model, self.config)
        self._kind = kind_of(self.action_space)
        self.learner = Learner(
            self._kind, self.view.sight, self.config, device=where, seed=seeds[4]
        )
        self.policy = Policy.of(self.learner, self._kind, self.view.actor_space, self.action_space)
        self.updates = JointUpdates(
            self.updater, self.replay, self.filter, self.view, self.learner, self.config
        )
        self._experience = Experience(
            self.frames, self.model, self.replay, self.filter, history=self.config.history
        )
        self.action_space.seed(seeds[5])
        self._reset_seed: int | None = seeds[6]
        self.num_timesteps = 0
        self.interrupted = False
        self.ready = frozen
        self._store: ReplayStore | None = None
        self.owed = 0.0

    def watch(self, env: gym.Env[Any, Any]) -> LatentObservation | HistoryObservation:
        """Observe what the actor sees in an environment of its own, by the model as it is then.

        Args:
            env: a single environment like the one that it learns in.
        """
        if self.view.with_history:
            return HistoryObservation(env, self.model, length=self.config.history)
        return LatentObservation(env, self.model)

    def remember(self, data: str | Path | Dataset) -> None:
        """Put the episodes of a dataset into the replay, as if they had been played.

        Args:
            data: a dataset, or its file, of the same frames, actions and frame skip, with rewards.

        Raises:
            DatasetError: it does not fit the model or into the replay, or has no rewards.
        """
        dataset = data if isinstance(data, Dataset) else Dataset(data)
        check_dataset(self.model, dataset)
        check_memories(dataset, self.frames, self.replay)
        add_episodes(self.replay, dataset)
        self.remembered.append(dataset.fingerprint())
        self.filter.refresh_all()

    def save(self, path: str | Path) -> None:
        """Write all that it takes to act and to go on learning into a folder.

        `agent.safetensors` is the policy and `agent-model.safetensors` the model, a checkpoint for
        every wrapper; `replay/` holds the frames as datasets, and grows by what is new.

        Args:
            path: of the folder; made.
        """
        save_state(self, Path(path))
        self.save_policy(Path(path) / AGENT)

    def save_policy(self, path: str | Path) -> None:
        """Write what it takes to act: the agent, and the model as `<name>-model.safetensors`."""
        save_policy(self, Path(path))

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: Environment,
        *,
        window: int | None = None,
        device: str = "auto",
    ) -> SLAC:
        """Go on with what `save` wrote; nothing is unpickled, and episodes start anew.

        Args:
            path: the folder.
            env: like the one that it learned in.
            window: actions in a window that the model learns from, if others from now on.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            CheckpointError: missing, foreign or damaged files.
            EnvironmentMismatch: the environment is unlike the one that it learned in.
        """
        saved = SavedState(Path(path))
        agent = cls(
            env,
            saved.model,
            frozen=saved.frozen,
            recipe=with_window(saved.recipe, window),
            seed=saved.seed,
            device=device,
            config=saved.config,
        )
        saved.restore(agent)
        return agent

    def memory(self) -> MemoryEstimate:
        """What `learn` will need once the replay is full."""
        return memory_of(self.model, self.recipe.training, self.replay, learns=not self.frozen)

    def store_in(self, folder: Path) -> ReplayStore:
        """Where the frames are saved; another folder begins anew."""
        if self._store is None or self._store.folder != folder.resolve():
            self._store = ReplayStore(folder.resolve(), replay_info(self))
        return self._store

    def _require_env(self) -> Environment:
        return self.frames.env

    def _interact(
        self, goal: int, callbacks: Callbacks, interrupt: InterruptFlag, *, show: bool
    ) -> None:
        experience = self._experience
        experience.begin(self._reset_seed)
        self._reset_seed = None  # environments go on from here
        self._play(experience, self._see, goal, callbacks, interrupt, show=show)

    def _keep(self, played: Played, row: FloatArray) -> None:
        """`Experience` has kept it."""

    def _see(self, numbers: IntArray) -> Tensor:
        """What the actor sees in some environments."""
        belief, history = self._experience.followed
        seen = self.view.observe(belief, self._experience.vectors, history)
        return seen[numbers][:, self.view.sight.actor]

    def _learn_after(
        self, step: int, callbacks: Callbacks, interrupt: InterruptFlag, *, show: bool
    ) -> None:
        if step < self.config.learning_starts:
            return
        if not self.ready and not self._prepare(interrupt, show=show):
            return
        metrics: dict[str, Tensor] = {}
        if not self.frozen:
            self.owed += self.config.model_updates
            while self.owed >= 1:
                self.owed -= 1
                metrics |= self.updates.update_model()
            if step % self.config.rescale_every == 0:
                self.updates.rescale()
        for _ in range(self.config.gradient_steps):
            metrics |= self.updates.update_agent()
            callbacks.on_update(self, metrics)

    def train_model(self, total: int, *, progress_bar: bool = False) -> SLAC:
        """Let the model alone learn from the replay, and filter that anew; frozen ones too.

        The agent sees the new latents in their new scale, which its first layers take over, but has
        not learned from them yet: `settle` it before it acts. Ctrl-C ends after an update.

        Args:
            total: updates of the model until then, those before included.
            progress_bar: draw one on standard error.

        Raises:
            DatasetError: no episode in the replay is as long as a window.
        """
        self.updates.check_windows()
        self._let_learn(True)  # noqa: FBT003
        with InterruptFlag() as interrupt:
            self._train_model(total, interrupt, show=progress_bar)
        self._let_learn(not self.frozen)
        self.interrupted = interrupt.raised
        return self

    def settle(self, updates: int, *, progress_bar: bool = False) -> SLAC:
        """Let the agent learn from the replay alone."""
        title = "Learning anew"
        with bar(title, updates, show=progress_bar) as progress, InterruptFlag() as interrupt:
            while updates and not interrupt.raised:
                self.updates.update_agent()
                updates -= 1
                progress.advance()
        self.interrupted = interrupt.raised
        return self

    def _prepare(self, interrupt: InterruptFlag, *, show: bool) -> bool:
        """Let the model learn from random experience; whether that is done."""
        if self._waits():
            return False
        self.updates.check_windows()
        self.ready = self._train_model(self.config.initial_model_updates or 0, interrupt, show=show)
        return self.ready

    def _waits(self) -> bool:
        """Whether episodes that began just now are soon long enough for a window."""
        window = self.recipe.training.window
        known = self.config.learning_starts + window * self.frames.num
        return self.num_timesteps < known and self.replay.longest() < window

    def _train_model(self, total: int, interrupt: InterruptFlag, *, show: bool) -> bool:
        if self.is_new and not self.updater.steps_done:
            self.updates.show_data()
        with bar("Learning the model", total, show=show and bool(total)) as progress:
            while self.updater.steps_done < total and not interrupt.raised:
                self.updates.update_model(renew=False)
                progress.move_to(self.updater.steps_done)
        self.filter.refresh_all()
        self.updates.rescale()
        self._experience.catch_up()
        return self.updater.steps_done >= total

    def _let_learn(self, learns: bool) -> None:  # noqa: FBT001
        self.model.requires_grad_(requires_grad=learns)
        if learns:
            self.model.checkpoint = None  # it is another one from now on

    def _make_replay(self, seed: int) -> SequenceReplay:
        spec = SequenceSpec(self.frames.frame, self.model.action_spec, self.frames.vectors.size)
        return SequenceReplay(self.config.buffer_size, spec, lanes=self.frames.num, seed=seed)
