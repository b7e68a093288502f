"""What the tests of all libraries share."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "integrations" / ".cache"
PENDULUM = "latentwrap/PixelPendulum-v0"

# The name in the published table, and the distribution that tells the version.
LIBRARIES = {
    "cleanrl": ("CleanRL", "cleanrl"),
    "d3rlpy": ("d3rlpy", "d3rlpy"),
    "rllib": ("RLlib", "ray"),
    "sb3": ("Stable-Baselines3", "stable-baselines3"),
    "sb3_contrib": ("sb3-contrib", "sb3-contrib"),
    "sbx": ("SBX", "sbx-rl"),
    "skrl": ("skrl", "skrl"),
    "tianshou": ("Tianshou", "tianshou"),
    "torchrl": ("TorchRL", "torchrl"),
    "zoo": ("RL Baselines3 Zoo", "rl-zoo3"),
}


def run_python_in(folder: Path, *args: object, timeout: float = 1800, **environment: str) -> str:
    """Run this interpreter with `args` in `folder`; its standard output, stripped.

    Args:
        folder: the working directory.
        args: of the interpreter, a script or `-m module` first.
        timeout: in seconds.
        environment: variables on top of this process's.

    A failure shows what was written.
    """
    command = [sys.executable, *map(str, args)]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    shown = f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    assert done.returncode == 0, shown
    return done.stdout.strip()


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """A small pretrained model of PixelPendulum, made once for all libraries."""
    path = CACHE / "pendulum.safetensors"
    if not is_loadable(path):
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            made = make_checkpoint(Path(folder))
            made.replace(path)  # in one piece, should two sessions make it at once
    return path


def is_loadable(path: Path) -> bool:
    """Whether there is a checkpoint that this version of latentwrap reads."""
    from latentwrap import LatentwrapError, load_model  # torch, only where it is needed

    try:
        load_model(path)
    except LatentwrapError:
        return False
    return True


def make_checkpoint(folder: Path) -> Path:
    """Collect and pretrain as a user would, only shorter."""
    latentwrap = ("-m", "latentwrap.cli")
    run_python_in(folder, *latentwrap, "collect", PENDULUM, "-o", "data.h5", "--steps", 2000)
    pretrain = ("pretrain", "data.h5", "-o", "model.safetensors", "--steps", 40)
    run_python_in(folder, *latentwrap, *pretrain)
    return folder / "model.safetensors"


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., str]:
    """`run_python(*args, timeout=…, NAME=…)` runs the interpreter in the test's own folder."""

    def run(*args: object, **options: object) -> str:
        return run_python_in(tmp_path, *args, **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def run_example(run_python: Callable[..., str]) -> Callable[..., str]:
    """`run_example("sb3_pendulum", "--steps", 1000)` runs `examples/sb3_pendulum.py`.

    Returns its standard output, whose last line begins with `Return`.
    """

    def run(name: str, *args: object, **options: object) -> str:
        output = run_python(ROOT / "examples" / f"{name.removesuffix('.py')}.py", *args, **options)
        assert output.splitlines()[-1].startswith("Return"), output
        return output

    return run


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`record(algorithm=…, steps=…, result=…)` writes a row of the published table.

    The row is appended to the file that LATENTWRAP_RESULTS names, if it names one. The version
    is that of the installed distribution, unless `version=…` tells it.
    """
    name, distribution = LIBRARIES[request.path.parent.name]

    def write(*, algorithm: str, steps: int, result: str, version: str | None = None) -> None:
        row = {
            "library": name,
            "version": version or installed(distribution),
            "algorithm": algorithm,
            "steps": steps,
            "result": result,
            "date": datetime.now(tz=timezone.utc).date().isoformat(),
            "python": platform.python_version(),
            "gymnasium": installed("gymnasium"),
        }
        if path := os.environ.get("LATENTWRAP_RESULTS"):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    return write


@pytest.fixture
def train_example(
    checkpoint: Path, run_example: Callable[..., str], record: Callable[..., None]
) -> Callable[..., None]:
    """`train_example("SAC", "sbx_pendulum", …)` trains in an example and records the row.

    For examples that take `--model`, `--steps` and `--episodes`, and end with a line
    `Return … after N steps.`
    """

    def train(algorithm: str, name: str, *args: object, steps: int = 1000) -> None:
        options = ("--model", checkpoint, "--steps", steps, "--episodes", 3)
        line = run_example(name, *options, *args).splitlines()[-1]
        told = re.fullmatch(r"Return (.+) after (\d+) steps\.", line)
        assert told is not None, line
        assert int(told[2]) >= steps
        record(algorithm=algorithm, steps=int(told[2]), result=f"return {told[1]}")

    return train


def installed(distribution: str) -> str:
    """The version of an installed distribution; `not installed` if it is not."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
