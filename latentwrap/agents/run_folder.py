"""The folder of an agent: what it was trained on, and the files that it left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from latentwrap.agents.config import SACConfig
from latentwrap.agents.policy import Policy
from latentwrap.agents.sac import SAC
from latentwrap.envs.making import make_env
from latentwrap.errors import CheckpointError, OutputExists
from latentwrap.files import refuse_existing, written_whole
from latentwrap.models import LatentModel, load_model
from latentwrap.wrappers import LatentObservation
from latentwrap.wrappers.history import HistoryObservation
from latentwrap.wrappers.workers import Environment

_FORMAT = "latentwrap-run"


@dataclass(frozen=True)
class JointCard:
    """How an agent and its model learned together.

    Attributes:
        preset, kind, model_options: of the model.
        making: how the environment was made, where that was no checkpoint's to say.
        frozen: the model did not learn, or with rounds only between them.
        num_envs: environments that were stepped together.
        history: frames that the actor sees features of; `None` if it sees the latent.
        rounds: of `latentwrap improve`, how they go; `None` for one run without rounds.
    """

    preset: str
    kind: str | None
    model_options: dict[str, Any]
    making: dict[str, Any]
    frozen: bool
    num_envs: int
    history: int | None
    rounds: dict[str, Any] | None = None


@dataclass(frozen=True)
class RunCard:
    """What an agent was trained on, kept as `run.json`.

    Attributes:
        env_id: id of the environment, or `module:id`.
        model: absolute path of the latent model's checkpoint, or of the one that it started from;
            empty where model and agent began with nothing.
        model_fingerprint: identifies that model; another one is refused.
        seed: of the run.
        config: hyperparameters of the agent.
        data: the dataset that its replay started with, if one was given, an absolute path or
            pattern.
        data_fingerprint: identifies that dataset.
        joint: how agent and model learned together; `None` where the model was frozen.
    """

    env_id: str
    model: str
    model_fingerprint: str
    seed: int
    config: dict[str, Any]
    data: str | None = None
    data_fingerprint: str | None = None
    joint: JointCard | None = None

    def as_json(self) -> dict[str, Any]:
        """As `run.json` holds it."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document


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
        document = {"format": _FORMAT, **card.as_json()}
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
            joint = document.pop("joint", None)
            return RunCard(**document, joint=None if joint is None else JointCard(**joint))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(
                f"{self.folder} is no folder that latentwrap train wrote, for it has no readable "
                "run.json: name one that is, or leave --resume out."
            ) from None

    def make_env(
        self, *, model: str | Path | None = None, best: bool = False, device: str = "cpu"
    ) -> LatentObservation | HistoryObservation:
        """The environment that the agent was trained in.

        Args:
            model: where its latent model lies now, if it has moved.
            best: for the agent with the highest return in an evaluation, not the last.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            CheckpointError: its model is gone, or is another one now.
        """
        card = self.read_card()
        path = self._find_model(card, model, best=best)
        if card.joint is not None and card.joint.history is not None:
            length = card.joint.history
            return HistoryObservation(make_env(card.env_id), path, length=length, device=device)
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
        found = self._find_model(card, path, best=False)
        model = load_model(found, device=device)
        self._check_model(card, found, model.fingerprint)
        return model

    def _find_model(self, card: RunCard, moved: str | Path | None, *, best: bool) -> Path:
        usual = Path(card.model)
        if card.joint is not None:
            usual = model_path_of(self.best_path if best else self.agent_path)
        path = Path(moved or usual)
        if best and not self.best_path.is_file():
            raise CheckpointError(
                f"{self.folder} holds no best agent, for there was no evaluation yet: take the "
                "last one."
            )
        if not path.is_file():
            raise CheckpointError(
                f"The model {path} of the agent in {self.folder} is gone: name the file by model "
                "(--model) if it has moved."
            )
        return path

    def _check_model(self, card: RunCard, path: Path, fingerprint: str | None) -> None:
        # An agent that learned with its model names that itself.
        if card.joint is None and fingerprint != card.model_fingerprint:
            raise CheckpointError(
                f"The agent in {self.folder} was trained on another model than {path} "
                "holds: put the old checkpoint back, or train again."
            )

    def load_policy(
        self, env: gym.Env[Any, Any], *, best: bool = False, device: str = "cpu"
    ) -> Policy:
        """What the agent does in `env`; arguments as of `load_agent`."""
        return Policy.load(self.best_path if best else self.agent_path, env, device=device)

    def load_agent(self, env: Environment, *, best: bool = False, device: str = "cpu") -> SAC:
        """The agent, ready to act in `env` or to learn on.

        Args:
            env: what it acts in.
            best: the one with the highest return in an evaluation, instead of the last.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            CheckpointError: it learned together with its model.
        """
        return SAC.load(self.best_path if best else self.agent_path, env, device=device)


def whereabouts(source: str | Path | None) -> str | None:
    """The absolute path of a file, or the pattern of several."""
    return None if source is None else str(Path(source).resolve())


def refuse_folder(run: AgentRun, sources: Sequence[str | Path], *, force: bool) -> None:
    """Only a folder that holds a run, and nothing that is needed now, may be replaced."""
    refuse_existing(run.folder, force=force)
    if not run.folder.exists():
        return
    inside = [p for p in map(Path, sources) if run.folder.resolve() in p.resolve().parents]
    if inside or not run.is_run:
        reason = f"it holds {inside[0]}" if inside else "latentwrap train did not write it"
        raise OutputExists(f"{run.folder} is not replaced ({reason}): choose another folder.")
