"""Rounds of collecting with the agent and letting the model learn from what it then sees."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from latentwrap.agents.callbacks import LogMetrics, SaveEvery
from latentwrap.agents.evaluate import EvaluationResult, evaluate_policy
from latentwrap.agents.run_folder import AgentRun, refuse_folder
from latentwrap.agents.runs import FINAL_SEED, WATCHED_SEED
from latentwrap.datasets import Dataset
from latentwrap.datasets.workers import running
from latentwrap.devices import threads_beside
from latentwrap.errors import CheckpointError, ConfigError
from latentwrap.files import written_whole
from latentwrap.joint.models import memory_of
from latentwrap.joint.runs import JointOptions, describe_run, open_run
from latentwrap.joint.slac import SLAC
from latentwrap.models import load_model
from latentwrap.training.memory import MemoryEstimate
from latentwrap.wrappers.frame_envs import frame_maker

_SAVE_EVERY = 1000  # environment steps
_ROUNDS = "rounds.json"

Ended: TypeAlias = Literal["rounds", "patience"]
"""Whether all rounds were done, or the latest ones gained no more than chance would."""


@dataclass(frozen=True)
class Rounds:
    """How the rounds go.

    Attributes:
        most: rounds at most.
        steps: environment steps of the agent in each, on a frozen model.
        model_updates: of the model after each but the last, on all that was seen so far.
        settling: updates of the agent on the new latents before it acts on them.
        patience: rounds without a gain before it stops.
        episodes: in each evaluation.
    """

    most: int = 4
    steps: int = 5000
    model_updates: int = 1500
    settling: int = 1000
    patience: int = 2
    episodes: int = 10

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            ConfigError: one is too small.
        """
        for name, number in asdict(self).items():
            least = 0 if name == "settling" else 1
            if number < least:
                raise ConfigError(f"improve requires {name} of at least {least}, got {number}.")


@dataclass(frozen=True)
class Round:
    """What came of a round; returns are means over episodes with the agent's mean actions.

    Attributes:
        number: from 0, whose model is the one that was given.
        env_steps, model_updates: so far.
        learned: return at its end, and
        error: the standard error of that.
        changed: on the model that learned meanwhile, of the agent as it was; `None` if none did.
        settled: once the agent has learned from its new latents; likewise.
    """

    number: int
    env_steps: int
    model_updates: int
    learned: float
    error: float
    changed: float | None = None
    settled: float | None = None


@dataclass(frozen=True)
class ImproveResult:
    """What improving left behind.

    Attributes:
        folder: of the run; `best.safetensors` is the agent of the best round.
        rounds: what came of each.
        evaluation: of the last agent on fresh episodes; `None` after Ctrl-C.
        interrupted: Ctrl-C ended it.
        ended: why there was no other round; `None` after Ctrl-C.
        note: what else the user should know, such as a missing TensorBoard.
    """

    folder: Path
    rounds: list[Round] = field(default_factory=list)
    evaluation: EvaluationResult | None = None
    interrupted: bool = False
    ended: Ended | None = None
    note: str | None = None

    @property
    def best(self) -> Round:
        """The round with the highest return at its end."""
        return max(self.rounds, key=lambda each: each.learned)


def improve(
    env_id: str,
    folder: str | Path,
    options: JointOptions,
    *,
    rounds: Rounds | None = None,
    resume: bool = False,
    force: bool = False,
    show_progress: bool = False,
    on_start: Callable[[MemoryEstimate], None] | None = None,
    on_round: Callable[[Round], None] | None = None,
) -> ImproveResult:
    """Let agent and model teach each other, for tasks where random data shows too little.

    In each round the agent learns on the latents of a model that stays as it is. Then the model
    goes on learning from all frames, those that only the agent has come to see included; the replay
    is filtered anew, the first layers of the agent take over the new scale of the latents, and the
    agent learns from the new latents before it acts on them. It ends when rounds bring no more.

    Args:
        env_id: id of the environment, or `module:id`.
        folder: of the run; made.
        options: with the model to begin with, and the data that it was pretrained on; within a
            round the model is `frozen`, whatever they say.
        rounds: how they go.
        resume: go on with the run in the folder, with the same arguments.
        force: replace the run in the folder.
        show_progress: draw progress bars on standard error.
        on_start: told before the first step how much memory the run will need.
        on_round: told what came of each round.

    Raises:
        LatentwrapError: bad arguments or files; one sentence each.

    Example:
        >>> options = JointOptions(model="car.safetensors", data="car.h5")
        >>> improve("CarRacing-v3", "runs/car", options).best.learned  # doctest: +SKIP
    """
    if options.model is None:
        raise ConfigError("improve requires a latent model to begin with: name it with --model.")
    rounds, run = rounds or Rounds(), AgentRun(folder)
    data = None if options.data is None else Dataset(options.data)
    if not resume:
        refuse_folder(run, options.files(data), force=force)
    if options.agent_options.get("actor_input") == "history":
        raise ConfigError(
            "improve requires actor_input=latent: a history of features means something else to "
            "every new model, and nothing would carry over."
        )
    model = load_model(options.model)
    options = replace(options, frozen=True)
    make = frame_maker(env_id, model)
    card = describe_run(env_id, make, model, data, options, asdict(rounds))
    with (
        running(make, options.num_envs, env_id, apart=options.overlap) as envs,
        closing(make()) as other,
    ):
        agent = open_run(run, card, envs, model, data, options, resume=resume)
        if on_start is not None:
            training = agent.recipe.training
            on_start(memory_of(agent.model, training, agent.replay, learns=True))
        improver = _Improver(
            agent,
            agent.watch(other),
            run,
            rounds,
            workers=options.workers,
            seed=options.seed,
            show=show_progress,
        )
        if resume:
            improver.done = read_rounds(run.folder)
            if agent.updater.steps_done and not improver.done:
                raise CheckpointError(
                    f"{run.folder / _ROUNDS} is gone, without which the rounds cannot go on: put "
                    "it back, or begin anew with --force."
                )
        improver.run(on_round or (lambda _: None))
        evaluation = None
        if not agent.interrupted:
            evaluation = improver.evaluate(options.seed + FINAL_SEED)
    return ImproveResult(
        run.folder,
        improver.done,
        evaluation,
        agent.interrupted,
        None if agent.interrupted else why_over(improver.done, rounds),
        improver.note,
    )


def why_over(done: Sequence[Round], rounds: Rounds) -> Ended | None:
    """What ends the rounds; `None` where another one is to come.

    >>> flat = [Round(n, 0, 0, learned=-100.0 + n, error=2.0) for n in range(3)]
    >>> why_over(flat, Rounds(patience=1)), why_over(flat, Rounds(patience=3))
    ('patience', None)
    """
    if len(done) >= rounds.most:
        return "rounds"
    if len(done) <= rounds.patience:
        return None
    before = max(done[: -rounds.patience], key=lambda each: each.learned)
    latest = max(done[-rounds.patience :], key=lambda each: each.learned)
    gained = latest.learned - before.learned > math.hypot(latest.error, before.error)
    return None if gained else "patience"


def one_more(done: Sequence[Round], rounds: Rounds) -> Rounds:
    """The same rounds, but that another one is to come after those that are done."""
    more = replace(rounds, most=max(rounds.most, len(done) + 1))
    while why_over(done, more):
        more = replace(more, patience=more.patience + 1)
    return more


def read_rounds(folder: Path) -> list[Round]:
    """What came of the rounds of a run so far.

    Raises:
        CheckpointError: not what improve wrote.
    """
    path = folder / _ROUNDS
    try:
        return [Round(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError):
        raise CheckpointError(
            f"{path} is not what improve wrote: begin the run anew with --force."
        ) from None


class _Improver:
    """The rounds of one run; what is done is written down, and not done again."""

    def __init__(
        self,
        agent: SLAC,
        env: Any,
        run: AgentRun,
        rounds: Rounds,
        *,
        workers: int,
        seed: int,
        show: bool,
    ) -> None:
        self._agent, self._env, self._run = agent, env, run
        self._rounds, self._workers, self._seed, self._show = rounds, workers, seed, show
        self.done: list[Round] = []
        self.note: str | None = None

    def run(self, on_round: Callable[[Round], None]) -> None:
        """Go through the rounds until nothing is gained, or they are over."""
        agent = self._agent
        while not agent.interrupted and not why_over(self.done, self._rounds):
            if agent.updater.steps_done < len(self.done) * self._rounds.model_updates:
                self._change_model()
            elif self.done and self.done[-1].settled is None:
                self._settle()
            else:
                self._learn(on_round)

    def evaluate(self, seed: int | None = None) -> EvaluationResult:
        """The agent as it is."""
        seed = self._seed + WATCHED_SEED if seed is None else seed
        episodes, policy = self._rounds.episodes, self._agent.policy
        return evaluate_policy(policy, self._env, episodes, seed=seed, show_progress=self._show)

    def _learn(self, on_round: Callable[[Round], None]) -> None:
        """A round of the agent on the model as it is."""
        agent, goal = self._agent, (len(self.done) + 1) * self._rounds.steps
        log = LogMetrics(self._run.folder)
        callbacks = [log, SaveEvery(self._run.folder, _SAVE_EVERY)]
        with threads_beside(self._workers):  # nothing steps while the model learns
            agent.learn(goal - agent.num_timesteps, callback=callbacks, progress_bar=self._show)
        self.note = log.note
        agent.save(self._run.folder)
        if not agent.interrupted:
            self._write()
            on_round(self.done[-1])

    def _write(self) -> None:
        result = self.evaluate()
        if result.mean > max((each.learned for each in self.done), default=-math.inf):
            self._agent.save_policy(self._run.best_path)
        self.done.append(Round(
            number=len(self.done),
            env_steps=self._agent.num_timesteps,
            model_updates=self._agent.updater.steps_done,
            learned=result.mean,
            error=result.std / math.sqrt(len(result.returns)),
        ))  # fmt: skip
        self._keep()

    def _change_model(self) -> None:
        """Let the model learn from all that was seen."""
        agent = self._agent
        agent.train_model(len(self.done) * self._rounds.model_updates, progress_bar=self._show)
        agent.save(self._run.folder)

    def _settle(self) -> None:
        """Let the agent learn from its new latents before it acts on them."""
        agent, latest = self._agent, self.done[-1]
        changed = self.evaluate().mean
        agent.settle(self._rounds.settling, progress_bar=self._show)
        if not agent.interrupted:
            self.done[-1] = replace(latest, changed=changed, settled=self.evaluate().mean)
            agent.save(self._run.folder)
            self._keep()

    def _keep(self) -> None:
        with written_whole(self._run.folder / _ROUNDS) as temporary:
            rows = [asdict(each) for each in self.done]
            temporary.write_text(json.dumps(rows, indent=2), encoding="utf-8")
