"""Training an agent on the latents of an environment, in a folder that can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentwrap.agents.callbacks import Callback, EvaluateEvery, LogMetrics, SaveEvery
from latentwrap.agents.config import SACConfig
from latentwrap.agents.evaluate import EvaluationResult, evaluate_policy
from latentwrap.agents.experience import remember_dataset
from latentwrap.agents.sac import SAC
from latentwrap.datasets import Dataset
from latentwrap.envs.making import make_env
from latentwrap.errors import CheckpointError
from latentwrap.files import refuse_existing, remove, written_whole
from latentwrap.seeding import child_seeds
from latentwrap.wrappers import LatentObservation

FINAL_SEED = 10_000
"""The last evaluation of a run of seed s starts its episodes from s + 10,000 on, so that
`latentwrap play RUN --seed` repeats it, and a baseline can be given the same episodes."""

WATCHED_SEED = 20_000
"""Likewise for the evaluations during the run."""

_FORMAT = "latentwrap-run"


@dataclass(frozen=True)
class RunCard:
    """What an agent was trained on, kept as `run.json`.

    Attributes:
        env_id: id of the environment, or `module:id`.
        model: absolute path of the latent model's checkpoint.
        fingerprint: identifies that model; another one is refused.
        seed: of the run.
        data: the dataset that its replay started with, if one was given.
    """

    env_id: str
    model: str
    fingerprint: str
    seed: int
    data: str | None = None


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        folder: of the run.
        steps: environment steps in total, those before a resume included.
        evaluation: of the final agent, on fresh episodes, with its mean action.
        interrupted: Ctrl-C ended it.
        note: what else the user should know, such as a missing TensorBoard.
    """

    folder: Path
    steps: int
    evaluation: EvaluationResult
    interrupted: bool
    note: str | None


class AgentRun:
    """The folder of an agent: `run.json`, `agent.safetensors`, metrics and evaluations.

    Example:
        >>> run = AgentRun("runs/car")  # doctest: +SKIP
        >>> env = run.make_env()  # doctest: +SKIP
        >>> agent = run.load_agent(env)  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.agent_path = self.folder / "agent.safetensors"
        self.evaluations_path = self.folder / "evaluations" / "metrics.csv"
        self._card_path = self.folder / "run.json"

    def write_card(self, card: RunCard) -> None:
        """Write `run.json`."""
        document = {"format": _FORMAT, **card.__dict__}
        with written_whole(self._card_path) as temporary:
            temporary.write_text(json.dumps(document, indent=2), encoding="utf-8")

    def read_card(self) -> RunCard:
        """Read `run.json`.

        Raises:
            CheckpointError: there is no run in the folder.
        """
        try:
            document = json.loads(self._card_path.read_text(encoding="utf-8"))
            if document.pop("format") != _FORMAT:
                raise ValueError
            return RunCard(**document)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(
                f"{self.folder} is no folder that latentwrap train wrote: "
                "it has no readable run.json."
            ) from None

    def make_env(self, *, device: str = "cpu") -> LatentObservation:
        """The environment that the agent was trained in.

        Raises:
            CheckpointError: its model is gone, or is another one now.
        """
        card = self.read_card()
        env = LatentObservation(make_env(card.env_id), card.model, device=device)
        if env.model_fingerprint != card.fingerprint:
            raise CheckpointError(
                f"The agent in {self.folder} was trained on another model than {card.model} "
                "now holds: put the old checkpoint back, or train again."
            )
        return env

    def load_agent(self, env: LatentObservation, *, device: str = "cpu") -> SAC:
        """The agent, ready to act in `env` or to learn on."""
        return SAC.load(self.agent_path, env, device=device)


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
        resume: go on with the agent in the folder.
        force: replace what is in the folder.
        show_progress: draw a progress bar on standard error.

    Raises:
        LatentwrapError: bad arguments or files; one sentence each.
    """
    run = AgentRun(folder)
    if not resume:
        refuse_existing(run.folder, force=force)
    config = SACConfig.parse(options or {})
    prior = None if data is None else Dataset(data)
    train_seed = child_seeds(seed, 1)[0]
    env, watched = (_latent_env(env_id, model, device) for _ in range(2))
    env.reset(seed=train_seed)
    if resume:
        _check_same(run, env_id, env)
        agent = run.load_agent(env, device=device)
    else:
        agent = SAC(env, seed=train_seed, device=device, config=config)
        if prior is not None:
            remember_dataset(agent, env, prior, show_progress=show_progress)
        remove(run.folder)
        run.write_card(_card(env_id, env, seed, prior))
    log = LogMetrics(run.folder)
    callbacks: list[Callback] = [
        log,
        EvaluateEvery(
            watched,
            evaluate_every,
            evaluation_episodes,
            seed=seed + WATCHED_SEED,
            folder=run.folder,
        ),
        SaveEvery(run.agent_path, evaluate_every),
    ]
    remaining = max(0, steps - agent.num_timesteps)
    agent.learn(remaining, callback=callbacks, progress_bar=show_progress)
    agent.save(run.agent_path)
    evaluation = evaluate_policy(
        agent, watched, final_episodes, seed=seed + FINAL_SEED, show_progress=show_progress
    )
    return TrainResult(run.folder, agent.num_timesteps, evaluation, agent.interrupted, log.note)


def _latent_env(env_id: str, model: str | Path, device: str) -> LatentObservation:
    return LatentObservation(make_env(env_id), model, device=device)


def _card(env_id: str, env: LatentObservation, seed: int, prior: Dataset | None) -> RunCard:
    checkpoint = env.model.checkpoint
    if checkpoint is None:
        raise CheckpointError("Training requires a checkpoint file, got a model from memory.")
    data = None if prior is None else str(prior.path.resolve())
    return RunCard(env_id, checkpoint.path, checkpoint.fingerprint, seed, data)


def _check_same(run: AgentRun, env_id: str, env: LatentObservation) -> None:
    card = run.read_card()
    if (card.env_id, card.fingerprint) != (env_id, env.model_fingerprint):
        raise CheckpointError(
            f"The run in {run.folder} was of {card.env_id} with the model {card.model} "
            f"({card.fingerprint[:8]}): resume it with the same environment and model."
        )
