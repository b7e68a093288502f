"""The forms of others in which latents are written, as offline learners read them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from latentwrap.datasets.appending import append_rows
from latentwrap.datasets.guarding.opening import open_checked
from latentwrap.datasets.wholeness.steady import new_file
from latentwrap.encoding.episodes import LatentEpisode
from latentwrap.encoding.info import ORIGIN, LatentInfo, write_latent_info
from latentwrap.errors import DatasetError
from latentwrap.files import refuse_output
from latentwrap.types import AnyArray


@dataclass(frozen=True)
class Finished:
    """What a finished output says of itself.

    Attributes:
        origin: as `LatentInfo.to_json` gives it.
        episodes, transitions: how many it holds.
    """

    origin: dict[str, Any]
    episodes: int
    transitions: int

    def to_json(self) -> dict[str, Any]:
        """One JSON document of it all."""
        return {**self.origin, "episodes": self.episodes, "transitions": self.transitions}

    @classmethod
    def from_json(cls, document: Any) -> Finished:
        """Rebuild from `to_json`.

        Raises:
            KeyError, TypeError, ValueError: something is missing or of another type.
        """
        return cls(document, int(document["episodes"]), int(document["transitions"]))


class Form(ABC):
    """A way to write latents that other programs read.

    Attributes:
        name: what `--as` calls it.
    """

    name: ClassVar[str]

    def destination(self, output: str) -> Path:
        """Where the output is."""
        return Path(output)

    def check_output(self, path: Path, *, force: bool) -> None:
        """Refuse what cannot be written, or is there already."""
        if path.suffix not in (".h5", ".hdf5"):
            raise DatasetError(f"The output must end in .h5 or .hdf5, got {path}.")
        refuse_output(path, force=force)

    def check(self, info: LatentInfo, *, rewards: bool) -> None:  # noqa: ARG002
        """Refuse a dataset that this form cannot hold.

        Raises:
            DatasetError: it has no rewards, or actions that the form does not have.
        """
        if not rewards:
            raise DatasetError(
                f"--as {self.name} requires rewards, which the dataset has none of: encode it "
                "without --as."
            )

    @abstractmethod
    def write(self, path: Path, info: LatentInfo, episodes: Iterable[LatentEpisode]) -> None:
        """Write all episodes, one at a time in memory, to `path`, where nothing is yet."""

    @abstractmethod
    def read(self, path: Path) -> Finished:
        """What a finished output is of.

        Raises:
            DatasetError: it was not written by `encode`, or is damaged.
        """


class FlatForm(Form):
    """Columns of transitions in one HDF5 file, one episode after the other."""

    def write(self, path: Path, info: LatentInfo, episodes: Iterable[LatentEpisode]) -> None:
        """Write a file."""
        count = steps = 0
        with new_file(path) as file:
            write_latent_info(file.h5, info, file_format=self.name)
            for episode in episodes:
                for name, values in self.columns(episode).items():
                    append_rows(file.h5, name, values)
                count, steps = count + 1, steps + len(episode.actions)
                file.check()
            finished = Finished(info.to_json(), count, steps)
            file.h5.attrs[ORIGIN] = json.dumps(finished.to_json())

    def read(self, path: Path) -> Finished:
        """Read the attributes of a file."""
        try:
            with open_checked(path, rules="foreign") as file:
                return Finished.from_json(json.loads(file.attrs[ORIGIN]))
        except (KeyError, OSError, TypeError, ValueError):
            raise foreign_output(path) from None

    @abstractmethod
    def columns(self, episode: LatentEpisode) -> Mapping[str, AnyArray]:
        """The columns of one episode, T rows each."""


class D4RLForm(FlatForm):
    """`observations, actions, rewards, terminals, timeouts`, and `next_observations`.

    Every episode's last transition has exactly one flag: `timeouts` unless it terminated, also
    where the recording just stopped. Readers that know no `next_observations` leave out the last
    transition of an episode that timed out.
    """

    name = "d4rl"

    def columns(self, episode: LatentEpisode) -> Mapping[str, AnyArray]:
        """float32 (T, d), (T, A), (T,), bool (T,), (T,), float32 (T, d)."""
        last = np.arange(len(episode.actions)) == len(episode.actions) - 1
        return {
            "observations": episode.latents[:-1],
            "actions": episode.actions,
            "rewards": _rewards(episode),
            "terminals": last & episode.terminated,
            "timeouts": last & (not episode.terminated),
            "next_observations": episode.latents[1:],
        }


class LompoForm(FlatForm):
    """`obs, actions, rewards, next_obs, terminals`, all float32; (N, 1) where there is one number.

    Episodes that did not terminate have no mark of their end: a transition needs none.
    """

    name = "lompo"

    def check(self, info: LatentInfo, *, rewards: bool) -> None:
        """Refuse what has no rewards or no continuous actions."""
        super().check(info, rewards=rewards)
        if info.data.action.stored_dtype != np.float32:
            raise DatasetError(
                f"--as lompo requires continuous actions, got {info.data.action.space}: take "
                "another form."
            )

    def columns(self, episode: LatentEpisode) -> Mapping[str, AnyArray]:
        """float32 (T, d), (T, A), (T, 1), (T, d), (T, 1)."""
        last = np.arange(len(episode.actions)) == len(episode.actions) - 1
        return {
            "obs": episode.latents[:-1],
            "actions": episode.actions,
            "rewards": _rewards(episode)[:, None],
            "next_obs": episode.latents[1:],
            "terminals": (last & episode.terminated).astype(np.float32)[:, None],
        }


def foreign_output(path: Path) -> DatasetError:
    """For an output that is in the way of `--resume`."""
    return DatasetError(
        f"{path} was not written by latentwrap encode: choose another name or pass --force."
    )


def _rewards(episode: LatentEpisode) -> AnyArray:
    assert episode.rewards is not None  # noqa: S101 - `Form.check` let no other in
    return episode.rewards
