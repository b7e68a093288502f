"""A process that reads files from strangers first, so that a crash or a hang happens there."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import latentwrap
from latentwrap.errors import DatasetError

if TYPE_CHECKING:
    from latentwrap.datasets.guarding.opening import FileIdentity

BOOT = """
import importlib, json, sys, types
told = json.loads(sys.argv[1])
sys.path[:] = told["path"]
for name, folder in told["packages"].items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
importlib.import_module(told["module"]).serve()
"""
"""What the process runs: two packages are named but not executed, so that it stays small."""

DECODED_PER_SECOND = 20_000_000
"""Bytes that any machine decodes, twice; a usual one ten times as many."""

RACY_SECONDS = 2
"""A file changed so recently may change again without another time of change."""

_QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}


@dataclass(frozen=True)
class Limits:
    """What reading one file may take.

    What must not take long is limited by computing alone, however busy the machine is; the limit
    on all seconds ends what waits for ever.

    Attributes:
        cpu: seconds of computing.
        wall: seconds altogether.
        memory: bytes beyond what the process has anyway.
        decoding: seconds of computing beyond `cpu` that what it claims to hold may add.
    """

    cpu: int
    wall: int
    memory: int
    decoding: int = 0

    @classmethod
    def of(cls, size: int) -> Limits:
        """Generous for a sound file of so many bytes, on a slow and busy machine.

        A column of a few hundred bytes takes longer for its size than a large one, and following
        LZF up to 0.4 s a megabyte. How large the columns claim to be matters too, up to a thousand
        times the size of the file, which is more than gzip can reach, and up to ten minutes.
        """
        cpu = 2 + min(size, 100_000_000) // 500_000 + size // 2_000_000
        decoding = min(1000 * size // DECODED_PER_SECOND, 600)
        return cls(cpu, wall=60 + 4 * (cpu + decoding), memory=2**31, decoding=decoding)

    def of_all(self) -> Limits:
        """Where everything is going to be decoded, however large it claims to be."""
        return replace(self, cpu=self.cpu + self.decoding, decoding=0)


class Prober:
    """Asks the process, and starts it when it is first needed.

    The process forks for every file, so that each is read by a fresh one under its own limits
    and nothing that goes wrong there is left over. Where there is no fork it reads by itself, is
    replaced when it dies, and knows no limit but the time.

    Args:
        limits: for every file; `None` takes `Limits.of` its size.
        fork: whether to fork.
    """

    def __init__(self, limits: Limits | None = None, *, fork: bool = hasattr(os, "fork")) -> None:
        self._limits = limits
        self._fork = fork
        self._lock = threading.Lock()
        self._passed: set[tuple[FileIdentity, str]] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def examine(self, path: Path, identity: FileIdentity, rules: str) -> None:
        """Have a file examined, unless it has passed already.

        Args:
            path: the file, as the user wrote it.
            identity: what the file is at this moment.
            rules: a key of `latentwrap.datasets.guarding.rules.RULES`.

        Raises:
            DatasetError: it is refused.
        """
        if (identity, rules) in self._passed:
            return
        limits = self._limits or Limits.of(identity.size)
        request = {
            "name": str(path),
            "path": identity.path,
            "rules": rules,
            "fork": self._fork,
            "limits": {**asdict(limits), "decoded_per_second": DECODED_PER_SECOND},
        }
        with self._lock:
            answer = self._ask(request, limits)
        if answer.get("died"):
            raise DatasetError(_epitaph(path, answer["died"], limits))
        if answer.get("refusal"):
            raise DatasetError(answer["refusal"])
        if time.time() - identity.modified / 1e9 > RACY_SECONDS:
            self._passed.add((identity, rules))

    def close(self) -> None:
        """End the process; the next file starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        _close_pipes(process)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def forget(self) -> None:
        """Leave the process to the one that this process was forked from."""
        self._lock = threading.Lock()
        process, self._process = self._process, None
        if process is None:
            return
        process.returncode = 0  # not ours to wait for
        _close_pipes(process)

    def _ask(self, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
        """The answer; a process that was already gone when it was asked is replaced once."""
        line = json.dumps(request).encode() + b"\n"
        answer = self._answer(line, limits)
        if answer is None and self._fork:
            answer = self._answer(line, limits)
        return {"died": "at once"} if answer is None else answer

    def _answer(self, line: bytes, limits: Limits) -> dict[str, Any] | None:
        process = self._process = self._process or start_child(
            "latentwrap.datasets.guarding.probe_child"
        )
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        watch = threading.Timer(limits.wall, process.kill)
        try:
            if not self._fork:
                watch.start()
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        except BaseException:
            self._kill()  # a late answer must not be taken for that to the next question
            raise
        finally:
            watch.cancel()
        if not answer:
            self._kill()
            return None
        found: dict[str, Any] = json.loads(answer)
        return found

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        self.close()


@cache
def prober() -> Prober:
    """This process's own, which ends with it."""
    found = Prober()
    atexit.register(found.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=found.forget)
    return found


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # what was not written any more is lost
                pipe.close()


def start_child(module: str) -> subprocess.Popen[bytes]:
    """Start a process that runs `serve` of a module, and is asked and answers through pipes."""
    folder = Path(latentwrap.__path__[0])
    told = {
        "module": module,
        "path": [entry or str(Path.cwd()) for entry in sys.path],
        "packages": {
            "latentwrap": str(folder),
            "latentwrap.datasets": str(Path(__file__).parents[1]),
        },
    }
    return subprocess.Popen(  # noqa: S603 - this very Python
        [sys.executable, "-I", "-c", BOOT, json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_QUIET},
    )


def _epitaph(path: Path, cause: str, limits: Limits) -> str:
    """What became of the process that read a file."""
    if cause in ("SIGXCPU", "SIGALRM"):
        return (
            f"{path} kept the HDF5 library busy for more than {limits.cpu} s, so it is damaged or "
            "made to harm: get it anew."
        )
    return (
        f"{path} crashed the process that reads files first ({cause}), so it is damaged or made "
        "to harm: get it anew."
    )
