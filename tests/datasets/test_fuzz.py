"""Thousands of damaged files, each read whole or refused in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MUTANTS = 2000
FOREIGN_MUTANTS = 300


@pytest.mark.skipif(sys.platform != "linux", reason="watches files as Linux does")
def test_damaged_and_hostile_files_do_no_harm(tmp_path: Path) -> None:
    result = fuzzed("datasets", MUTANTS, tmp_path)
    # Damage reached what lies behind the checksums, and nothing took memory without bounds.
    assert any("damaged chunk" in reason for reason in result["reasons"])
    assert result["peak_mib"] < 500


@pytest.mark.skipif(sys.platform != "linux", reason="watches files as Linux does")
def test_damaged_files_of_other_projects_do_no_harm(tmp_path: Path) -> None:
    result = fuzzed("importers", FOREIGN_MUTANTS, tmp_path)
    assert len(result["origins_read"]) == 8  # of each kind some, so the seeds are sound
    assert result["outcomes"]["refused"] > FOREIGN_MUTANTS / 5


def fuzzed(what: str, mutants: int, folder: Path) -> dict[str, Any]:
    """The result of a run in which nothing did harm."""
    command = [sys.executable, str(BENCHMARKS / "fuzz_datasets.py"), "--json", "--seed", "0"]
    command += ["--what", what, "--mutants", str(mutants), "--keep", str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout, found.stderr
    result: dict[str, Any] = json.loads(found.stdout)
    assert result["harmful"] == []
    assert result["opened_outside"] == 0
    assert result["outcomes"].keys() == {"read", "refused"}
    assert sum(result["outcomes"].values()) == mutants
    return result
