"""Device, threads, processes and disk: what is said of what is known."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.doctor.inside import answer_inside

from latentwrap.doctor import Finding, Status
from latentwrap.doctor.cores import Cores
from latentwrap.doctor.isolated import Answer
from latentwrap.doctor.machine import (
    check_device,
    check_disk,
    check_fork,
    check_hdf5,
    check_threads,
)

GPU = {"name": "Big GPU", "memory": 80 * 2**30}


def device(
    *, asked: str = "auto", driver: bool = False, trouble: str = "", **facts: Any
) -> Finding:
    known = {"cuda": [], "cuda_build": None, "stage": "ask for CUDA", **facts}
    answer = Answer(known, trouble)
    return check_device(answer, asked=asked, processor="Abacus", memory=8 * 2**30, driver=driver)


def test_the_device_is_what_torch_computes_on() -> None:
    assert device() == Finding("device", Status.OK, "CPU: Abacus, 8.0 GiB of memory")
    found = device(cuda=[GPU], computes=True)
    assert found == Finding("device", Status.OK, "CUDA: Big GPU with 80.0 GiB")
    found = device(asked="cpu", cuda=[GPU], computes=True)
    assert found.finding.startswith("CPU: Abacus")
    assert found.status is Status.OK


@pytest.mark.parametrize(
    ("facts", "status", "words"),
    [
        ({"asked": "cuda"}, Status.ERROR, "cuda was asked for, torch finds none"),
        ({"driver": True}, Status.WARNING, "this torch has no CUDA"),
        ({"driver": True, "cuda_build": "12.8"}, Status.WARNING, "finds no CUDA device"),
        ({"cuda": [GPU], "computes": False}, Status.ERROR, "the result is wrong"),
        ({"trouble": "crashed (SIGILL)"}, Status.ERROR, "cannot ask for CUDA: crashed (SIGILL)"),
    ],
)
def test_a_device_that_does_not_work_is_said(
    facts: dict[str, Any], status: Status, words: str
) -> None:
    found = device(**facts)
    assert found.status is status
    assert words in found.finding
    assert found.mend


def threads(count: int | None, cores: Cores, **environment: str) -> Finding:
    facts = {} if count is None else {"threads": count}
    return check_threads(Answer(facts), cores, environment)


def test_threads_that_fit_are_green() -> None:
    assert threads(4, Cores(4)).status is Status.OK
    assert threads(1, Cores(4), OMP_NUM_THREADS="1").status is Status.OK
    assert threads(2, Cores(4), OMP_NUM_THREADS="2,1").status is Status.OK
    assert threads(None, Cores(4)).status is Status.SKIPPED


def test_more_threads_than_cores_are_yellow() -> None:
    found = threads(2, Cores(2), OMP_NUM_THREADS="8")
    assert found.status is Status.WARNING
    assert "OMP_NUM_THREADS asks for 8 threads on 2 cores" in found.finding
    assert found.mend == "export OMP_NUM_THREADS=2"
    found = threads(2, Cores(2), MKL_NUM_THREADS="3")
    assert found.mend == "export MKL_NUM_THREADS=2"
    found = threads(64, Cores(64, 3.5))  # a container that torch does not look at
    assert found.status is Status.WARNING
    assert "a control group grants 3.5 of 64" in found.finding
    assert found.mend == "export OMP_NUM_THREADS=4"


def test_a_variable_that_is_no_number_is_named() -> None:
    found = threads(2, Cores(2), OMP_NUM_THREADS="all")
    assert (found.status, found.mend) == (Status.WARNING, "unset OMP_NUM_THREADS")


def test_the_machine_says_what_torch_says(tmp_path: Path) -> None:
    answer = answer_inside(tmp_path, "machine")
    assert answer.trouble == ""
    assert answer.facts["torch"] == torch.__version__
    assert bool(answer.facts["cuda"]) == torch.cuda.is_available()
    assert answer.facts["start_method"] == multiprocessing.get_start_method()


def test_fork_is_safe_only_without_cuda_and_opengl() -> None:
    spawn = Answer({"start_method": "spawn", "cuda": [GPU]})
    assert check_fork(spawn, ["mujoco"]).status is Status.OK
    fork = Answer({"start_method": "fork", "cuda": []})
    assert check_fork(fork, []).status is Status.OK
    for found in (
        check_fork(fork, ["mujoco"]),
        check_fork(Answer({"start_method": "fork", "cuda": [GPU]}), []),
    ):
        assert found.status is Status.WARNING
        assert "spawn" in found.mend


@pytest.mark.parametrize(
    ("free", "status"),
    [(10 * 2**30, Status.OK), (2**30, Status.WARNING), (2**20, Status.ERROR)],
)
def test_little_disk_is_said(
    free: int, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = check_disk(tmp_path)
    assert found.status is status
    assert bool(found.mend) == (status is not Status.OK)


def test_a_folder_that_cannot_be_written_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # a test may run as root
    found = check_disk(tmp_path)
    assert found.status is Status.ERROR
    assert f"{tmp_path} cannot be written to" in found.finding


def test_a_file_that_cannot_be_read_back_is_red(tmp_path: Path) -> None:
    answer = answer_inside(tmp_path, "hdf5", folder=str(tmp_path))
    assert check_hdf5(answer).status is Status.OK
    missing = check_hdf5(answer_inside(tmp_path, "hdf5", folder=str(tmp_path / "none")))
    assert missing.status is Status.ERROR
    assert "an LZ4 file cannot write: FileNotFoundError" in missing.finding
    changed = check_hdf5(Answer({"stage": "read", "same": False}))
    assert "what is read is not what was written" in changed.finding
    assert "HDF5_PLUGIN_PATH" in changed.mend
