"""Latents as a Minari dataset, written through Minari's own storage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from latentwrap.encoding.episodes import LatentEpisode
from latentwrap.encoding.forms import Finished, Form, foreign_output
from latentwrap.encoding.info import LatentInfo
from latentwrap.envs import LATENT
from latentwrap.errors import DatasetError, OutputExists
from latentwrap.extras import require

SCHEME = "minari:"


class MinariForm(Form):
    """A Minari dataset: a folder of any name, or `minari:NAME` among Minari's own.

    Its environment is the latent one, so that `recover_environment()` observes what the dataset
    holds, as long as the checkpoint lies where it lay.
    """

    name = "minari"

    def __init__(self) -> None:
        self._id = self._namespace = ""

    def destination(self, output: str) -> Path:
        """The folder of the dataset.

        Raises:
            DatasetError: a name that Minari does not take.
            MissingExtra: Minari is not installed.
        """
        for module in ("minari", "PIL"):  # the latter is what Minari's HDF5 storage imports
            _minari(module)
        if not output.startswith(SCHEME):
            self._id = _id_of(Path(output))
            return Path(output)
        self._id = output.removeprefix(SCHEME)
        self._namespace = _namespace_of(self._id)
        root = _minari("minari.storage.datasets_root_dir")
        return Path(root.get_dataset_path(self._id))

    def check_output(self, path: Path, *, force: bool) -> None:
        """Refuse what is there already, and with `force` what is no Minari dataset."""
        if not path.exists():
            return
        if not force:
            raise OutputExists(f"{path} exists already: choose another name or pass --force.")
        if not (path / "data" / "metadata.json").is_file():
            raise OutputExists(f"{path} is no Minari dataset and stays: choose another name.")

    def write(self, path: Path, info: LatentInfo, episodes: Iterable[LatentEpisode]) -> None:
        """Write a folder with `data/main_data.hdf5` and `data/metadata.json`."""
        buffer = _minari("minari.data_collector").EpisodeBuffer
        (path / "data").mkdir(parents=True)
        storage = _minari("minari.dataset.minari_storage").MinariStorage.new(
            (path / "data").resolve(),  # Minari joins a relative one to itself
            observation_space=info.space,
            action_space=info.data.action.space,
            env_spec=latent_spec(info),
        )
        storage.update_episodes(buffer(**_buffer(episode, info)) for episode in episodes)
        finished = Finished(info.to_json(), storage.total_episodes, storage.total_steps)
        storage.update_metadata(
            {
                "dataset_id": self._id,
                "minari_version": _minari("minari").__version__,
                "description": f"Latents of {info.data.env_id}, written by latentwrap encode.",
                "latentwrap": finished.to_json(),
            }
        )
        self._name_namespace()

    def read(self, path: Path) -> Finished:
        """Read what Minari calls the metadata."""
        try:
            document = json.loads((path / "data" / "metadata.json").read_text(encoding="utf-8"))
            return Finished.from_json(document["latentwrap"])
        except (KeyError, OSError, TypeError, ValueError):
            raise foreign_output(path) from None

    def _name_namespace(self) -> None:
        """Tell Minari of the folder that the name lies in."""
        folder = self._namespace
        namespaces = _minari("minari.namespace")
        if folder and folder not in namespaces.list_local_namespaces():
            namespaces.create_namespace(folder)


def latent_spec(info: LatentInfo) -> EnvSpec | None:
    """The environment that observes these latents; `None` where nobody could make it again."""
    if info.data.env_spec is None or not info.checkpoint:
        return None
    try:
        inside = EnvSpec.from_json(info.data.env_spec)
    except (KeyError, TypeError, ValueError):  # whatever the dataset's author put there
        return None
    if inside.additional_wrappers:
        return None
    env_kwargs = {name: value for name, value in inside.kwargs.items() if name != "render_mode"}
    if inside.max_episode_steps is not None:
        env_kwargs["max_episode_steps"] = inside.max_episode_steps
    kwargs = {
        "env_id": info.data.env_id,
        "ckpt": info.checkpoint,
        "normalize": info.normalized,
        "vector_keys": list(info.appended),
        "env_kwargs": env_kwargs,
    }
    return replace(gym.spec(LATENT), kwargs=kwargs)


def _buffer(episode: LatentEpisode, info: LatentInfo) -> dict[str, Any]:
    """One episode as Minari takes it; actions in the shape of their space."""
    steps = len(episode.actions)
    flags = {"terminations": episode.terminated, "truncations": episode.truncated}
    return {
        "observations": episode.latents,
        "actions": episode.actions.reshape(steps, *(info.data.action.space.shape or ())),
        "rewards": episode.rewards,
        "infos": {f"state_{name}": values for name, values in episode.states.items()} or None,
        **{name: [False] * (steps - 1) + [flag] for name, flag in flags.items()},
    }


def _id_of(path: Path) -> str:
    """A name that Minari takes, after that of the folder."""
    name = re.sub(r"[^-\w]", "-", path.name)
    return name if re.search(r"-v\d+$", name) else f"{name}-v0"


def _namespace_of(name: str) -> str:
    """The part of a dataset's name before the last slash, if there is one."""
    try:
        namespace, _, _ = _minari("minari.dataset.minari_dataset").parse_dataset_id(name)
    except (TypeError, ValueError):  # the former without a version
        raise DatasetError(
            "Minari requires a name such as pendulum/latent-v0, which ends in a version, "
            f"got {name!r}."
        ) from None
    return namespace or ""


def _minari(module: str) -> Any:
    return require(module, extra="import", purpose="A Minari dataset")
