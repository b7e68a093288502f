"""Training model and agent together, in a folder that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentwrap.agents.run_folder import AgentRun, JointCard, RunCard, refuse_folder, whereabouts
from latentwrap.agents.runs import TrainResult, Watching, learn_watched
from latentwrap.datasets import Dataset
from latentwrap.datasets.workers import running
from latentwrap.devices import threads_beside
from latentwrap.envs.workers import FrameEnvMaker
from latentwrap.errors import CheckpointError
from latentwrap.files import remove
from latentwrap.identity import refuse_changes
from latentwrap.joint.config import JointConfig
from latentwrap.joint.models import check_window, find_recipe
from latentwrap.joint.slac import SLAC
from latentwrap.models import LatentModel, load_model
from latentwrap.training.memory import MemoryEstimate
from latentwrap.wrappers.frame_envs import frame_maker
from latentwrap.wrappers.workers import Environment

_FREE = (
    "model",  # which one it is says its fingerprint
    "data",
    "joint.model_options.window",
    "joint.rounds.most",
    "joint.rounds.patience",
)
"""What a resumed run may have otherwise."""

_MADE = (
    "frame_skip", "height", "width", "grey", "image_keys", "vector_keys", "layout", "rendering",
    "cameras",
)  # fmt: skip
"""What `making` may name."""


@dataclass(frozen=True)
class JointOptions:
    """What model and agent start from, and how they learn.

    Attributes:
        model: checkpoint to start from; `None` begins with a new model.
        frozen: the model does not learn.
        data: a dataset with rewards whose episodes the replay starts with.
        preset, kind, model_options: of a new model, as of `latentwrap.training.pretrain`.
        agent_options: fields of `JointConfig` that differ from their defaults.
        making: arguments of `FrameEnvMaker` that differ from its defaults, where there is no
            checkpoint that says what its frames look like.
        num_envs: environments that are stepped together, each in a process of its own.
        overlap: step a single one in a process of its own too, while model and agent learn.
        seed: of environment, networks, noise and replay.
        device: `auto`, `cpu` or `cuda`.
    """

    model: str | Path | None = None
    frozen: bool = False
    data: str | Path | None = None
    preset: str = "fast"
    kind: str | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    agent_options: Mapping[str, Any] = field(default_factory=dict)
    making: Mapping[str, Any] = field(default_factory=dict)
    num_envs: int = 1
    overlap: bool = False
    seed: int = 0
    device: str = "auto"

    @property
    def workers(self) -> int:
        """Processes in which environments step, to each of which torch leaves a core.

        Where the model learns too its updates take so much longer than the steps that they need
        every core more, unless it is asked for.
        """
        return self.num_envs if self.overlap or (self.frozen and self.num_envs > 1) else 0

    def files(self, data: Dataset | None) -> list[str | Path]:
        """What is read, the files of the data included."""
        found: list[str | Path] = [] if self.model is None else [self.model]
        return found if data is None else [*found, *data.paths]


def train_joint(
    env_id: str,
    folder: str | Path,
    *,
    steps: int,
    options: JointOptions | None = None,
    watching: Watching | None = None,
    resume: bool = False,
    force: bool = False,
    show_progress: bool = False,
    on_start: Callable[[MemoryEstimate], None] | None = None,
) -> TrainResult:
    """Train SLAC: a latent model and an agent on its latents, together.

    Args:
        env_id: id of the environment, or `module:id`.
        folder: of the run; made.
        steps: environment steps (after frame skip) in total, over all environments.
        options: what they start from, and how they learn.
        watching: how the run is evaluated.
        resume: go on with the run in the folder, with the same arguments but for `steps`.
        force: replace the run in the folder.
        show_progress: draw a progress bar on standard error.
        on_start: told before the first step how much memory the run will need.

    Raises:
        LatentwrapError: bad arguments or files; one sentence each.

    Example:
        >>> train_joint("latentwrap/PixelPendulum-v0", "runs/joint", steps=15_000)  # doctest: +SKIP
    """
    options, watching = options or JointOptions(), watching or Watching()
    run = AgentRun(folder)
    data = None if options.data is None else Dataset(options.data)
    if not resume:
        refuse_folder(run, options.files(data), force=force)
    model = None if options.model is None else load_model(options.model)
    make = frame_maker(env_id, model, options.making)
    card = describe_run(env_id, make, model, data, options)
    with (
        running(make, options.num_envs, env_id, apart=options.overlap) as envs,
        closing(make()) as other,
        threads_beside(options.workers),
    ):
        agent = open_run(run, card, envs, model, data, options, resume=resume)
        if on_start is not None:
            on_start(agent.memory())
        return learn_watched(
            agent,
            agent.watch(other),
            run.folder,
            run.folder,
            steps=steps,
            watching=watching,
            seed=options.seed,
            show_progress=show_progress,
        )


def describe_run(
    env_id: str,
    make: FrameEnvMaker,
    model: LatentModel | None,
    data: Dataset | None,
    options: JointOptions,
    rounds: Mapping[str, Any] | None = None,
) -> RunCard:
    """What `run.json` says of the run."""
    start = None if model is None or model.checkpoint is None else model.checkpoint
    config = JointConfig.parse(options.agent_options).settled(new_model=model is None)
    said = {name: getattr(make, name) for name in _MADE}
    making = {name: value for name, value in said.items() if value not in (None, ())}
    return RunCard(
        env_id=env_id,
        model="" if start is None else start.path,
        model_fingerprint="" if start is None else start.fingerprint,
        seed=options.seed,
        config=config.model_dump(mode="json"),
        data=whereabouts(options.data),
        data_fingerprint=None if data is None else data.fingerprint(),
        joint=JointCard(
            preset=options.preset,
            kind=options.kind,
            model_options=dict(options.model_options),
            making=making if model is None else {},
            frozen=options.frozen,
            num_envs=options.num_envs,
            history=config.history if config.actor_input == "history" else None,
            rounds=None if rounds is None else dict(rounds),
        ),
    )


def open_run(
    run: AgentRun,
    card: RunCard,
    envs: Environment,
    model: LatentModel | None,
    data: Dataset | None,
    options: JointOptions,
    *,
    resume: bool,
) -> SLAC:
    """The agent of a run, begun or resumed.

    Raises:
        CheckpointError: nothing to resume, or a run of other arguments.
    """
    agent = _resumed(run, card, envs, model, options) if resume else _begun(envs, model, options)
    if card.joint is not None and card.joint.rounds is not None:  # frozen, but between rounds
        check_window(agent.frames, agent.replay, agent.recipe.training.window)
    if resume:
        run.write_card(card)
        return agent
    if data is not None:
        agent.remember(data)
    remove(run.folder)
    run.write_card(card)
    agent.save(run.folder)  # so that a run that is killed at once can be resumed too
    return agent


def _begun(envs: Environment, model: LatentModel | None, options: JointOptions) -> SLAC:
    return SLAC(
        envs,
        model,
        frozen=options.frozen,
        preset=options.preset,
        kind=options.kind,
        model_options=options.model_options,
        seed=options.seed,
        device=options.device,
        config=JointConfig.parse(options.agent_options),
    )


def _resumed(
    run: AgentRun,
    card: RunCard,
    envs: Environment,
    model: LatentModel | None,
    options: JointOptions,
) -> SLAC:
    before = run.read_card()
    if before.joint is None:
        raise CheckpointError(
            f"The agent in {run.folder} learned on a frozen model: go on with latentwrap train, "
            "without --joint."
        )
    refuse_changes(run.folder, before.as_json(), card.as_json(), free=_FREE)
    # What this command line says, also where it names no window.
    recipe = find_recipe(model, options.preset, options.kind, options.model_options)
    window = recipe.training.window
    return SLAC.load(run.folder, envs, window=window, device=options.device)
