"""PartFolder and the files in it: leftovers, what belongs to what."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from latentwrap_test_data import assert_same_episode, make_episode, make_info, names_in

from latentwrap.datasets import Dataset, DatasetWriter
from latentwrap.datasets.wholeness.parts import PartFolder, PartialRun, partial_folder
from latentwrap.datasets.wholeness.steady import new_file
from latentwrap.errors import DatasetError, LatentwrapError, OutputExists, OutputFailed
from latentwrap.files import failures_named, written_whole


def add(writer: DatasetWriter, *lengths: int) -> None:
    for steps in lengths:
        writer.add(make_episode(steps))


def lengths_in(path: Path) -> list[int]:
    return Dataset(path).lengths.tolist()


def test_a_finished_file_stays_while_it_is_continued(path: Path) -> None:
    with DatasetWriter(path, make_info()) as writer:
        add(writer, 3, 4)
    with DatasetWriter(path, make_info(), resume=True) as writer:
        assert (writer.episodes, writer.transitions) == (2, 7)
        add(writer, 5)
        assert lengths_in(path) == [4, 5]
        assert writer.sources == (path, partial_folder(path) / "00000000.h5")
    assert lengths_in(path) == [4, 5, 6]


def test_a_finished_file_with_nothing_to_add_is_left_alone(path: Path) -> None:
    with DatasetWriter(path, make_info()) as writer:
        add(writer, 3)
    before = path.stat()
    with DatasetWriter(path, make_info(), resume=True):
        pass
    assert path.stat().st_ino == before.st_ino
    assert names_in(path.parent) == [path.name]


def interrupted(path: Path, *lengths: int, **options: bool) -> None:
    with (
        pytest.raises(RuntimeError, match="stop"),
        DatasetWriter(path, make_info(), **options) as writer,
    ):
        add(writer, *lengths)
        raise RuntimeError("stop")


def test_what_continues_a_file_needs_that_file(path: Path) -> None:
    with DatasetWriter(path, make_info()) as writer:
        add(writer, 3)
    interrupted(path, 4, resume=True)
    path.rename(path.with_name("away.h5"))
    with pytest.raises(DatasetError, match=r"continues a file of \d+ bytes.*is gone: put it back"):
        DatasetWriter(path, make_info(), resume=True)
    with DatasetWriter(path.with_name("other.h5"), make_info()) as writer:
        add(writer, 9, 9)
    path.with_name("other.h5").rename(path)
    with pytest.raises(DatasetError, match=r"continues a file of \d+ bytes.*has \d+: put it back"):
        DatasetWriter(path, make_info(), resume=True)
    path.with_name("away.h5").rename(path)
    DatasetWriter(path, make_info(), resume=True).finish()
    assert lengths_in(path) == [4, 5]


def test_what_replaces_a_file_is_resumed_without_it(path: Path) -> None:
    with DatasetWriter(path, make_info()) as writer:
        add(writer, 3)
    interrupted(path, 4, force=True)
    assert lengths_in(path) == [4]
    with DatasetWriter(path, make_info(), resume=True) as writer:
        assert writer.transitions == 4
    assert lengths_in(path) == [5]


def test_a_file_that_belongs_to_nothing_is_not_replaced(path: Path) -> None:
    interrupted(path, 4)
    with DatasetWriter(path.with_name("other.h5"), make_info()) as writer:
        add(writer, 9)
    path.with_name("other.h5").rename(path)
    with pytest.raises(OutputExists, match=r"is finished, but .*partial holds an interrupted run"):
        DatasetWriter(path, make_info(), resume=True)
    assert PartialRun.of(path).pieces
    assert lengths_in(path) == [10]


def test_a_file_that_appears_meanwhile_is_not_replaced(path: Path) -> None:
    with (
        pytest.raises(OutputExists, match=r"data\.h5 appeared while"),
        DatasetWriter(path, make_info()) as writer,
    ):
        add(writer, 4)
        path.write_bytes(b"mine")
    assert path.read_bytes() == b"mine"
    path.unlink()
    with DatasetWriter(path, make_info(), resume=True) as writer:
        assert writer.transitions == 4
    assert lengths_in(path) == [5]


def test_leftovers_of_a_killed_process_are_removed_and_never_counted(path: Path) -> None:
    interrupted(path, 4)
    piece = partial_folder(path) / "00000000.h5"
    for name in (".00000001.123.tmp.h5", ".whole.123.tmp.h5", ".begun.7.tmp.json"):
        (piece.parent / name).write_bytes(piece.read_bytes())
    writer = DatasetWriter(path, make_info(), resume=True)
    assert names_in(piece.parent) == [".lock", "00000000.h5", "begun.json"]
    assert writer.episodes == 1
    writer.close()


def test_a_folder_with_no_piece_is_no_interrupted_run(path: Path) -> None:
    partial_folder(path).mkdir()
    with DatasetWriter(path, make_info()) as writer:
        add(writer, 3)
    assert names_in(path.parent) == [path.name]


def test_what_a_user_put_into_the_folder_stays(path: Path) -> None:
    interrupted(path, 3)
    (partial_folder(path) / "notes.txt").write_text("mine")
    DatasetWriter(path, make_info(), resume=True).finish()
    assert names_in(partial_folder(path)) == ["notes.txt"]


def test_a_folder_may_be_the_result(tmp_path: Path) -> None:
    for text in ("old", "new"):
        parts = PartFolder(tmp_path / "out", force=True)
        with parts.add() as piece:
            piece.write_text(text, encoding="utf-8")
        with parts.publish() as whole:
            whole.mkdir()
            (whole / "a").write_text(parts.pieces()[0].read_text())
    assert (tmp_path / "out" / "a").read_text() == "new"
    assert names_in(tmp_path) == ["out"]


def test_a_damaged_piece_is_named_when_it_cannot_be_joined(path: Path) -> None:
    writer = DatasetWriter(path, make_info())
    add(writer, 3, 4)
    piece = writer.sources[1]
    with h5py.File(piece) as file:
        place = file["frames"].id.get_chunk_info(0)
    data = bytearray(piece.read_bytes())
    data[place.byte_offset + place.size // 2] ^= 1
    piece.write_bytes(data)
    with pytest.raises(DatasetError, match=r"00000001\.h5 is damaged"), writer:
        pass
    assert not path.exists()
    assert len(PartialRun.of(path).pieces) == 2


@pytest.mark.parametrize("limit", [0, 5, 3000, 30_000, 200_000])
def test_a_full_disk_is_a_sentence_and_no_crash_of_hdf5(path: Path, limit: int) -> None:
    """HDF5 must not see the failure: it would end this process with a segmentation fault."""
    noise = np.random.default_rng(0).integers(0, 256, (300_000,), np.uint8)
    with (
        pytest.raises(OutputFailed, match=r"data\.h5 could not be written \(File too large\)"),
        smaller_files(limit),
        written_whole(path) as temporary,
        new_file(temporary) as file,
    ):
        column = file.h5.create_dataset("noise", (0,), "u1", chunks=(1000,), maxshape=(None,))
        for part in np.split(noise, 30):
            column.resize(len(column) + len(part), axis=0)
            column[-len(part) :] = part
        np.testing.assert_array_equal(column[:], noise)  # what could not be written is in memory
        column.attrs["late"] = "x" * 1000
    assert names_in(path.parent) == []


@contextmanager
def smaller_files(limit: int) -> Iterator[None]:
    """No file of this process may become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_what_was_there(path: Path) -> None:
    with DatasetWriter(path, make_info()) as writer:
        add(writer, 300)
    before = path.read_bytes()
    room = len(before) // 2
    with (
        pytest.raises(OutputFailed, match="take another disk, then go on with --resume"),
        DatasetWriter(path, make_info(), resume=True) as writer,
    ):
        add(writer, 100)
        with smaller_files(room):
            add(writer, 300)
    with (
        pytest.raises(OutputFailed, match="could not be written"),
        smaller_files(room),
        DatasetWriter(path, make_info(), resume=True),
    ):
        pass  # the pieces would fit, all of them joined do not
    assert path.read_bytes() == before
    with DatasetWriter(path, make_info(), resume=True) as writer:
        assert writer.transitions == 400
    assert lengths_in(path) == [301, 101]


def test_checks_between_episodes_stop_early(path: Path) -> None:
    with (
        pytest.raises(OSError, match="File too large"),
        smaller_files(1000),
        new_file(path) as file,
    ):
        file.h5["noise"] = np.zeros(10_000, np.uint8)
        file.h5.flush()
        file.check()
        raise AssertionError


@pytest.mark.parametrize(
    ("number", "mending"),
    [
        (errno.ENOSPC, "make room on that disk"),
        (errno.EROFS, "choose a folder on a disk that can be written"),
        (errno.EACCES, "choose a folder that you may write to"),
        (errno.EIO, "choose another place"),
    ],
)
def test_a_folder_that_cannot_be_made_is_a_sentence(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, mending: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(OutputFailed, match=mending), monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        DatasetWriter(path, make_info())
    assert names_in(path.parent) == []


def test_impossible_names_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match=r"File name too long.*choose a shorter name"):
        DatasetWriter(tmp_path / ("x" * 300 + ".h5"), make_info())
    with pytest.raises(OutputFailed, match=r"File name too long.*choose a shorter name"):
        DatasetWriter(tmp_path / ("x" * 250 + ".h5"), make_info())  # its folder's is longer
    (tmp_path / "file").touch()
    with pytest.raises(LatentwrapError, match="whose folders are folders"):
        DatasetWriter(tmp_path / "file" / "data.h5", make_info())
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(OutputExists, match="is a folder"):
        DatasetWriter(tmp_path / "folder.h5", make_info())
    assert names_in(tmp_path) == ["file", "folder.h5"]


def test_only_what_is_asked_for_is_named() -> None:
    with pytest.raises(FileNotFoundError), failures_named(Path("a"), only={errno.ENOSPC}):
        Path("/none/there").read_text()


def test_ctrl_c_waits_until_the_piece_is_whole(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), DatasetWriter(path, make_info()) as writer:
        add(writer, 3)
        with written_whole(path.with_name("a.h5")) as temporary, new_file(temporary) as file:
            signal.raise_signal(signal.SIGINT)
            file.h5["number"] = 3
            file.check()
            raise AssertionError
    assert [p.name for p in PartialRun.of(path).pieces] == ["00000000.h5"]
    assert names_in(path.parent) == [partial_folder(path).name]


def test_a_file_is_written_outside_of_the_main_thread_too(path: Path) -> None:
    def work() -> None:
        with DatasetWriter(path, make_info()) as writer:
            add(writer, 3)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert_same_episode(Dataset(path).episode(0), make_episode(3))
