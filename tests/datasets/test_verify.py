"""verify says what is sound, repair writes it; a damaged file can do no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium import spaces
from latentwrap_test_data import (
    assert_same_episode,
    edit,
    make_episode,
    make_info,
    names_in,
    replace_column,
    write_dataset,
)

from latentwrap.cli.main import main
from latentwrap.datasets import Dataset, DatasetWriter
from latentwrap.datasets.wholeness.parts import partial_folder
from latentwrap.datasets.wholeness.repair import repair
from latentwrap.datasets.wholeness.verify import FileReport, Verification, examine, verify
from latentwrap.errors import DatasetError, OutputExists

LENGTHS = [3, 9, 1, 5]


def file_report(found: Verification) -> FileReport:
    assert found.file is not None
    return found.file


def flip(path: Path, name: str, row: int) -> None:
    """Flip a bit in the stored chunk that holds a row."""
    with h5py.File(path) as file:
        column = file[name]
        first = row // column.chunks[0] * column.chunks[0]
        place = column.id.get_chunk_info_by_coord((first, *[0] * (column.ndim - 1)))
    data = bytearray(path.read_bytes())
    data[place.byte_offset + place.size // 2] ^= 4
    path.write_bytes(data)


def put(name: str, row: Any, value: Any) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        file[name][row] = value

    return lambda path: edit(path, change)


def put_byte(path: Path) -> None:
    """A truth of 2 in row 5."""
    with h5py.File(path) as file:
        flags = file["truncations"][:].view(np.uint8)
    flags[5] = 2
    replace_column(path, "truncations", flags.view(np.bool_))


def test_a_sound_file_is_whole(path: Path) -> None:
    write_dataset(path, LENGTHS)
    found = verify(path)
    report = file_report(found)
    assert found.whole
    assert (report.sound, report.transitions, report.episodes) == ((0, 1, 2, 3), 18, 4)
    assert report.checksums
    assert found.partial is None


def test_every_column_has_a_checksum_after_its_codec(path: Path) -> None:
    write_dataset(path, [3])
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
        assert len(names) == 8
        for name in names:
            plist = file[name].id.get_create_plist()
            filters = [plist.get_filter(n)[0] for n in range(plist.get_nfilters())]
            assert filters[-1] == h5py.h5z.FILTER_FLETCHER32
            assert len(filters) == (2 if name == "frames" else 1)


@pytest.mark.parametrize(
    ("damage", "flaw"),
    [
        (lambda path: flip(path, "frames", 5), "/frames is damaged"),
        (put("actions", (5, 0), np.nan), "has actions that are NaN or infinite, first in row 1"),
        (put("rewards", 5, np.inf), "has rewards that are NaN or infinite, first in row 1"),
        (put("actions", 13, 1), "in the last row of an episode"),
        (put("terminations", 5, True), "goes on after its termination"),
        (put_byte, "neither true nor false"),
        (put("episodes/length", 1, 9), "it ends at row 13, but the next begins at row 14"),
        (put("episodes/length", 1, 2**40), "the index gives it rows 4 to"),
    ],
)
def test_one_bad_episode_is_told_from_the_sound(
    path: Path, damage: Callable[[Path], None], flaw: str
) -> None:
    episodes = write_dataset(path, LENGTHS)
    damage(path)
    found = verify(path)
    report = file_report(found)
    assert not found.whole
    assert report.sound == (0, 2, 3)
    assert list(report.unsound) == [1]
    assert flaw in report.unsound[1]
    result = repair(path, path.with_name("new.h5"), found=found)
    assert (result.episodes, result.transitions, result.lost) == (3, 9, 1)
    data = Dataset(result.path)
    for number, expected in enumerate([episodes[0], *episodes[2:]]):
        assert_same_episode(data.episode(number), expected)
    assert data.info.provenance == {"seed": 3, "rescued_from": str(path)}


def test_a_flipped_bit_in_a_shared_chunk_costs_all_who_share_it(path: Path) -> None:
    write_dataset(path, LENGTHS)
    flip(path, "rewards", 0)
    report = file_report(verify(path))
    assert report.sound == ()
    assert set(report.unsound.values()) == {"/rewards is damaged (a checksum does not match)"}
    with pytest.raises(DatasetError, match="has no sound episode"):
        repair(path, path.with_name("new.h5"))


def test_an_impossible_choice_is_unsound(path: Path) -> None:
    info = make_info(spaces.Discrete(3))
    with DatasetWriter(path, info) as writer:
        for choice in (0, 2):
            episode = make_episode(2)
            actions = np.full((2, 1), choice)
            writer.add(type(episode)(**{**vars(episode), "actions": actions}))
    put("actions", 4, 7)(path)
    assert list(file_report(verify(path)).unsound) == [1]


def remove_checksums(path: Path) -> None:
    """As files were before there were checksums."""

    def change(file: h5py.File) -> None:
        frames = file["frames"][:]
        del file["frames"]
        file.create_dataset(
            "frames", data=frames, chunks=(8, *frames.shape[1:]), **hdf5plugin.LZ4()
        )
        for name in ("actions", "rewards", "episodes/start", "episodes/length"):
            values = file[name][:]
            del file[name]
            file[name] = values

    edit(path, change)


def test_an_old_file_has_no_checksums_but_may_be_whole(path: Path) -> None:
    write_dataset(path, LENGTHS)
    remove_checksums(path)
    assert Dataset(path).num_episodes == 4
    found = verify(path)
    assert found.whole
    assert not file_report(found).checksums


def test_chunks_that_cannot_be_decoded_are_found_without_checksums(path: Path) -> None:
    write_dataset(path, [30, 30])
    remove_checksums(path)
    with h5py.File(path) as file:
        place = file["frames"].id.get_chunk_info_by_coord((40, 0, 0, 0))
    data = bytearray(path.read_bytes())
    data[place.byte_offset : place.byte_offset + 8] = b"\xff" * 8
    path.write_bytes(data)
    assert list(file_report(verify(path)).unsound) == [1]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.write_bytes(b"text"), "no whole HDF5 file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-700]), "no whole HDF5 file"),
        (lambda path: edit(path, lambda f: f.pop("rewards") and None), ""),
        (lambda path: edit(path, lambda f: f.pop("actions") and None), "lacks the column /actions"),
        (lambda path: edit(path, lambda f: f.pop("episodes") and None), "no episode index"),
        (lambda path: edit(path, lambda f: f.attrs.pop("action_space") and None), "attributes"),
        (lambda path: replace_column(path, "rewards", np.zeros(3, np.float32)), "/rewards to be"),
        (lambda path: flip(path, "episodes/length", 0), "damaged"),
    ],
)
def test_a_damaged_file_is_named(path: Path, damage: Callable[[Path], None], problem: str) -> None:
    write_dataset(path, LENGTHS)
    damage(path)
    found = verify(path)
    report = file_report(found)
    if not problem:
        assert found.whole  # rewards may be absent
        return
    assert not found.whole
    assert problem in " ".join(report.problems)
    assert report.sound == ()


def test_no_file_outside_is_opened(path: Path, tmp_path: Path) -> None:
    write_dataset(path, LENGTHS)
    write_dataset(tmp_path / "other.h5", LENGTHS)
    edit(path, lambda file: file.pop("frames") and None)
    edit(path, lambda f: f.update({"frames": h5py.ExternalLink("other.h5", "/frames")}) or None)
    report = file_report(verify(path))
    assert "external link" in report.problems[0]
    assert report.sound == ()


def test_the_death_of_the_reader_is_a_finding(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that needs more time or memory than it may; the next one is read."""
    from latentwrap.datasets.guarding.probe import Limits
    from latentwrap.datasets.wholeness import verify as module

    write_dataset(path, LENGTHS)
    monkeypatch.setattr(module, "Limits", _Tight)
    assert Limits is not module.Limits
    reports = examine([path, path])
    assert all("damaged or made to harm" in " ".join(r.problems) for r in reports)


class _Tight:
    @staticmethod
    def of(size: int) -> Any:
        from latentwrap.datasets.guarding.probe import Limits

        return Limits(cpu=0, wall=60, memory=2**31)


def test_what_is_sound_after_any_damage_is_what_was_written(path: Path, tmp_path: Path) -> None:
    """Bits flipped anywhere: found, or in what nobody reads."""
    episodes = write_dataset(path, [200] * 4)
    rng = np.random.default_rng(0)
    whole, damaged = path.read_bytes(), []
    with h5py.File(path) as file:
        frames = [place.byte_offset for place in chunks_of(file["frames"])]
    for number in range(40):
        data = bytearray(whole)
        place = rng.choice(frames) if number % 2 else rng.integers(len(data))
        data[place + int(rng.integers(60))] ^= 1 << int(rng.integers(8))
        damaged.append(tmp_path / f"{number}.h5")
        damaged[-1].write_bytes(data)
    reports = examine(damaged)
    assert sum(not report.whole for report in reports) > 20
    partly = 0
    for report in reports:
        partly += bool(report.sound and report.unsound)
        with h5py.File(report.path if report.sound else path) as file:
            for number in report.sound:
                start, length = file["episodes/start"][number], file["episodes/length"][number]
                expected = episodes[number]
                found = file["frames"][start : start + length]
                np.testing.assert_array_equal(found, expected.frames)
                found = file["actions"][start : start + length - 1]
                np.testing.assert_array_equal(found, expected.actions)
    assert partly > 15


def chunks_of(column: h5py.Dataset) -> list[Any]:
    found: list[Any] = []
    column.id.chunk_iter(found.append)
    return found


def leave(path: Path, lengths: list[int], **options: bool) -> None:
    """An unfinished file."""
    writer = DatasetWriter(path, make_info(), **options)
    for steps in lengths:
        writer.add(make_episode(steps))
    writer.close()


def test_an_unfinished_file_is_named(path: Path) -> None:
    leave(path, [4, 5])
    for named in (path, partial_folder(path)):
        found = verify(named)
        assert not found.whole
        assert found.file is None
        assert found.partial is not None
        assert (found.partial.episodes, found.partial.transitions) == (2, 9)
        assert found.partial.damaged == ()
    assert repair(path, path.with_name("new.h5")).transitions == 9
    assert names_in(path.parent) == ["data.h5.partial", "new.h5"]


def test_what_continues_a_file_is_rescued_with_it(path: Path) -> None:
    write_dataset(path, [3])
    leave(path, [4, 5], resume=True)
    piece = partial_folder(path) / "00000000.h5"
    flip(piece, "frames", 2)
    found = verify(path)
    assert file_report(found).whole
    assert not found.whole
    assert found.partial is not None
    assert [report.path for report in found.partial.damaged] == [piece]
    assert repair(path, path.with_name("new.h5")).transitions == 8


def test_what_replaces_a_file_is_not_mixed_with_it(path: Path) -> None:
    write_dataset(path, [3])
    leave(path, [4, 5], force=True)
    assert repair(path, path.with_name("new.h5")).transitions == 3


def test_there_must_be_something(path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist or is no file"):
        verify(path)


def test_repair_never_writes_over_what_it_reads(path: Path) -> None:
    write_dataset(path, [3])
    with pytest.raises(OutputExists, match="is what is read"):
        repair(path, path, force=True)
    leave(path, [4], resume=True)
    with pytest.raises(OutputExists, match="is what is read"):
        repair(partial_folder(path), path, force=True)


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_says_what_is_whole(path: Path) -> None:
    write_dataset(path, LENGTHS)
    code, out, _ = run("verify", path)
    assert code == 0
    assert "is whole: 4 episodes, 18 transitions, every chunk fits its checksum" in out
    assert f"latentwrap pretrain {path}" in out


def test_the_command_says_what_is_not_and_repairs(path: Path) -> None:
    write_dataset(path, LENGTHS)
    put("rewards", 5, np.nan)(path)
    code, out, _ = run("verify", path)
    assert code == 1
    assert "is damaged" in out
    assert "episode 1: has rewards that are NaN" in out
    assert f"--repair {path.with_name('data-sound.h5')}" in out
    new = path.with_name("new.h5")
    code, out, _ = run("verify", path, "--repair", new, "--json")
    assert code == 1
    result = json.loads(out)
    assert result["unsound"].keys() == {"1"}
    assert result["repaired"] == {
        "dataset": str(new),
        "episodes": 3,
        "transitions": 9,
        "lost": 1,
    }
    assert run("verify", path, "--repair", new)[0] == 2
    assert run("verify", new)[0] == 0


def test_the_command_names_an_unfinished_file(path: Path) -> None:
    leave(path, [4, 5])
    code, out, _ = run("verify", path)
    assert code == 1
    assert "data.h5.partial holds 2 whole episodes, 9 transitions" in " ".join(out.split())
    assert "--resume" in out


def test_the_command_wants_a_file(path: Path) -> None:
    code, _, err = run("verify", path)
    assert code == 2
    assert "does not exist" in err
