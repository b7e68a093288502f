"""The wheel holds what an editable install shows."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a venv that has the wheel, and all else from this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".nox", ".*cache", "runs", "build", "*.egg-info"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", cwd=source)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = Path(
        run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).strip()
    )
    wheel = next((source / "dist").glob("*.whl"))
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel,
        cwd=folder,
    )  # fmt: skip
    # A .pth file does not run other .pth files, so this checkout's editable finder stays out.
    (site / "third_party.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    return python


def test_the_wheel_is_what_is_imported(installed: Path, tmp_path: Path) -> None:
    where = run(installed, "-c", "import latentwrap; print(latentwrap.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parents[1])


def test_the_command_line_runs(installed: Path, tmp_path: Path) -> None:
    (script,) = installed.parents[1].rglob("bin/latentwrap")
    for command in ([installed, script], [installed, "-m", "latentwrap.cli"]):
        assert "pretrain" in run(*command, "--help", cwd=tmp_path)


def test_the_dataset_code_runs(installed: Path, tmp_path: Path) -> None:
    run(
        installed, "-m", "latentwrap.cli", "collect", "latentwrap/PixelPendulum-v0",
        "-o", "data.h5", "--steps", "20", cwd=tmp_path,
    )  # fmt: skip
    shown = run(installed, "-m", "latentwrap.cli", "inspect", "data.h5", cwd=tmp_path)
    assert "PixelPendulum" in shown


def test_the_template_of_the_report_is_shipped(installed: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.resources\n"
        "page = importlib.resources.files('latentwrap.evaluation').joinpath('report.html')\n"
        "print('<!DOCTYPE html>' in page.read_text(encoding='utf-8'))"
    )
    assert run(installed, "-c", code, cwd=tmp_path).strip() == "True"


def test_types_are_shipped(installed: Path, tmp_path: Path) -> None:
    code = (
        "import latentwrap, pathlib\n"
        "print(pathlib.Path(latentwrap.__file__).with_name('py.typed').exists())"
    )
    assert run(installed, "-c", code, cwd=tmp_path).strip() == "True"
