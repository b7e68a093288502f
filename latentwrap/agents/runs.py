"""Training an agent on the latents of an environment, in a folder that can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym

from latentwrap.agents.callbacks import Callback, EvaluateEvery, LogMetrics, SaveEvery
from latentwrap.agents.config import SACConfig
from latentwrap.agents.evaluate import EvaluationResult, RandomAgent, evaluate_policy
from latentwrap.agents.experience import remember_dataset
from latentwrap.agents.online import OnlineAgent
from latentwrap.agents.run_folder import AgentRun, RunCard, refuse_folder, whereabouts
from latentwrap.agents.sac import SAC
from latentwrap.datasets import Dataset
from latentwrap.datasets.workers import running
from latentwrap.devices import threads_beside
from latentwrap.envs.making import make_env
from latentwrap.errors import CheckpointError
from latentwrap.files import remove
from latentwrap.identity import refuse_changes
from latentwrap.seeding import child_seeds
from latentwrap.wrappers import LatentObservation, VectorLatentObservation
from latentwrap.wrappers.frame_envs import frame_maker
from latentwrap.wrappers.workers import Environment

FINAL_SEED = 10_000
"""The last evaluation of a run of seed s starts its episodes from s + 10,000 on: `latentwrap play
RUN --episodes 20 --seed 10000` repeats that of seed 0, and a baseline can have the same ones."""

WATCHED_SEED = 20_000
"""Likewise for the evaluations during the run."""


@dataclass(frozen=True)
class Watching:
    """How a run is evaluated.

    Attributes:
        every: environment steps between evaluations, and between saves.
        episodes, final_episodes: in each of those, and in the last.
    """

    every: int = 5000
    episodes: int = 5
    final_episodes: int = 20


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        folder: of the run.
        steps: environment steps in total, those before a resume included.
        begun_at: environment steps before this part of the run.
        evaluation: of the final agent, on fresh episodes, with its mean action; `None` after
            Ctrl-C.
        interrupted: Ctrl-C ended it.
        note: what else the user should know, such as a missing TensorBoard.
    """

    folder: Path
    steps: int
    begun_at: int
    evaluation: EvaluationResult | None
    interrupted: bool
    note: str | None


def train_agent(
    env_id: str,
    model: str | Path,
    folder: str | Path,
    *,
    steps: int,
    data: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
    evaluate_every: int = 5000,
    evaluation_episodes: int = 5,
    final_episodes: int = 20,
    overlap: bool = False,
    resume: bool = False,
    force: bool = False,
    show_progress: bool = False,
) -> TrainResult:
    """Train SAC on the latents of an environment.

    Args:
        env_id: id of the environment, or `module:id`.
        model: checkpoint of the latent model.
        folder: of the run; made.
        steps: environment steps (after frame skip) in total.
        data: a dataset with rewards whose transitions the replay starts with.
        options: fields of `SACConfig` that differ from their defaults.
        seed: of environment, networks, noise and replay.
        device: `auto`, `cpu` or `cuda`.
        evaluate_every: steps between evaluations on other seeds, and between saves.
        evaluation_episodes, final_episodes: episodes of those and of the last evaluation.
        overlap: step the environment in a process of its own while the agent learns.
        resume: go on with the agent in the folder, with the same arguments but for `steps`.
        force: replace the run in the folder.
        show_progress: draw a progress bar on standard error.

    Raises:
        LatentwrapError: bad arguments or files; one sentence each.
    """
    run = AgentRun(folder)
    prior = None if data is None else Dataset(data)
    if not resume:
        refuse_folder(run, [model, *([] if prior is None else prior.paths)], force=force)
    config = SACConfig.parse(options or {})
    with (
        closing(LatentObservation(make_env(env_id), model, device=device)) as watched,
        _acting(env_id, watched, apart=overlap) as env,
    ):
        card = _card(env_id, watched, seed, config)
        if prior is not None:
            card = replace(card, data=whereabouts(data), data_fingerprint=prior.fingerprint())
        if resume:
            agent = _resumed(run, card, env, device)
        else:
            agent = _begun(env, watched, card, config, prior, device=device, show=show_progress)
            remove(run.folder)
            run.write_card(card)
            agent.save(run.agent_path)  # so that a run that is killed at once can be resumed too
        watching = Watching(evaluate_every, evaluation_episodes, final_episodes)
        return learn_watched(
            agent,
            watched,
            run.folder,
            run.agent_path,
            steps=steps,
            watching=watching,
            seed=seed,
            show_progress=show_progress,
        )


def learn_watched(
    agent: OnlineAgent,
    watched: gym.Env[Any, Any],
    folder: Path,
    saved_to: Path,
    *,
    steps: int,
    watching: Watching,
    seed: int,
    show_progress: bool,
) -> TrainResult:
    """Let an agent learn until it has taken so many steps, and evaluate and save it meanwhile.

    Args:
        agent: learns; what it has taken before counts.
        watched: an environment of its own, to evaluate the agent in.
        folder: of the run, for its logs.
        saved_to: what `agent.save` is given.
        steps: environment steps in total.
        watching: how it is evaluated.
        seed: of the run.
        show_progress: draw a progress bar on standard error.
    """
    log = LogMetrics(folder)
    callbacks: list[Callback] = [
        log,
        EvaluateEvery(
            watched, watching.every, watching.episodes, seed=seed + WATCHED_SEED, folder=folder
        ),
        SaveEvery(saved_to, watching.every),
    ]
    begun_at = agent.num_timesteps
    agent.learn(max(0, steps - begun_at), callback=callbacks, progress_bar=show_progress)
    agent.save(saved_to)
    evaluation = None
    if not agent.interrupted:
        evaluation = evaluate_policy(
            agent.policy,
            watched,
            watching.final_episodes,
            seed=seed + FINAL_SEED,
            show_progress=show_progress,
        )
    return TrainResult(
        folder, agent.num_timesteps, begun_at, evaluation, agent.interrupted, log.note
    )


def evaluate_random(env_id: str, episodes: int, *, seed: int) -> EvaluationResult:
    """A random policy on the episodes of the last evaluation of `train_agent`.

    Args:
        env_id: id of the environment, or `module:id`.
        episodes: how many.
        seed: of the run to compare with.
    """
    with closing(make_env(env_id)) as env:
        policy = RandomAgent(env.action_space, seed)
        return evaluate_policy(policy, env, episodes, seed=seed + FINAL_SEED)


def _begun(
    env: Environment,
    watched: LatentObservation,
    card: RunCard,
    config: SACConfig,
    prior: Dataset | None,
    *,
    device: str,
    show: bool,
) -> SAC:
    train_seed = child_seeds(card.seed, 1)[0]
    env.reset(seed=train_seed)
    agent = SAC(env, seed=train_seed, device=device, config=config)
    if prior is not None:
        remember_dataset(agent, watched, prior, show_progress=show)
    return agent


def _resumed(run: AgentRun, card: RunCard, env: Environment, device: str) -> SAC:
    before = run.read_card()
    if before.joint is not None:
        raise CheckpointError(
            f"The agent in {run.folder} learned together with its model: pass --joint to go on."
        )
    # A model may have moved; which one it is says its fingerprint.
    refuse_changes(run.folder, before.as_json(), card.as_json(), free=["model", "data"])
    agent = run.load_agent(env, device=device)
    run.write_card(card)
    # Its episodes must not begin as those of the first part did.
    env.reset(seed=child_seeds(card.seed + agent.num_timesteps, 2)[1])
    return agent


@contextmanager
def _acting(env_id: str, watched: LatentObservation, *, apart: bool) -> Iterator[Environment]:
    """Where the agent acts, on the latents of the model that it is watched with."""
    if not apart:
        with closing(LatentObservation(make_env(env_id), watched.model)) as env:
            yield env
        return
    make = frame_maker(env_id, watched.model)
    with running(make, 1, env_id, apart=True) as envs, threads_beside(1):
        yield VectorLatentObservation(envs, watched.model)


def _card(env_id: str, env: LatentObservation, seed: int, config: SACConfig) -> RunCard:
    checkpoint = env.model.checkpoint
    if checkpoint is None:
        raise CheckpointError("Training requires a checkpoint file, got a model from memory.")
    return RunCard(
        env_id,
        checkpoint.path,
        checkpoint.fingerprint,
        seed,
        config.model_dump(mode="json"),
    )
