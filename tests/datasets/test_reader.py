"""Dataset: what was written is what is read, and nothing else is taken for a dataset."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from latentwrap_test_data import (
    assert_same_episode,
    edit,
    make_episode,
    make_info,
    replace_column,
    write_dataset,
)

from latentwrap.actions import ActionSpec
from latentwrap.datasets import Dataset, DatasetWriter, Episode
from latentwrap.datasets.open_files import OpenFiles, Stamp
from latentwrap.errors import DatasetError


def test_what_was_written_is_what_is_read(path: Path) -> None:
    episodes = write_dataset(path, [3, 12, 1])
    data = Dataset(path)
    assert (data.num_episodes, data.num_frames, data.num_transitions) == (3, 19, 16)
    assert data.frame_bytes == 19 * 4 * 6 * 3
    assert data.info.frame == make_info().frame
    assert data.info.provenance == {"seed": 3}
    assert data.info.env_spec is None
    assert (data.info.env_id, data.info.frame_skip) == ("Test-v0", 2)
    assert data.info.action.space == make_info().action.space
    for number, episode in enumerate(episodes):
        assert_same_episode(data.episode(number), episode)
    returns = data.returns()
    assert returns is not None
    np.testing.assert_allclose(returns, [e.rewards.sum() for e in episodes], rtol=1e-5)
    every_frame = np.concatenate([e.frames for e in episodes])
    np.testing.assert_array_equal(data.frames(slice(2, 9)), every_frame[2:9])
    data.preload()
    np.testing.assert_array_equal(data.frames(slice(2, 9)), every_frame[2:9])


def test_terminations_and_absent_rewards(path: Path) -> None:
    write_dataset(path, [3, 4], rewards=False, terminated=True, states=["pole", "cart"])
    data = Dataset(path)
    assert data.rewards is None
    assert data.returns() is None
    assert data.episode(1).terminated
    assert not data.episode(1).truncated
    assert sorted(data.states) == ["cart", "pole"]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=2),
        spaces.MultiDiscrete([2, 5]),
        spaces.MultiBinary(4),
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(-np.inf, np.inf, (1,)),
    ],
)
def test_every_action_space(path: Path, space: spaces.Space) -> None:
    spec = ActionSpec(space)
    space.seed(0)
    actions = np.stack([spec.flatten(space.sample()) for _ in range(6)])
    plain = make_episode(6)
    episode = Episode(plain.frames, actions, None, terminated=True, truncated=False)
    with DatasetWriter(path, make_info(space)) as writer:
        writer.add(episode)
    data = Dataset(path)
    assert data.info.action.to_json() == spec.to_json()
    assert_same_episode(data.episode(0), episode)


def rows(file: h5py.File, name: str, row: int, value: Any) -> None:
    file[name][row] = value


# The file has episodes of 4, 13 and 2 rows.
DAMAGES: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "foreign": (lambda f: f.attrs.pop("format"), "no latentwrap dataset.*collect"),
    "other format": (lambda f: f.attrs.__setitem__("format", "minari"), "'minari'"),
    "newer": (lambda f: f.attrs.__setitem__("version", 2), "layout version 2.*upgrade"),
    "no version": (lambda f: f.attrs.pop("version"), "no valid layout version"),
    "odd version": (lambda f: f.attrs.__setitem__("version", [1, 2]), "no valid layout version"),
    "no frame": (lambda f: f.attrs.pop("frame"), "damaged attributes.*frame"),
    "bad frame": (lambda f: f.attrs.__setitem__("frame", "{"), "damaged attributes"),
    "odd frame": (lambda f: f.attrs.__setitem__("frame", '{"size": 3}'), "no option 'size'"),
    "bad space": (lambda f: f.attrs.__setitem__("action_space", "[]"), "damaged attributes"),
    "bad nvec": (
        lambda f: f.attrs.__setitem__("action_space", '{"kind": "Discrete", "n": -1, "start": 0}'),
        "damaged attributes",
    ),
    "no frames": (lambda f: f.__delitem__("frames"), "lacks the column /frames"),
    "no actions": (lambda f: f.__delitem__("actions"), "lacks the column /actions"),
    "no index": (lambda f: f.__delitem__("episodes"), "lacks the column /episodes"),
    "short actions": (lambda f: f["actions"].resize(18, 0), r"/actions to be float32 \(19, 2\)"),
    "short frames": (lambda f: f["frames"].resize(18, 0), r"to be float32 \(18, 2\), got"),
    "nan action": (lambda f: rows(f, "actions", 5, np.nan), "actions.*first in row 5"),
    "inf reward": (lambda f: rows(f, "rewards", 7, np.inf), "rewards.*first in row 7"),
    "padded action": (lambda f: rows(f, "actions", 3, 1), "last row of an episode"),
    "padded reward": (lambda f: rows(f, "rewards", 16, 1), "last row of an episode"),
    "padded flag": (lambda f: rows(f, "terminations", 18, True), "last row of an episode"),
    "early end": (lambda f: rows(f, "terminations", 6, True), "goes on after its termination"),
    "gap": (lambda f: rows(f, "episodes/start", 1, 5), "does not cover its 19 rows"),
    "late start": (lambda f: rows(f, "episodes/start", 0, 1), "does not cover"),
    "overlap": (lambda f: rows(f, "episodes/length", 1, 14), "does not cover"),
    "negative": (lambda f: rows(f, "episodes/length", 1, -13), "does not cover"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_wrong_layout_is_refused(path: Path, name: str) -> None:
    write_dataset(path, [3, 12, 1])
    change, sentence = DAMAGES[name]
    edit(path, change)
    with pytest.raises(DatasetError, match=sentence) as error:
        Dataset(path)
    assert_one_sentence(error.value, path)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("episodes/length", np.int32([4, 13, 2]), r"int64 \(3\), got int32"),
        ("episodes/start", np.int64([0, 4]), r"int64 \(3\), got int64 \(2,\)"),
        ("episodes/length", 19, "int64"),
        ("actions", np.zeros((19, 2)), r"float32 \(19, 2\), got float64"),
        ("actions", np.zeros((19, 1), np.float32), r"\(19, 2\), got float32 \(19, 1\)"),
        ("rewards", np.zeros((19, 1), np.float32), r"float32 \(19\), got float32 \(19, 1\)"),
        ("terminations", np.zeros(19, np.uint8), r"bool \(19\), got uint8"),
        ("state/state", np.zeros(19, np.float32), r"\(19, any\), got float32 \(19,\)"),
        ("state/state", np.zeros((18, 2), np.float32), r"\(19, any\), got float32 \(18, 2\)"),
        ("frames", np.zeros((19, 4, 4, 3), np.uint8), r"\(19, 4, 6, 3\), got uint8 \(19, 4, 4"),
        ("frames", np.zeros((19, 4, 6, 3), np.float32), "uint8.*got float32"),
        ("frames", "pixels", "frames"),
    ],
)
def test_a_wrong_column_is_refused(path: Path, name: str, values: Any, sentence: str) -> None:
    write_dataset(path, [3, 12, 1])
    replace_column(path, name, values)
    with pytest.raises(DatasetError, match=sentence) as error:
        Dataset(path)
    assert_one_sentence(error.value, path)


@pytest.mark.parametrize("name", ["rewards", "state/state"])
def test_a_group_in_place_of_a_column_is_refused(path: Path, name: str) -> None:
    write_dataset(path, [3])

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_group(name)

    edit(path, change)
    with pytest.raises(DatasetError, match=f"/{name}.*got a group"):
        Dataset(path)


def test_zero_episodes_are_refused(path: Path) -> None:
    write_dataset(path, [3])

    def empty(file: h5py.File) -> None:
        for name in ("frames", "actions", "rewards", "terminations", "truncations", "state/state"):
            file[name].resize(0, 0)
        del file["episodes"]
        file["episodes/start"] = file["episodes/length"] = np.empty(0, np.int64)

    edit(path, empty)
    with pytest.raises(DatasetError, match="holds no episodes"):
        Dataset(path)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Discrete(3, start=1), 4),
        (spaces.MultiDiscrete([2, 5]), [2, 0]),
        (spaces.MultiBinary(1), 2),
    ],
)
def test_a_choice_that_the_space_lacks_is_refused(
    path: Path, space: spaces.Space, value: Any
) -> None:
    plain, spec = make_episode(4), ActionSpec(space)
    actions = np.stack([spec.flatten(space.sample()) for _ in range(4)])
    with DatasetWriter(path, make_info(space)) as writer:
        writer.add(Episode(plain.frames, actions, None, terminated=True, truncated=False))
    edit(path, lambda f: rows(f, "actions", 2, value))
    with pytest.raises(DatasetError, match="in row 2 that its action space"):
        Dataset(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "none.h5", tmp_path):
        with pytest.raises(DatasetError, match=r"does not exist or is no file\.") as error:
            Dataset(missing)
        assert_one_sentence(error.value, missing)


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_file_that_is_not_hdf5_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="no whole HDF5 file") as error:
        Dataset(path)
    assert_one_sentence(error.value, path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named(path: Path, share: float) -> None:
    write_dataset(path, [30, 40])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match="no whole HDF5 file") as error:
        Dataset(path)
    assert_one_sentence(error.value, path)


@settings(
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_flipped_bytes_give_a_sentence_or_are_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """Nothing but DatasetError comes out of a damaged file, wherever the damage is.

    Except in the heap of the attributes' texts: it alone has no checksum in any format of HDF5,
    and the HDF5 library loops for ever on a few kinds of damage there.
    """
    whole = tmp_path / "whole.h5"
    if not whole.exists():
        write_dataset(whole, [9, 4])
    content = bytearray(whole.read_bytes())
    places = st.integers(0, len(content) - 1)
    # Metadata is a small share of the file and the interesting one: half the draws hit the front.
    place = data.draw(st.one_of(places, st.integers(0, 9000)))
    heap = content.index(b"GCOL")
    assume(not heap <= place < heap + 4096)
    content[place] ^= data.draw(st.integers(1, 255))
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(bytes(content))
    try:
        read = Dataset(damaged)
        read.frames(slice(0, read.num_frames))
        read.close()
    except DatasetError as error:
        assert_one_sentence(error, damaged)


def test_damaged_frames_are_named_when_read(path: Path) -> None:
    write_dataset(path, [30])
    with h5py.File(path) as file:
        chunk = file["frames"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(bytes(content))
    data = Dataset(path)
    with pytest.raises(DatasetError, match="damaged") as error:
        data.frames(slice(0, 4))
    assert_one_sentence(error.value, path)


def assert_one_sentence(error: DatasetError, path: Path) -> None:
    text = str(error)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text


def test_a_refused_file_is_not_kept_open(path: Path) -> None:
    write_dataset(path, [3])
    replace_column(path, "frames", np.zeros((4, 1, 1, 3), np.uint8))
    with pytest.raises(DatasetError, match="frames") as error:
        Dataset(path)
    edit(path, lambda f: f.attrs.pop("format"))  # HDF5 refuses to write what is open for reading
    assert error.value  # whose traceback holds the half-made dataset


def test_the_fingerprint_is_that_of_the_experience(path: Path, tmp_path: Path) -> None:
    write_dataset(path, [3, 5])
    same = tmp_path / "same.h5"
    write_dataset(same, [3, 5])
    fingerprint = Dataset(path).fingerprint()
    assert fingerprint == Dataset(path).fingerprint() == Dataset(same).fingerprint()
    assert len(fingerprint) == 64


@pytest.mark.parametrize(
    "change",
    [
        lambda f: rows(f, "actions", 1, 0.5),
        lambda f: rows(f, "rewards", 1, 0.5),
        lambda f: rows(f, "terminations", 2, True),
        lambda f: rows(f, "truncations", 2, False),
        lambda f: f.attrs.__setitem__("env_id", "Other-v0"),
        lambda f: f.attrs.__setitem__("frame_skip", 3),
        lambda f: (rows(f, "episodes/length", 0, 5), rows(f, "episodes/length", 1, 5)),
    ],
    ids=["action", "reward", "termination", "truncation", "env_id", "frame_skip", "index"],
)
def test_the_fingerprint_changes_with_the_data(
    path: Path, change: Callable[[h5py.File], Any]
) -> None:
    write_dataset(path, [3, 5])
    before = Dataset(path).fingerprint()

    def also_keep_the_rules(file: h5py.File) -> None:
        change(file)
        lengths = file["episodes/length"][:]
        file["episodes/start"][:] = np.cumsum(lengths) - lengths
        if lengths[0] == 5:
            for name in ("actions", "rewards", "truncations"):
                file[name][2:5] = 0

    edit(path, also_keep_the_rules)
    assert Dataset(path).fingerprint() != before


def test_a_pickled_dataset_opens_the_file_for_itself(path: Path) -> None:
    episodes = write_dataset(path, [3, 5])
    data = Dataset(path)
    data.preload()
    document = pickle.dumps(data)
    copied = pickle.loads(document)  # noqa: S301 - written two lines above
    assert_same_episode(copied.episode(1), episodes[1])
    assert_same_episode(data.episode(1), episodes[1])
    assert copied.fingerprint() == data.fingerprint()


def test_a_closed_dataset_opens_again(path: Path) -> None:
    episodes = write_dataset(path, [3])
    data = Dataset(path)
    data.close()
    data.close()
    assert_same_episode(data.episode(0), episodes[0])


FORKS = """
import os, sys
if sys.argv[2] == "HDF5":
    del os.pread  # without it, frames are read by the HDF5 library
import numpy as np
from latentwrap.datasets import Dataset

data, twin = Dataset(sys.argv[1]), Dataset(sys.argv[1])
truth = data.frames(slice(0, data.num_frames))

def reads_well(seed):
    generator = np.random.default_rng(seed)
    for _ in range(300):
        start = int(generator.integers(data.num_frames - 9))
        for reader in (data, twin):
            if not np.array_equal(reader.frames(slice(start, start + 9)), truth[start:start + 9]):
                return False
    return True

children = []
for seed in range(4):
    child = os.fork()
    if not child:
        os._exit(0 if reads_well(seed) else 1)
    children.append(child)
mine = reads_well(99)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(mine, codes, reads_well(100))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@pytest.mark.parametrize("way", ["direct", "HDF5"])
def test_forked_processes_read_at_the_same_time(path: Path, way: str) -> None:
    write_dataset(path, [150] * 20)
    command = [sys.executable, "-c", FORKS, str(path), way]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True [0, 0, 0, 0] True"


def test_a_forked_child_does_not_share_the_file_descriptor(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(path, [3])
    files, stamp = OpenFiles(), Stamp.of(path.stat())
    inherited = files.hdf5(path, stamp)
    monkeypatch.setattr("latentwrap.datasets.open_files.os.getpid", lambda: -1)
    own = files.hdf5(path, stamp)
    assert not inherited.id.valid  # closed before the other was opened
    assert own.id.valid
    files.close()
