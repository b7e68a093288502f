"""Going on with an import: the source must be the same, and a finished file is not cut short."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from latentwrap_test_counter import counting_episode
from latentwrap_test_foreign import counted, write_d4rl, write_d4rl_with_next

from latentwrap.cli.main import main
from latentwrap.datasets import Dataset
from latentwrap.datasets.importers import LostEnds, import_dataset
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.errors import DatasetError


def write(folder: Path, number: int, steps: int) -> None:
    episode = counting_episode(steps, number)
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"ep_{number}.npz", frames=episode.frames, actions=episode.actions)


def lengths(path: Path) -> list[int]:
    return (Dataset(path).lengths - 1).tolist()


def test_episodes_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1, 10, 2):
        write(tmp_path / "mine", number, number)
    import_dataset(tmp_path / "mine", tmp_path / "out.h5")
    assert lengths(tmp_path / "out.h5") == [1, 2, 10]


def test_new_episodes_at_the_end_are_taken(tmp_path: Path) -> None:
    source, path = tmp_path / "mine", tmp_path / "out.h5"
    write(source, 8, 4)
    write(source, 9, 5)
    import_dataset(source, path, limit=1)
    write(source, 10, 6)
    import_dataset(source, path, resume=True)
    assert lengths(path) == [4, 5, 6]


@pytest.mark.parametrize("change", ["earlier", "other", "gone"])
def test_a_folder_that_has_changed_is_refused(tmp_path: Path, change: str) -> None:
    source, path = tmp_path / "mine", tmp_path / "out.h5"
    for number in (5, 6, 7):
        write(source, number, number)
    import_dataset(source, path, limit=2)
    if change == "earlier":
        write(source, 1, 3)
    elif change == "other":
        write(source, 6, 9)
    else:
        (source / "ep_5.npz").unlink()
    with pytest.raises(DatasetError, match=r"mine has changed since .* for .*out\.h5: .*--force"):
        import_dataset(source, path, resume=True)
    assert lengths(path) == [5, 6]


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    source, path = write_d4rl_with_next(tmp_path / "a.hdf5", counted()), tmp_path / "out.h5"
    import_dataset(source, path, limit=1)
    write_d4rl_with_next(source, counted((5, 2, 4)))
    with pytest.raises(DatasetError, match=r"a\.hdf5 has changed since"):
        import_dataset(source, path, resume=True)


@pytest.fixture
def stop_after_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes with every second episode that is written."""
    add, count = DatasetWriter.add, [0]

    def stopping(self: DatasetWriter, episode: Any) -> None:
        add(self, episode)
        count[0] += 1
        if count[0] % 2 == 0:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(DatasetWriter, "add", stopping)


def test_ctrl_c_leaves_the_file_that_was_to_be_replaced(
    tmp_path: Path, stop_after_two: None
) -> None:
    source, path = tmp_path / "mine", tmp_path / "out.h5"
    for number in range(1, 6):
        write(source, number, number)
    old = tmp_path / "old"
    write(old, 0, 20)
    import_dataset(old, path)  # the first episode that is written
    result = import_dataset(source, path, force=True)
    assert (result.interrupted, result.episodes) == (True, 1)
    assert result.kept_in == tmp_path / "out.h5.partial"
    assert lengths(path) == [20]
    result = import_dataset(source, path, resume=True)  # of the same replacement
    assert (result.kept_in, lengths(path)) == (tmp_path / "out.h5.partial", [20])
    while result.interrupted:
        result = import_dataset(source, path, resume=True)
    assert result.kept_in is None
    assert lengths(path) == [1, 2, 3, 4, 5]


def test_the_command_says_what_stays(tmp_path: Path, stop_after_two: None) -> None:
    source, path = tmp_path / "mine", tmp_path / "out.h5"
    for number in range(1, 5):
        write(source, number, number)
    first = CliRunner().invoke(main, ["import", str(source), "-o", str(path)])
    assert (first.exit_code, lengths(path)) == (130, [1, 2])
    second = CliRunner().invoke(main, ["import", str(source), "-o", str(path), "--force"])
    assert second.exit_code == 130
    assert f"{path} stays as it was, and {path}.partial holds everything so far" in second.output
    assert lengths(path) == [1, 2]


def test_lost_rewards_and_moved_ends_are_told(tmp_path: Path) -> None:
    source, path = write_d4rl(tmp_path / "lane.hdf5", counted()), tmp_path / "out.h5"
    with pytest.warns(LostEnds, match="3 episodes lost a reward .* and 2 terminate one") as told:
        result = import_dataset(source, path)
    assert len(told) == 1
    assert (result.lost_rewards, result.moved_ends) == (3, 2)
    said = Dataset(path).info.provenance["import"]
    assert (said["lost_rewards"], said["moved_ends"]) == (3, 2)
    words = ["import", str(source), "-o", str(path), "--force", "--json"]
    output = CliRunner().invoke(main, words).output
    assert "rewards of 3 episodes; 2 terminate one transition earlier" in output
    assert '"lost_rewards": 3, "moved_ends": 2' in output


def test_nothing_is_told_where_nothing_is_lost(tmp_path: Path) -> None:
    whole = write_d4rl_with_next(tmp_path / "whole.hdf5", counted())
    result = import_dataset(whole, tmp_path / "a.h5")
    assert (result.lost_rewards, result.moved_ends) == (0, 0)
    steps = sum(len(episode.frames) for episode in counted())
    nothing = {"rewards": np.zeros(steps), "terminals": np.zeros(steps, bool)}
    source = write_d4rl(tmp_path / "zero.hdf5", counted(), **nothing)
    result = import_dataset(source, tmp_path / "b.h5")
    assert (result.lost_rewards, result.moved_ends) == (0, 0)


def test_two_episodes_in_an_npz_are_refused(tmp_path: Path) -> None:
    episode = counting_episode(6, 0)
    for name, dones in (("a", [0, 0, 1, 0, 0, 1]), ("b", [0, 0, 1, 0, 0, 0])):
        folder = tmp_path / name
        folder.mkdir()
        columns = {"frames": episode.frames, "actions": episode.actions, "dones": np.array(dones)}
        np.savez(folder / "x.npz", **columns)
        with pytest.raises(DatasetError, match=r"x\.npz requires one episode.*over in row 2 of 6"):
            import_dataset(folder, tmp_path / "out.h5")
