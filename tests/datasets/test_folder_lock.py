"""FolderLock: one writer at a time, in other processes, this one, its threads and its forks."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from latentwrap_test_data import make_episode, make_info, names_in

from latentwrap.datasets import Dataset, DatasetWriter
from latentwrap.datasets.wholeness.parts import partial_folder
from latentwrap.errors import OutputExists


def add(writer: DatasetWriter, *lengths: int) -> None:
    for steps in lengths:
        writer.add(make_episode(steps))


def lengths_in(path: Path) -> list[int]:
    return Dataset(path).lengths.tolist()


HOLDER = """
import sys
from pathlib import Path
from latentwrap.datasets.wholeness.parts import PartFolder
folder = PartFolder(Path(sys.argv[1]), resume=True)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process is writing."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"force": True}])
def test_two_processes_cannot_write_the_same(path: Path, options: dict[str, bool]) -> None:
    with held(path) as process:
        with pytest.raises(OutputExists, match="is being written by another process: wait"):
            DatasetWriter(path, make_info(), **options)
        process.communicate("")
    with DatasetWriter(path, make_info(), **options) as writer:
        add(writer, 3)
    assert names_in(path.parent) == [path.name]


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"force": True}])
def test_two_writers_of_one_process_cannot_write_the_same(
    path: Path, options: dict[str, bool]
) -> None:
    writer = DatasetWriter(path, make_info())
    add(writer, 3)
    (path.parent / "link").symlink_to(path.parent)
    for same in (path, path.parent / "link" / path.name):
        with pytest.raises(OutputExists, match="by this process already: finish or close that"):
            DatasetWriter(same, make_info(), **options)
    with held(path.with_name("other.h5")):
        pass
    with pytest.raises(OutputExists, match="by this process already"):
        DatasetWriter(path, make_info(), **options)
    refused = subprocess.run(  # the refused ones have not let the lock go
        [sys.executable, "-c", HOLDER, str(path)], check=False, capture_output=True, text=True
    )
    assert "is being written by another process" in refused.stderr
    add(writer, 4)
    writer.finish()
    assert lengths_in(path) == [4, 5]


def test_a_writer_that_was_forgotten_is_in_nobodys_way(path: Path) -> None:
    writer = DatasetWriter(path, make_info())
    add(writer, 3)
    del writer
    gc.collect()
    with DatasetWriter(path, make_info(), resume=True) as resumed:
        assert resumed.episodes == 1


def test_many_threads_at_once_are_one_writer(path: Path) -> None:
    begin = threading.Barrier(8)
    made: list[DatasetWriter] = []

    def work() -> None:
        begin.wait()
        with suppress(OutputExists):
            made.append(DatasetWriter(path, make_info()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    made[0].close()


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_fork_inherits_no_lock(path: Path) -> None:
    """It neither ends what its parent writes nor is kept from it when the parent has ended."""
    writer = DatasetWriter(path, make_info())
    add(writer, 3)
    assert in_fork(writer.close) == 0
    assert names_in(partial_folder(path)) == [".lock", "00000000.h5", "begun.json"]
    assert in_fork(lambda: DatasetWriter(path, make_info(), resume=True)) == 1

    def go_on() -> None:
        with DatasetWriter(path, make_info(), resume=True) as child:
            add(child, 4)

    def after_parent() -> None:
        ready.recv_bytes()
        go_on()

    ready, tell = multiprocessing.Pipe(duplex=False)
    child = forked(after_parent)
    writer.close()
    tell.send_bytes(b"closed")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lengths_in(path) == [4, 5]


def forked(work: Callable[[], object]) -> int:
    """The number of a child that does some work and exits with 1 if it was refused."""
    child = os.fork()
    if not child:
        code = 2
        try:
            work()
            code = 0
        except OutputExists:
            code = 1
        finally:
            os._exit(code)
    return child


def in_fork(work: Callable[[], object]) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])


def test_the_lock_dies_with_the_process(path: Path) -> None:
    with held(path) as process:
        process.kill()
    DatasetWriter(path, make_info()).close()
    assert names_in(path.parent) == []
