"""Cores and memory in control groups of both versions, as files that the kernel would show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from latentwrap.doctor.cores import Cores, find_cores, find_memory, find_processor


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def write(root: Path, **files: str) -> None:
    """Files below `root`; `__` in a name stands for a slash and `_DOT_` for a dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_without_a_control_group_the_affinity_counts(tmp_path: Path) -> None:
    assert find_cores(tmp_path) == Cores(16, None)
    assert find_memory(tmp_path) is None


def test_version_2_takes_the_smallest_of_all_groups_around(tmp_path: Path) -> None:
    write(
        tmp_path,
        proc__self__cgroup="0::/outer/inner\n",
        proc__meminfo="MemTotal:        8388608 kB\nMemFree: 1 kB\n",
        sys__fs__cgroup__outer__cpu_DOT_max="150000 100000\n",
        sys__fs__cgroup__outer__inner__cpu_DOT_max="max 100000\n",
        sys__fs__cgroup__cpu_DOT_max="400000 100000\n",
        sys__fs__cgroup__outer__memory_DOT_max="2147483648\n",
        sys__fs__cgroup__outer__inner__memory_DOT_max="max\n",
    )
    cores = find_cores(tmp_path)
    assert cores == Cores(16, 1.5)
    assert cores.usable == 2
    assert cores.described() == "2 cores (a control group grants 1.5 of 16)"
    assert find_memory(tmp_path) == 2 * 2**30


def test_version_1_reads_its_controllers(tmp_path: Path) -> None:
    write(
        tmp_path,
        proc__self__cgroup="5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n",
        proc__meminfo="MemTotal:        8388608 kB\n",
        sys__fs__cgroup__cpu__cpu_DOT_cfs_quota_us="50000\n",
        sys__fs__cgroup__cpu__cpu_DOT_cfs_period_us="100000\n",
        sys__fs__cgroup__memory__memory_DOT_limit_in_bytes="9223372036854771712\n",
    )
    assert find_cores(tmp_path) == Cores(16, 0.5)
    assert find_cores(tmp_path).described() == "1 core (a control group grants 0.5 of 16)"
    assert find_memory(tmp_path) == 8 * 2**30


def test_no_quota_of_version_1_is_no_limit(tmp_path: Path) -> None:
    write(
        tmp_path,
        proc__self__cgroup="4:cpu:/\n",
        sys__fs__cgroup__cpu__cpu_DOT_cfs_quota_us="-1\n",
        sys__fs__cgroup__cpu__cpu_DOT_cfs_period_us="100000\n",
    )
    assert find_cores(tmp_path) == Cores(16, None)


def test_the_processor_has_a_name(tmp_path: Path) -> None:
    write(tmp_path, proc__cpuinfo="processor : 0\nmodel name\t: Abacus 3000\n")
    assert find_processor(tmp_path) == "Abacus 3000"
