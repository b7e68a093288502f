"""An interrupted run of `encode` goes on with what is whole, in order, and with nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.conftest import make_tiny_model
from tests.encoding.conftest import FRAME, noise_model, write_noise

from latentwrap.datasets.wholeness.parts import partial_folder
from latentwrap.encoding import LatentDataset, encode
from latentwrap.encoding.filtering import EpisodeEncoder
from latentwrap.errors import DatasetError, OutputExists
from latentwrap.models import save_model

KILLED = """
import os, signal, sys
from latentwrap.encoding import encode
from latentwrap.encoding.filtering import EpisodeEncoder
episodes = EpisodeEncoder.episodes
def dying(self, first=0):
    for number, columns in enumerate(episodes(self, first)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield columns
EpisodeEncoder.episodes = dying
encode(*sys.argv[1:4], form=sys.argv[4])
"""


@pytest.mark.parametrize("form", ["latentwrap", "d4rl", "minari"])
def test_a_killed_run_goes_on_after_the_last_whole_episode(
    tmp_path: Path,
    pendulum_data: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    if form == "minari":
        pytest.importorskip("minari")
    path = tmp_path / ("folder" if form == "minari" else "z.h5")
    words = [sys.executable, "-c", KILLED, model, pendulum_data, path, form]
    died = subprocess.run(list(map(str, words)), check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert not path.exists()
    with pytest.raises(OutputExists, match="pass --resume"):
        encode(model, pendulum_data, path, form=form)
    begun: list[int] = []
    episodes = EpisodeEncoder.episodes

    def recorded(self: EpisodeEncoder, first: int = 0) -> Iterator[object]:
        begun.append(first)
        return episodes(self, first)

    monkeypatch.setattr(EpisodeEncoder, "episodes", recorded)
    resumed = encode(model, pendulum_data, path, form=form, resume=True)
    assert begun == [2]
    assert (resumed.episodes, resumed.transitions) == (3, 450)
    assert not path.with_name(f"{path.name}.partial").exists()
    encode(model, pendulum_data, path, form=form, resume=True)  # finished: nothing to do
    assert begun == [2, 3]
    whole = tmp_path / "whole" / path.name
    encode(model, pendulum_data, whole, form=form)
    assert_same_contents(path, whole, form)


def assert_same_contents(found: Path, expected: Path, form: str) -> None:
    """Every column of a file as h5py reads it, or of a folder as Minari does."""
    read = minari_columns if form == "minari" else flat_columns
    columns = read(found)
    assert columns.keys() == read(expected).keys()
    assert len(columns) >= 6
    for name, values in read(expected).items():
        assert (columns[name].shape, columns[name].dtype) == (values.shape, values.dtype)
        # Episodes that are filtered in other company may differ in the last digits.
        np.testing.assert_allclose(columns[name], values, atol=1e-4, err_msg=name)


def flat_columns(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        return {name: file[name][:] for name in names if isinstance(file[name], h5py.Dataset)}


def minari_columns(path: Path) -> dict[str, np.ndarray]:
    minari = pytest.importorskip("minari")
    episodes = list(minari.MinariDataset(path / "data").iterate_episodes())
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    columns = {name: np.concatenate([getattr(e, name) for e in episodes]) for name in names}
    infos = [episode.infos or {} for episode in episodes]
    columns |= {name: np.concatenate([each[name] for each in infos]) for name in infos[0]}
    return columns | {"lengths": np.array([len(episode) for episode in episodes])}


@pytest.mark.parametrize("form", ["latentwrap", "d4rl"])
def test_what_was_begun_otherwise_is_not_gone_on_with(
    tmp_path: Path, pendulum_data: Path, model: Path, form: str
) -> None:
    path, other = tmp_path / "z.h5", tmp_path / "other.safetensors"
    encode(model, pendulum_data, path, form=form)
    save_model(other, make_tiny_model(seed=1), training={})
    before = path.read_bytes()
    with pytest.raises(DatasetError, match="was begun with model"):
        encode(other, pendulum_data, path, form=form, resume=True)
    with pytest.raises(DatasetError, match="was begun with normalized True, now it is False"):
        encode(model, pendulum_data, path, form=form, resume=True, normalize=False)
    assert path.read_bytes() == before
    encode(other, pendulum_data, path, form=form, force=True)
    assert path.read_bytes() != before


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_noise(tmp_path / "pixels.h5")
    assert pixels.info.frame.shape == FRAME.shape
    episodes = EpisodeEncoder.episodes

    def interrupted(self: EpisodeEncoder, first: int = 0) -> Iterator[object]:
        for number, columns in enumerate(episodes(self, first)):
            if number == 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield columns

    monkeypatch.setattr(EpisodeEncoder, "episodes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode(noise_model(), pixels, tmp_path / "z.h5")
    monkeypatch.undo()
    assert not (tmp_path / "z.h5").exists()
    assert encode(noise_model(), pixels, tmp_path / "z.h5", resume=True).episodes == 4


@pytest.mark.parametrize("lost", ["damaged", "missing"])
def test_no_episode_is_doubled_or_dropped_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    pixels, path = write_noise(tmp_path / "pixels.h5"), tmp_path / "z.h5"
    episodes = EpisodeEncoder.episodes

    def interrupted(self: EpisodeEncoder, first: int = 0) -> Iterator[object]:
        for number, columns in enumerate(episodes(self, first)):
            if number == 3:
                raise KeyboardInterrupt
            yield columns

    monkeypatch.setattr(EpisodeEncoder, "episodes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode(noise_model(), pixels, path)
    monkeypatch.undo()
    piece = partial_folder(path) / "00000001.h5"
    piece.unlink() if lost == "missing" else piece.write_bytes(piece.read_bytes()[:100])
    encode(noise_model(), pixels, path, resume=True)
    latent = LatentDataset(path)
    np.testing.assert_array_equal(latent.lengths, pixels.lengths)
    np.testing.assert_array_equal(latent.actions, pixels.actions)
    assert not partial_folder(path).exists()


def test_a_finished_file_is_examined_before_it_is_gone_on_with(tmp_path: Path) -> None:
    """It may be a stranger's, and lead HDF5 to a file outside."""
    pixels, path = write_noise(tmp_path / "pixels.h5"), tmp_path / "z.h5"
    encode(noise_model(), pixels, path)
    with h5py.File(path, "r+") as file, h5py.File(tmp_path / "secret.h5", "w") as outside:
        outside["latents"] = file["latents"][:]
        del file["latents"]
        file["latents"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/latents")
    with pytest.raises(DatasetError, match="external link at /latents"):
        encode(noise_model(), pixels, path, resume=True)
