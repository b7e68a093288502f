"""Cores and memory that this process may use, where a container allows it less than there is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")


@dataclass(frozen=True)
class Cores:
    """Cores of this process.

    Attributes:
        affinity: cores that the system may run it on.
        quota: cores' worth of time that its control group grants; `None` for no limit.
    """

    affinity: int
    quota: float | None = None

    @property
    def usable(self) -> int:
        """How many threads can run at once.

        >>> Cores(16, 2.5).usable, Cores(2).usable
        (3, 2)
        """
        return self.affinity if self.quota is None else min(self.affinity, math.ceil(self.quota))

    def described(self) -> str:
        """In words, with what limits them."""
        noun = "core" if self.usable == 1 else "cores"
        if self.quota is None or self.quota >= self.affinity:
            return f"{self.usable} {noun}"
        return f"{self.usable} {noun} (a control group grants {self.quota:g} of {self.affinity})"


def find_cores(root: Path = _ROOT) -> Cores:
    """The cores of this process; `root` is where `proc` and `sys` are."""
    if hasattr(os, "sched_getaffinity"):
        affinity = len(os.sched_getaffinity(0))
    else:
        affinity = os.cpu_count() or 1
    quotas = [quota for folder in _groups(root, "cpu") if (quota := _quota(folder)) is not None]
    return Cores(affinity, min(quotas, default=None))


def find_memory(root: Path = _ROOT) -> int | None:
    """Bytes of memory that this process may use in all; `None` where the system does not say."""
    limits = [
        int(text)
        for folder in _groups(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _text(folder / name)).isdecimal()
    ]
    lines = _text(root / "proc/meminfo").splitlines()
    limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    return min(limits, default=None)


def find_processor(root: Path = _ROOT) -> str:
    """The processor's name, as far as the system tells."""
    import platform

    for line in _text(root / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's control group and of those around it, versions 2 and 1."""
    home = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = home / controller if controllers else home
        inner = top / path.strip("/")
        # Inside a container the path may be the host's: then only the top is there.
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def _quota(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if not quota.isdecimal() or not period.isdecimal():  # "max" and -1 are no limit
        return None
    return int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
