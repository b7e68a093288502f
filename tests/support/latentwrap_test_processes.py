"""Processes that pretrain together, each with one thread, started without torchrun."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

SECONDS = 240
"""After which processes that hang are killed."""


@dataclass(frozen=True)
class Job:
    """A call of `pretrain`.

    Attributes:
        name: of the job.
        arguments: of `pretrain`.
        trouble: what befalls the last process, a key of `TROUBLES`.
    """

    name: str
    arguments: dict[str, Any]
    trouble: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a job in one process.

    Attributes:
        result: of `pretrain`.
        error, words: the class of an error, and its message.
        files: in the folder that is the process's own, after the job.
    """

    result: Any = None
    error: str = ""
    words: str = ""
    files: list[str] = field(default_factory=list)


def run_together(jobs: Sequence[Job], *, count: int = 2) -> dict[str, list[Outcome]]:
    """Do all jobs, one after the other, in `count` processes; outcomes by job and rank.

    Each works in a folder of its own, as on a machine of its own. A process that died has no
    outcome of the last job.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = [(rank, count, list(jobs), Path(folder)) for rank in range(count)]
        started = [context.Process(target=_work, args=each) for each in arguments]
        for process in started:
            process.start()
        try:
            for process in started:
                process.join(SECONDS)
            assert [process.exitcode for process in started] == [0] * count
        finally:
            for process in started:
                process.kill()
                process.join()
        found = [pickle.loads((Path(folder) / str(rank)).read_bytes()) for rank in range(count)]  # noqa: S301
    return {job.name: [each[i] for each in found if i < len(each)] for i, job in enumerate(jobs)}


def _work(rank: int, count: int, jobs: list[Job], folder: Path) -> None:
    import torch
    import torch.distributed as dist

    warnings.simplefilter("error")
    torch.set_num_threads(1)
    # A file takes no port that others might have.
    met = f"file://{folder / 'met'}"
    dist.init_process_group("gloo", init_method=met, rank=rank, world_size=count)
    home, outcomes = folder / f"home of {rank}", []
    home.mkdir()
    os.chdir(home)
    for job in jobs:
        outcome = _do(job, last=rank == count - 1)
        files = sorted(path.name for path in home.iterdir())
        outcomes.append(replace(outcome, files=files))
        (folder / str(rank)).write_bytes(pickle.dumps(outcomes))
    dist.destroy_process_group()


def _do(job: Job, *, last: bool) -> Outcome:
    from latentwrap import LatentwrapError
    from latentwrap.training import pretrain

    arguments = dict(job.arguments)
    trouble = TROUBLES[job.trouble] if job.trouble and last else contextlib.nullcontext
    try:
        with trouble():
            return Outcome(result=pretrain(**arguments))
    except (LatentwrapError, OSError) as error:
        return Outcome(error=type(error).__name__, words=str(error))


@contextlib.contextmanager
def _replaced(owner: Any, name: str, at: int, act: Callable[..., Any]) -> Iterator[None]:
    """Let call number `at` of a method do something else, with the method and its arguments."""
    plain, calls = getattr(owner, name), []

    def changed(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        called = len(calls) == at
        return act(plain, *args, **kwargs) if called else plain(*args, **kwargs)

    setattr(owner, name, changed)
    try:
        yield
    finally:
        setattr(owner, name, plain)


def _nan() -> contextlib.AbstractContextManager[None]:
    """A loss that is NaN in the 8th update."""
    from latentwrap.training.processes import ConnectedProcesses

    def broken(plain: Any, self: Any, loss: Any, share: Any) -> None:
        plain(self, loss * float("nan"), share)

    return _replaced(ConnectedProcesses, "backward", 8, broken)


def _damage() -> contextlib.AbstractContextManager[None]:
    """A file that cannot be read for the third update."""
    from latentwrap.datasets import WindowSampler
    from latentwrap.errors import DatasetError

    def damaged(plain: Any, self: Any) -> None:
        raise DatasetError("data.h5 is damaged.")

    return _replaced(WindowSampler, "sample", 3, damaged)


def _ctrl_c() -> contextlib.AbstractContextManager[None]:
    """Ctrl-C in the 8th update."""
    from latentwrap.training.trainer import Trainer

    def pressed(plain: Any, self: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return plain(self)

    return _replaced(Trainer, "step", 8, pressed)


def _death() -> contextlib.AbstractContextManager[None]:
    """The end of the process where the others wait for its gradients, in the third update."""
    from latentwrap.training.processes import ConnectedProcesses

    return _replaced(ConnectedProcesses, "backward", 3, lambda *_: os._exit(0))


TROUBLES = {"nan": _nan, "damage": _damage, "ctrl-c": _ctrl_c, "death": _death}
