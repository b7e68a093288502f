"""SIGKILL at every call that changes files: never unreadable, at most one episode lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the codec
import numpy as np
import pytest
from latentwrap_test_data import make_episode, names_in
from latentwrap_test_kills import run_killed, write

from latentwrap.datasets.wholeness.parts import PartialRun

LENGTHS = [3, 1]
OLD = [5, 2]


def nothing(path: Path) -> None:
    """There is no file, no folder."""


def finished(path: Path) -> None:
    """The first episode is a finished file."""
    write(path, LENGTHS[:1], {}, lambda: None)


def other(path: Path) -> None:
    """There is a finished file of other episodes, to be replaced."""
    write(path, OLD, {}, lambda: None)


def interrupted(path: Path) -> None:
    """A process was killed when an episode was safe."""
    stop(path, lambda run: len(run.pieces) == 1)


def unpublished(path: Path) -> None:
    """A process was killed when all was joined."""
    stop(path, lambda run: run.whole is not None)


def published(path: Path) -> None:
    """A process was killed before it could remove the pieces."""
    stop(path, lambda run: path.exists() and len(run.pieces) == 1)


def stop(path: Path, when: Callable[[PartialRun], bool]) -> None:
    """Kill a process that writes all episodes at the first call where it has come so far."""
    for call in range(100):
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        assert run_killed(path, LENGTHS, {}, call=call).killed
        if when(PartialRun.of(path)):
            return
    raise AssertionError


def assert_holds(path: Path, lengths: list[int]) -> None:
    episodes = [make_episode(steps, seed=number) for number, steps in enumerate(lengths)]
    with h5py.File(path) as file:
        assert file["episodes/length"][:].tolist() == [steps + 1 for steps in lengths]
        frames = np.concatenate([episode.frames for episode in episodes])
        np.testing.assert_array_equal(file["frames"][:], frames)


SCENES = [
    (nothing, {}),
    (finished, {"resume": True}),
    (interrupted, {"resume": True}),
    (unpublished, {"resume": True}),
    (published, {"resume": True}),
    (other, {"force": True}),
    (unpublished, {"force": True}),
]


@pytest.mark.parametrize(("scene", "options"), SCENES)
def test_killed_at_every_call(
    tmp_path: Path, scene: Callable[[Path], None], options: dict[str, bool]
) -> None:
    start = tmp_path / "start" / "data.h5"
    start.parent.mkdir()
    scene(start)
    held = 0 if "force" in options else kept(start)
    rng = np.random.default_rng(0)
    for call in range(1000):
        path = tmp_path / str(call) / "data.h5"
        shutil.copytree(start.parent, path.parent)
        outcome = run_killed(path, LENGTHS, options, call=call)
        if not outcome.killed:
            break
        assert kept(path) >= held + outcome.safe
        recover(path, options, kill=None if call % 4 else int(rng.integers(30)))
        shutil.rmtree(path.parent)
    assert outcome.calls == call > 5
    assert_holds(path, LENGTHS)
    assert names_in(path.parent) == ["data.h5"]


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Between the calls too: in the middle of a write, of an episode, of the joining."""
    lengths = [400, 300, 500, 200]
    rng = np.random.default_rng(0)
    killed = 0
    for trial in range(20):
        path = tmp_path / str(trial) / "data.h5"
        path.parent.mkdir()
        outcome = run_killed(path, lengths, {}, after=float(rng.uniform(0, 0.15)))
        killed += outcome.killed
        assert kept(path) >= outcome.safe
        if outcome.killed:
            write(path, lengths, {"resume": True}, lambda: None)
        assert_holds(path, lengths)
        assert names_in(path.parent) == ["data.h5"]
    assert killed


def kept(path: Path) -> int:
    """Episodes that another run would go on with; all that is there must be readable."""
    run = PartialRun.of(path)
    finished = readable(path) if path.exists() else 0
    if run.whole is not None:
        return readable(run.whole)
    pieces = sum(readable(piece) for piece in run.pieces)
    if run.joined or not pieces:
        return finished
    return pieces + (0 if run.continues is None else finished)


def readable(path: Path) -> int:
    """Episodes in a file all of which can be read."""
    with h5py.File(path) as file:
        for name in ("frames", "actions", "rewards", "terminations", "truncations", "state/state"):
            assert len(file[name][:]) == file["episodes/length"][:].sum()
        return len(file["episodes/length"])


def recover(path: Path, options: dict[str, bool], *, kill: int | None) -> None:
    """Another run goes on with what is there, although it may be killed too."""
    if kill is not None:
        before = kept(path)
        second = run_killed(path, LENGTHS, going_on(path, options), call=kill)
        assert "force" in options or kept(path) >= before + second.safe
    write(path, LENGTHS, going_on(path, options), lambda: None)
    assert_holds(path, LENGTHS)
    assert names_in(path.parent) == ["data.h5"]


def going_on(path: Path, options: dict[str, bool]) -> dict[str, bool]:
    """What a user passes: --resume where there is something to go on with."""
    run = PartialRun.of(path)
    fresh = not run.worth_keeping and not run.joined
    return options if "force" in options and fresh else {"resume": True}
