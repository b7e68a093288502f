"""Makes the helpers of tests/support importable, here and in spawned workers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[1] / "support"

# Spawned workers get this process's sys.path; a script that a test starts gets PYTHONPATH.
sys.path.insert(0, str(SUPPORT))


@pytest.fixture(autouse=True)
def support_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where to write a dataset."""
    return tmp_path / "data.h5"
