"""No source is claimed by two formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from latentwrap_test_counter import counting_episode
from latentwrap_test_sources import write_lerobot, write_shards, write_vd4rl, write_video

from latentwrap.datasets import Episode
from latentwrap.datasets.importers import FORMATS


def write_npz(folder: Path, episode: Episode) -> None:
    np.savez(folder / "a.npz", frames=episode.frames, actions=episode.actions)


def write_film(folder: Path, episode: Episode) -> None:
    """The actions lie in npz files, which alone do not make a folder of npz episodes."""
    write_video(folder / "a.mp4", episode.frames)
    np.savez(folder / "a.npz", actions=episode.actions)


WRITERS = {
    "vd4rl": lambda folder, episode: write_vd4rl(folder / "a.npz", episode),
    "vd4rl_shards": lambda folder, episode: write_shards(folder, [episode], [3]),
    "lerobot": lambda folder, episode: write_lerobot(folder, [episode]),
    "npz": write_npz,
    "video": write_film,
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_source_has_one_format(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path, counting_episode(8, 0))
    assert [each.name for each in FORMATS if each.recognises(str(tmp_path))] == [name]


def test_nothing_is_recognised_in_an_empty_folder_or_a_text(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("nothing")
    for source in (tmp_path / "empty", tmp_path / "notes.txt", tmp_path / "missing"):
        assert [each.name for each in FORMATS if each.recognises(str(source))] == []
