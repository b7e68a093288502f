"""Training an agent on the latents of an environment, in a folder that can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from latentwrap.agents.callbacks import Callback, EvaluateEvery, LogMetrics, SaveEvery
from latentwrap.agents.config import SACConfig
from latentwrap.agents.evaluate import EvaluationResult, RandomAgent, evaluate_policy
from latentwrap.agents.experience import remember_dataset
from latentwrap.agents.policy import Policy
from latentwrap.agents.sac import SAC
from latentwrap.datasets import Dataset
from latentwrap.envs.making import make_env
from latentwrap.errors import CheckpointError, OutputExists
from latentwrap.files import refuse_existing, remove, written_whole
from latentwrap.identity import refuse_changes
from latentwrap.models import LatentModel, load_model
from latentwrap.seeding import child_seeds
from latentwrap.wrappers import LatentObservation

FINAL_SEED = 10_000
"""The last evaluation of a run of seed s starts its episodes from s + 10,000 on: `latentwrap play
RUN --episodes 20 --seed 10000` repeats that of seed 0, and a baseline can have the same ones."""

WATCHED_SEED = 20_000
"""Likewise for the evaluations during the run."""

_FORMAT = "latentwrap-run"


@dataclass(frozen=True)
class RunCard:
    """What an agent was trained on, kept as `run.json`.

    Attributes:
        env_id: id of the environment, or `module:id`.
        model: absolute path of the latent model's checkpoint.
        model_fingerprint: identifies that model; another one is refused.
        seed: of the run.
        config: hyperparameters of the agent.
        data: the dataset that its replay started with, if one was given.
        data_fingerprint: identifies that dataset.
    """

    env_id: str
    model: str
    model_fingerprint: str
    seed: int
    config: dict[str, Any]
    data: str | None
    data_fingerprint: str | None


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


def model_path_of(agent_path: Path) -> Path:
    """Where the model of an agent that learned together with it lies."""
    return agent_path.with_name(f"{agent_path.stem}-model.safetensors")


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
        self.best_path = self.folder / "best.safetensors"
        self.evaluations_path = self.folder / "evaluations" / "metrics.csv"
        self._card_path = self.folder / "run.json"

    def write_card(self, card: RunCard) -> None:
        """Write `run.json`."""
        document = {"format": _FORMAT, **asdict(card)}
        with written_whole(self._card_path) as temporary:
            temporary.write_text(json.dumps(document, indent=2), encoding="utf-8")

    @property
    def is_run(self) -> bool:
        """Whether `latentwrap train` wrote the folder."""
        try:
            self.read_card()
        except CheckpointError:
            return False
        return True

    def read_card(self) -> RunCard:
        """Read `run.json`.

        Raises:
            CheckpointError: there is no run in the folder.
        """
        try:
            document = json.loads(self._card_path.read_text(encoding="utf-8"))
            if document.pop("format") != _FORMAT:
                raise ValueError
            # An option that came later had its default.
            document["config"] = {**SACConfig().model_dump(mode="json"), **document["config"]}
            return RunCard(**document)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(
                f"{self.folder} is no folder that latentwrap train wrote: "
                "it has no readable run.json."
            ) from None

    def make_env(
        self, *, model: str | Path | None = None, device: str = "cpu"
    ) -> LatentObservation:
        """The environment that the agent was trained in.

        Args:
            model: where its latent model lies now, if it has moved.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            CheckpointError: its model is gone, or is another one now.
        """
        card = self.read_card()
        path = self._find_model(card, model)
        env = LatentObservation(make_env(card.env_id), path, device=device)
        self._check_model(card, path, env.model_fingerprint)
        return env

    def load_model(self, path: str | Path | None = None, *, device: str = "cpu") -> LatentModel:
        """The latent model that the agent was trained with.

        Args:
            path: where it lies now, if it has moved.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            CheckpointError: it is gone, or is another one now.
        """
        card = self.read_card()
        found = self._find_model(card, path)
        model = load_model(found, device=device)
        self._check_model(card, found, model.fingerprint)
        return model

    def _find_model(self, card: RunCard, moved: str | Path | None) -> Path:
        path = Path(moved or card.model)
        if not path.is_file():
            raise CheckpointError(
                f"The model {path} of the agent in {self.folder} is gone: name the file by model "
                "(--model) if it has moved."
            )
        return path

    def _check_model(self, card: RunCard, path: Path, fingerprint: str | None) -> None:
        if fingerprint != card.model_fingerprint:
            raise CheckpointError(
                f"The agent in {self.folder} was trained on another model than {path} "
                "holds: put the old checkpoint back, or train again."
            )

    def load_policy(
        self, env: gym.Env[Any, Any], *, best: bool = False, device: str = "cpu"
    ) -> Policy:
        """What the agent does in `env`; arguments as of `load_agent`."""
        return Policy.load(self.best_path if best else self.agent_path, env, device=device)

    def load_agent(self, env: LatentObservation, *, best: bool = False, device: str = "cpu") -> SAC:
        """The agent, ready to act in `env` or to learn on.

        Args:
            env: what it acts in.
            best: the one with the highest return in an evaluation, instead of the last.
            device: `auto`, `cpu` or `cuda`.
        """
        return SAC.load(self.best_path if best else self.agent_path, env, device=device)


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
        resume: go on with the agent in the folder, with the same arguments but for `steps`.
        force: replace the run in the folder.
        show_progress: draw a progress bar on standard error.

    Raises:
        LatentwrapError: bad arguments or files; one sentence each.
    """
    run = AgentRun(folder)
    if not resume:
        _refuse_folder(run, [model] if data is None else [model, data], force=force)
    config = SACConfig.parse(options or {})
    prior = None if data is None else Dataset(data)
    with (
        closing(_latent_env(env_id, model, device)) as env,
        closing(_latent_env(env_id, model, device)) as watched,
    ):
        card = _card(env_id, env, seed, config, prior)
        if resume:
            agent = _resumed(run, card, env, device)
        else:
            agent = _begun(env, card, config, prior, device=device, show=show_progress)
            remove(run.folder)
            run.write_card(card)
        log = LogMetrics(run.folder)
        evaluations = EvaluateEvery(
            watched,
            evaluate_every,
            evaluation_episodes,
            seed=seed + WATCHED_SEED,
            folder=run.folder,
        )
        callbacks: list[Callback] = [log, evaluations, SaveEvery(run.agent_path, evaluate_every)]
        begun_at = agent.num_timesteps
        agent.learn(max(0, steps - begun_at), callback=callbacks, progress_bar=show_progress)
        agent.save(run.agent_path)
        evaluation = None
        if not agent.interrupted:
            evaluation = evaluate_policy(
                agent, watched, final_episodes, seed=seed + FINAL_SEED, show_progress=show_progress
            )
    return TrainResult(
        run.folder, agent.num_timesteps, begun_at, evaluation, agent.interrupted, log.note
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


def _refuse_folder(run: AgentRun, sources: list[str | Path], *, force: bool) -> None:
    """Only a folder that holds a run, and nothing that is needed now, may be replaced."""
    refuse_existing(run.folder, force=force)
    if not run.folder.exists():
        return
    inside = [p for p in map(Path, sources) if run.folder.resolve() in p.resolve().parents]
    if inside or not run.is_run:
        reason = f"it holds {inside[0]}" if inside else "latentwrap train did not write it"
        raise OutputExists(f"{run.folder} is not replaced ({reason}): choose another folder.")


def _begun(
    env: LatentObservation,
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
        remember_dataset(agent, env, prior, show_progress=show)
    return agent


def _resumed(run: AgentRun, card: RunCard, env: LatentObservation, device: str) -> SAC:
    # A model may have moved; which one it is says its fingerprint.
    before, now = (asdict(each) for each in (run.read_card(), card))
    refuse_changes(run.folder, before, now, free=["model", "data"])
    agent = run.load_agent(env, device=device)
    # Its episodes must not begin as those of the first part did.
    env.reset(seed=child_seeds(card.seed + agent.num_timesteps, 2)[1])
    return agent


def _latent_env(env_id: str, model: str | Path, device: str) -> LatentObservation:
    return LatentObservation(make_env(env_id), model, device=device)


def _card(
    env_id: str, env: LatentObservation, seed: int, config: SACConfig, prior: Dataset | None
) -> RunCard:
    checkpoint = env.model.checkpoint
    if checkpoint is None:
        raise CheckpointError("Training requires a checkpoint file, got a model from memory.")
    return RunCard(
        env_id,
        checkpoint.path,
        checkpoint.fingerprint,
        seed,
        config.model_dump(mode="json"),
        None if prior is None else str(prior.path.resolve()),
        None if prior is None else prior.fingerprint(),
    )
