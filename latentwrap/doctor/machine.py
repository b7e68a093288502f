"""Device, threads, processes and disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from latentwrap.doctor.cores import Cores
from latentwrap.doctor.findings import Finding, Status, gibibytes
from latentwrap.doctor.isolated import Answer

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LITTLE_DISK, _TOO_LITTLE_DISK = 5 * 2**30, 500 * 2**20


def check_device(
    answer: Answer, *, asked: str, processor: str, memory: int | None, driver: bool
) -> Finding:
    """What torch will compute on.

    Args:
        answer: of the task `machine`.
        asked: the device that was asked for; `auto` takes CUDA where there is one.
        processor, memory: of this machine; bytes.
        driver: whether an NVIDIA device is there, whatever torch makes of it.
    """
    kind, colon, index = asked.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (colon and not index.isdecimal()):
        found = f"{asked!r} was asked for, there is no such device"
        return Finding("device", Status.ERROR, found, mend="--device auto, cpu, cuda or cuda:N")
    if answer.trouble or answer.facts.get("computes") is False:
        return _broken_device(answer)
    facts = answer.facts
    said = f"CPU: {processor}" + ("" if memory is None else f", {gibibytes(memory)} of memory")
    if facts["cuda"]:
        named = [f"{each['name']} with {gibibytes(each['memory'])}" for each in facts["cuda"]]
        cuda = f"CUDA: {', '.join(named)}"
        said = f"{said} (and {cuda})" if asked.startswith("cpu") else cuda
    elif asked.startswith("cuda"):
        mend = "--device auto, or a torch build with CUDA"
        found = f"{asked} was asked for, torch finds none"
        return Finding("device", Status.ERROR, found, mend=mend)
    elif driver:
        build = "has no CUDA" if facts["cuda_build"] is None else "finds no CUDA device"
        found = f"{said}; an NVIDIA GPU is there, but this torch {build}"
        mend = "a torch build for the GPU's driver: pytorch.org/get-started"
        return Finding("device", Status.WARNING, found, mend=mend)
    return Finding("device", Status.OK, said)


def _broken_device(answer: Answer) -> Finding:
    reason = answer.trouble or "the result is wrong"
    return Finding(
        "device",
        Status.ERROR,
        f"cannot {answer.facts.get('stage', 'import torch')}: {reason}",
        mend="pip install --force-reinstall torch, or export CUDA_VISIBLE_DEVICES= for the CPU",
    )


def has_nvidia_driver() -> bool:
    """Whether this machine has an NVIDIA GPU with a driver."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def check_threads(answer: Answer, cores: Cores, environment: Mapping[str, str]) -> Finding:
    """Whether more threads are asked for than can run at once.

    Args:
        answer: of the task `machine`.
        cores: of this process.
        environment: its variables.
    """
    for name in _THREAD_VARIABLES:
        text = environment.get(name, "").partition(",")[0].strip()
        if text and not text.isdecimal():
            said = f"{name} is {environment[name]!r}, which is no number"
            return Finding("threads", Status.WARNING, said, mend=f"unset {name}")
        if text and int(text) > cores.usable:
            return _oversubscribed(f"{name} asks for {text} threads", cores, name)
    threads = answer.facts.get("threads")
    if threads is None:
        return Finding("threads", Status.SKIPPED, f"torch does not say; {cores.described()}")
    said = f"torch uses {threads} {'thread' if threads == 1 else 'threads'}"
    if threads > cores.usable:
        return _oversubscribed(said, cores, _THREAD_VARIABLES[0])
    return Finding("threads", Status.OK, f"{said} on {cores.described()}")


def _oversubscribed(said: str, cores: Cores, variable: str) -> Finding:
    return Finding(
        "threads",
        Status.WARNING,
        f"{said} on {cores.described()}: they wait for each other",
        mend=f"export {variable}={cores.usable}",
    )


def check_fork(answer: Answer, graphics: Sequence[str]) -> Finding:
    """Whether worker processes that are forked would be safe.

    Args:
        answer: of the task `machine`.
        graphics: libraries that the environment draws with.
    """
    method = answer.facts.get("start_method", "unknown")
    if method != "fork":
        return Finding("fork", Status.OK, f"processes start by {method}, which is safe")
    reasons = ["CUDA"] if answer.facts.get("cuda") else []
    reasons += [f"what {' and '.join(graphics)} draw with"] if graphics else []
    if reasons:
        return Finding(
            "fork",
            Status.WARNING,
            f"fork is this Python's default, but {' and '.join(reasons)} does not survive one",
            mend="AsyncVectorEnv(..., context='spawn'), SubprocVecEnv(..., start_method='spawn')",
        )
    return Finding(
        "fork",
        Status.OK,
        "fork is this Python's default and safe here: no CUDA, no OpenGL; torch gets one thread in "
        "workers",
    )


def check_disk(folder: Path) -> Finding:
    """Room for datasets and runs in a folder, and whether it can be written to."""
    free = shutil.disk_usage(folder).free
    said = f"{gibibytes(free)} free in {folder}"
    if not os.access(folder, os.W_OK):
        said = f"{folder} cannot be written to"
        return Finding("disk", Status.ERROR, said, mend="cd to a folder of your own")
    if free < _LITTLE_DISK:
        status = Status.ERROR if free < _TOO_LITTLE_DISK else Status.WARNING
        mend = "free some, or write to another disk with -o: 100,000 frames may take 1 GiB"
        return Finding("disk", status, said, mend=mend)
    return Finding("disk", Status.OK, said)


def check_hdf5(answer: Answer) -> Finding:
    """Whether datasets can be written and read.

    Args:
        answer: of the task `hdf5`.
    """
    same = answer.facts.get("same")
    if answer.trouble or not same:
        reason = answer.trouble or "what is read is not what was written"
        stage = f"cannot {answer.facts['stage']}" if "stage" in answer.facts else "fails"
        return Finding(
            "HDF5", Status.ERROR, f"an LZ4 file {stage}: {reason}",
            mend="unset HDF5_PLUGIN_PATH, and pip install --force-reinstall h5py hdf5plugin",
        )  # fmt: skip
    said = f"an LZ4 file is written and read back: h5py {answer.facts['h5py']}"
    return Finding("HDF5", Status.OK, f"{said}, HDF5 {answer.facts['hdf5']}")
