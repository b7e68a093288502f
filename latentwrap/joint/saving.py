"""A run of SLAC on disk: what it takes to act, and what it takes to go on learning."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentwrap import storage
from latentwrap._version import __version__
from latentwrap.agents.config import SACConfig
from latentwrap.agents.run_folder import model_path_of
from latentwrap.datasets import DatasetInfo
from latentwrap.errors import CheckpointError
from latentwrap.files import written_whole
from latentwrap.joint.config import JointConfig
from latentwrap.models import LatentModel, describe_model, rebuild_model, save_model
from latentwrap.models.base import CheckpointInfo
from latentwrap.optimizers import under
from latentwrap.seeding import numpy_state, restore_numpy_state
from latentwrap.training.recipes import stored_recipe

if TYPE_CHECKING:
    from latentwrap.joint.slac import SLAC

FORMAT = "latentwrap-slac"
STATE, AGENT, REPLAY = "state.safetensors", "agent.safetensors", "replay"


def save_policy(agent: SLAC, path: Path) -> None:
    """Write the agent, and beside it the model that it acts on; each belongs to the other."""
    usual = {name: getattr(agent.config, name) for name in SACConfig.model_fields}
    document = agent.policy.describe(SACConfig(**usual)) | {"joint": True}
    # Both get their names when both are whole: of a save that is cut off nothing is seen.
    with written_whole(path) as policy, written_whole(model_path_of(path), settle=False) as model:
        fingerprint = save_model(model, agent.model, training=_record(agent))
        document |= {"model_fingerprint": fingerprint, "num_timesteps": agent.num_timesteps}
        storage.save(policy, agent.learner.state(), document)


def _record(agent: SLAC) -> dict[str, Any]:
    """How the model was trained, as its checkpoint tells it."""
    start = {} if agent.start is None else agent.start.document["training"]
    if agent.model.checkpoint is not None:
        return dict(start)  # it is still the one that it was
    return {
        "joint": True,
        "recipe": agent.recipe.model_dump(mode="json"),
        "steps": agent.updater.steps_done,
        "env_steps": agent.num_timesteps,
        # What a report on these datasets may call unseen.
        **{name: start[name] for name in ("dataset", "heldout_episodes") if name in start},
        "also_trained_on": [*start.get("also_trained_on", []), *agent.remembered],
    }


def save_state(agent: SLAC, folder: Path) -> None:
    """Write everything that `load_state` needs; a save that is cut off leaves the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    store = agent.store_in(folder / REPLAY)
    listed = store.save(agent.replay)
    parts = {
        "updater": agent.updater.state(),
        "learner": agent.learner.state(),
        "filter": {"noise": agent.filter.generator.get_state()},
    }
    tensors = {f"{part}.{name}": t for part, held in parts.items() for name, t in held.items()}
    document = {
        "format": FORMAT,
        "latentwrap": __version__,
        "model": describe_model(agent.model),
        "recipe": agent.recipe.model_dump(mode="json"),
        "config": agent.config.model_dump(mode="json"),
        "is_new": agent.is_new,
        "start": None if agent.start is None else asdict(agent.start),
        "remembered": agent.remembered,
        "frozen": agent.frozen,
        "ready": agent.ready,
        "owed": agent.owed,
        "num_timesteps": agent.num_timesteps,
        "seed": agent.seed,
        "updates": agent.updater.steps_done,
        "draws": numpy_state(agent.replay.generator),
        "replay": listed,
    }
    storage.save(folder / STATE, tensors, document)
    store.tidy(listed)


class SavedState:
    """What `save_state` wrote.

    Args:
        folder: of the run.

    Raises:
        CheckpointError: it is missing, foreign or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / STATE).is_file():
            raise CheckpointError(
                f"There is nothing to resume in {folder}: begin a run, with --force to replace it."
            )
        self._stored = storage.load(folder / STATE, file_format=FORMAT, what="state")
        document = self._stored.document
        try:
            self.config = JointConfig.parse(document["config"])
            self.recipe = stored_recipe(document["recipe"])
            self.frozen = bool(document["frozen"])
            # What is drawn from now on must not be what was drawn at the start.
            self.seed = int(document["seed"]) + int(document["num_timesteps"])
            self.model: LatentModel = rebuild_model(document["model"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"The state in {folder} is not of this version of latentwrap: {error}."
            ) from None

    def restore(self, agent: SLAC) -> None:
        """Put an agent that was made with the same model and options into the saved state."""
        document, tensors = self._stored.document, self._stored.tensors
        agent.updater.restore(under("updater.", tensors), int(document["updates"]))
        agent.learner.restore(under("learner.", tensors))
        agent.filter.generator.set_state(tensors["filter.noise"])
        agent.num_timesteps, agent.seed = int(document["num_timesteps"]), int(document["seed"])
        agent.is_new, agent.ready = bool(document["is_new"]), bool(document["ready"])
        agent.owed = float(document["owed"])
        agent.remembered = [str(each) for each in document["remembered"]]
        agent.start = None if document["start"] is None else CheckpointInfo(**document["start"])
        if agent.frozen and not agent.updater.steps_done:
            agent.model.checkpoint = agent.start
        restore_numpy_state(agent.replay.generator, document["draws"])
        agent.store_in(self._folder / REPLAY).load(agent.replay, document["replay"])
        agent.filter.refresh_all()


def replay_info(agent: SLAC) -> DatasetInfo:
    """What the episodes of an agent are of."""
    spec = agent.frames.env.spec
    return DatasetInfo(
        env_id="unnamed" if spec is None else spec.id,
        action=agent.model.action_spec,
        frame=agent.frames.frame,
        frame_skip=agent.frames.frame_skip,
        provenance={"policy": "slac"},
        vectors=agent.frames.vectors,
    )
