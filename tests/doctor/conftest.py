"""Ill environments that the doctor's processes can import."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importable by the processes, because the doctor hands its path over."""
    monkeypatch.syspath_prepend(HERE / "fakes")
    monkeypatch.syspath_prepend(HERE)
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
