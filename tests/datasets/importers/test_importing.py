"""import_dataset: nothing twice, nothing lost, no more in memory than an episode."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_counter import assert_aligned, counting_episode
from latentwrap_test_data import assert_same_episode, names_in, write_dataset
from latentwrap_test_foreign import (
    counted,
    write_columns,
    write_d4rl,
    write_ogbench,
    write_robomimic,
)

from latentwrap.actions import ActionSpec
from latentwrap.datasets import Dataset, DatasetInfo, Episode
from latentwrap.datasets.importers import (
    FORMATS,
    ImportOptions,
    LossySource,
    find_format,
    import_dataset,
)
from latentwrap.errors import ConfigError, DatasetError, OutputExists
from latentwrap.pixels import FrameSpec

pytestmark = pytest.mark.filterwarnings("ignore::latentwrap.datasets.importers.LostEnds")


class Stop(Exception):
    """Stands for a death of the process between two episodes."""


@dataclass
class Given:
    """A format and a source in one, that gives these episodes.

    Attributes:
        before: called with the number of each episode before it is given.
        asked: from which episode on each reading began.
    """

    given: Sequence[Episode]
    before: Callable[[int], None] = lambda _: None
    name: str = "given"
    lossy: str | None = None
    closed: bool = False
    asked: list[int] = field(default_factory=list)
    space: spaces.Space = field(default_factory=lambda: spaces.Box(-1, 1, (1,)))

    def open(self, source: str, options: ImportOptions) -> Given:
        return self

    @property
    def identity(self) -> Given:
        return self

    def at(self, read: int) -> str:
        return f"{read} read"

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo("Given-v0", ActionSpec(self.space), FrameSpec())

    @property
    def count(self) -> int:
        return len(self.given)

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        self.asked.append(first)
        for number in range(first, len(self.given)):
            self.before(number)
            yield self.given[number]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Given]:
    """Make every source the given one."""

    def make(episodes: Sequence[Episode], **kwargs: Any) -> Given:
        given = Given(episodes, **kwargs)
        monkeypatch.setattr("latentwrap.datasets.importers.importing.find_format", lambda *_: given)
        return given

    return make


def flawed() -> list[Episode]:
    """Episodes 0, 3, 4 and 7 cannot be used."""
    good = [counting_episode(steps, steps) for steps in (2, 3, 4, 5)]
    (nan, empty) = counted((6, 3))
    nan = replace(nan, rewards=np.full(6, np.nan, np.float32))
    empty = replace(
        empty, frames=empty.frames[:1], actions=empty.actions[:0], rewards=empty.rewards[:0]
    )
    infinite = replace(good[3], actions=np.full((5, 1), np.inf, np.float32))
    return [nan, good[0], good[1], empty, infinite, good[2], good[3], nan]


SKIPPED = {"NaN or infinite rewards": 2, "no transition": 1, "NaN or infinite actions": 1}


def assert_whole(path: Path) -> None:
    """The four good ones of `flawed`, each once and in order."""
    data = Dataset(path)
    assert data.num_episodes == 4
    for number, steps in enumerate((2, 3, 4, 5)):
        assert_aligned(data.episode(number))
        assert_same_episode(data.episode(number), counting_episode(steps, steps))
    assert names_in(path.parent) == [path.name]


def test_unusable_episodes_are_left_out_and_counted(path: Path, give: Any) -> None:
    given = give(flawed())
    result = import_dataset("anything", path)
    assert (result.path, result.format, result.episodes, result.transitions) == (
        path,
        "given",
        4,
        14,
    )
    assert (dict(result.skipped), result.lossy, result.interrupted) == (SKIPPED, None, False)
    assert given.closed
    assert_whole(path)
    assert Dataset(path).info.provenance["import"] == {
        "read": 8,
        "skipped": SKIPPED,
        "lost_rewards": 0,
        "moved_ends": 0,
        "identity": "8 read",
    }


@pytest.mark.parametrize("died", range(8))
def test_resume_after_any_death_equals_one_go(path: Path, give: Any, died: int) -> None:
    def die(number: int) -> None:
        if number == died:
            raise Stop

    given = give(flawed(), before=die)
    with pytest.raises(Stop):
        import_dataset("anything", path)
    assert given.closed
    assert not path.exists()
    given.before = lambda _: None
    result = import_dataset("anything", path, resume=True)
    assert dict(result.skipped) == SKIPPED
    assert_whole(path)
    written = [0, 0, 1, 2, 2, 2, 3, 4][died]
    # No written episode was asked for again.
    assert given.asked[1] >= [0, 2, 3, 6, 7][written]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_a_limited_import_goes_on(path: Path, give: Any, limit: int) -> None:
    given = give(flawed())
    assert import_dataset("anything", path, limit=limit).episodes == limit
    assert Dataset(path).num_episodes == limit
    assert import_dataset("anything", path, limit=limit, resume=True).episodes == limit
    assert dict(import_dataset("anything", path, resume=True).skipped) == SKIPPED
    assert_whole(path)
    assert given.asked == [0, [2, 3, 6, 7][limit - 1]]


def test_the_first_interrupt_keeps_what_there_is(path: Path, give: Any) -> None:
    given = give(flawed(), before=lambda n: os.kill(os.getpid(), signal.SIGINT) if n == 5 else None)
    result = import_dataset("anything", path)
    assert (result.interrupted, result.episodes) == (True, 3)
    assert Dataset(path).num_episodes == 3
    given.before = lambda _: None
    assert not import_dataset("anything", path, resume=True).interrupted
    assert_whole(path)


def test_a_part_that_was_lost_is_not_passed_over(path: Path, give: Any) -> None:
    def die(number: int) -> None:
        if number == 6:
            raise Stop

    given = give(flawed(), before=die)
    with pytest.raises(Stop):
        import_dataset("anything", path)
    parts = sorted(path.with_name("data.h5.partial").iterdir())
    parts[0].unlink()
    given.before = lambda _: None
    with pytest.raises(DatasetError, match=r"has lost an episode of the interrupted import.*force"):
        import_dataset("anything", path, resume=True)
    import_dataset("anything", path, force=True)
    assert_whole(path)


def test_resume_refuses_another_source(path: Path, give: Any) -> None:
    give(flawed())
    import_dataset("one", path, limit=2)
    with pytest.raises(DatasetError, match="begun with the source one, now it is two"):
        import_dataset("two", path, resume=True)
    write_dataset(path.parent / "collected.h5", [3])
    give(flawed()).space = spaces.Box(-1, 3, (2,))
    with pytest.raises(DatasetError, match="was begun with"):
        import_dataset("one", path.parent / "collected.h5", resume=True)


def test_a_lossy_source_is_named_in_a_warning(path: Path, give: Any) -> None:
    give(flawed(), lossy="its images went through a sieve.")
    with pytest.warns(LossySource, match="^anything: its images went through a sieve"):
        result = import_dataset("anything", path)
    assert result.lossy == "its images went through a sieve."
    assert Dataset(path).info.provenance["lossy"] == result.lossy


def test_nothing_left_is_an_error_that_says_why(path: Path, give: Any) -> None:
    give([flawed()[0], flawed()[3]])
    sentence = (
        r"no episode that can be used \(1 with NaN or infinite rewards; 1 with no transition\)"
    )
    with pytest.raises(DatasetError, match=sentence):
        import_dataset("anything", path)
    assert names_in(path.parent) == []


@pytest.mark.parametrize(
    ("space", "choices", "wrong"),
    [
        (spaces.Discrete(2), [[0], [1], [1]], [2]),
        (spaces.MultiDiscrete([2, 3]), [[0, 2], [1, 0], [1, 1]], [2, 0]),
        (spaces.MultiBinary(2), [[0, 1], [1, 0], [1, 1]], [0, 2]),
    ],
)
def test_choices_that_the_space_lacks_are_left_out(
    path: Path, give: Any, space: spaces.Space, choices: Any, wrong: Any
) -> None:
    (good, bad) = counted((3, 4))
    good = replace(good, actions=np.array(choices))
    bad = replace(bad, actions=np.array([*choices, wrong]))
    give([bad, good], space=space)
    assert dict(import_dataset("anything", path).skipped) == {
        "actions that the action space does not have": 1
    }
    assert Dataset(path).num_episodes == 1


def test_outputs_that_must_not_be_replaced(path: Path, give: Any) -> None:
    give(flawed())
    path.write_bytes(b"mine")
    with pytest.raises(OutputExists, match="exists already"):
        import_dataset("anything", path)
    with pytest.raises(OutputExists, match="is what is read"):
        import_dataset(path, path, force=True)
    assert path.read_bytes() == b"mine"
    with pytest.raises(ConfigError, match="limit of at least 1 episode, got 0"):
        import_dataset("anything", path, limit=0)


WRITERS: dict[str, Callable[[Path, Sequence[Episode]], Path]] = {
    "d4rl": lambda folder, episodes: write_d4rl(folder / "x.hdf5", episodes),
    "ogbench": lambda folder, episodes: write_ogbench(folder / "a-play-v0.npz", episodes),
    "robomimic": lambda folder, episodes: write_robomimic(
        folder / "x.hdf5", episodes, next_obs=True
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_memory_is_bounded_by_an_episode(
    tmp_path: Path, path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peak memory does not grow with the number of episodes."""
    monkeypatch.setattr("latentwrap.datasets.importers.bounds.BLOCK_ROWS", 16)
    options = ImportOptions(image_keys=("agentview_image",) if kind == "robomimic" else None)
    peaks, raw = {}, 0
    for count in (5, 25):
        episodes = [counting_episode(20, seed) for seed in range(count)]
        source = WRITERS[kind](tmp_path, episodes)
        raw = sum(episode.frames.nbytes for episode in episodes)
        del episodes
        import_dataset(source, path, options=options, limit=1, force=True)  # loads what is lazy
        tracemalloc.start()
        import_dataset(source, path, options=options, force=True)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert Dataset(path).num_episodes == count
    assert peaks[25] < 1.3 * peaks[5]
    assert peaks[25] < raw / 2


def test_every_source_has_one_format(tmp_path: Path) -> None:
    episodes = counted()
    sources = {
        "d4rl": write_d4rl(tmp_path / "a.hdf5", episodes),
        "robomimic": write_robomimic(tmp_path / "b.hdf5", episodes, next_obs=False),
        "ogbench": write_ogbench(tmp_path / "visual-c-play-v0.npz", episodes),
    }
    for name, source in sources.items():
        found = [each.name for each in FORMATS if each.recognises(str(source))]
        assert found == [name]
        assert find_format(str(source)).name == name
        assert find_format("anything", name).name == name


def test_what_no_format_recognises_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere does not exist.*minari:NAME"):
        find_format(str(tmp_path / "nowhere"))
    unknown = write_columns(tmp_path / "x.h5", {"numbers": np.zeros(3)})
    names = ", ".join(each.name for each in FORMATS)
    with pytest.raises(DatasetError, match=f"no format that.*--format, of {names}"):
        find_format(str(unknown))
    write_dataset(path, [3])
    with pytest.raises(DatasetError, match=r"is a latentwrap dataset already.*latentwrap rechunk"):
        find_format(str(path))
    with pytest.raises(ConfigError, match="no format 'd4r1' to import: did you mean 'd4rl'"):
        find_format(str(unknown), "d4r1")


def test_a_damaged_hdf5_is_named(tmp_path: Path) -> None:
    source = write_d4rl(tmp_path / "x.hdf5", counted())
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"x\.hdf5 is no whole HDF5 file"):
        find_format(str(source))


def test_formats_load_no_optional_package_before_they_are_used(tmp_path: Path) -> None:
    source = write_d4rl(tmp_path / "x.hdf5", counted())
    code = (
        "import sys\n"
        "from latentwrap.datasets.importers import FORMATS, find_format\n"
        f"find_format({str(source)!r})\n"
        "heavy = ['minari', 'pyarrow', 'tensorflow', 'tensorflow_datasets', 'lerobot', 'imageio', "
        "'av']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
