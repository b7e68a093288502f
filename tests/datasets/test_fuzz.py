"""Thousands of damaged files, each read whole or refused in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MUTANTS = 2000


@pytest.mark.skipif(sys.platform != "linux", reason="watches files as Linux does")
def test_damaged_and_hostile_files_do_no_harm(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "fuzz_datasets.py"), "--json", "--seed", "0"]
    command += ["--mutants", str(MUTANTS), "--keep", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout, found.stderr
    result = json.loads(found.stdout)
    assert result["harmful"] == []
    assert result["opened_outside"] == 0
    assert result["outcomes"].keys() == {"read", "refused"}
    assert sum(result["outcomes"].values()) == MUTANTS
    # Damage reached what lies behind the checksums, and nothing took memory without bounds.
    assert any("damaged chunk" in reason for reason in result["reasons"])
    assert result["peak_mib"] < 500
