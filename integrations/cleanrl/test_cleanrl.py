"""CleanRL: its scripts, from the reader's own clone, on an environment given by `module:id`.

LATENTWRAP_CLEANRL names the folder of a clone of CleanRL. Without one, the scripts come from
CleanRL's last release on PyPI, whose SAC is for another Gym: its row says so.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from changes import DoesNotFit, changed
from conftest import CACHE, PENDULUM, run_python_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RELEASE = "1.2.0"
STEPS = 1024
NO_CLONE = (
    f"not run: the change does not fit the last release on PyPI, {RELEASE}, and "
    "LATENTWRAP_CLEANRL names no clone"
)
# What a script is called in the table, and its options; 1,024 steps, of two environments for PPO.
SCRIPTS = {
    "ppo_continuous_action": ("PPO", ("--num-envs", 2, "--num-steps", 256)),
    "sac_continuous_action": ("SAC", ("--learning-starts", 300)),
}
# CleanRL is written for Gymnasium 0.29, where this argument could be left out.
OLD_DEFAULT = """
import gymnasium

gymnasium.wrappers.TransformObservation.__init__.__defaults__ = (None,)
"""


@pytest.fixture
def clone() -> Path | None:
    """The reader's clone of CleanRL, if there is one."""
    named = os.environ.get("LATENTWRAP_CLEANRL")
    return Path(named).resolve() if named else None


@pytest.fixture
def train(
    tmp_path: Path, checkpoint: Path, run_python: Callable[..., str]
) -> Callable[..., list[float]]:
    """`train(script, …)` trains on latents and returns the returns that the script prints.

    `module` stands before the registration in the module of the environment, and `source` is
    the folder from which the script imports what else it needs of CleanRL.
    """

    def run(script: Path, *, module: str = "", source: Path | None = None) -> list[float]:
        registration = (
            "import latentwrap\n\nlatentwrap.register_latent("
            f"'LatentPendulum-v0', env_id={PENDULUM!r}, ckpt={str(checkpoint)!r})\n"
        )
        (tmp_path / "my_envs.py").write_text(module + registration, encoding="utf-8")
        path = os.pathsep.join(map(str, [tmp_path, *([source] if source else [])]))
        options = ("--env-id", "my_envs:LatentPendulum-v0", "--total-timesteps", STEPS)
        output = run_python(script, *options, *SCRIPTS[script.stem][1], PYTHONPATH=path)
        return [float(told) for told in re.findall(r"episodic_return=\[?(-?[\d.]+)", output)]

    return run


def test_ppo_unmodified(
    clone: Path | None,
    tmp_path: Path,
    train: Callable[..., list[float]],
    record: Callable[..., None],
) -> None:
    source = clone or from_pypi("cleanrl", RELEASE)
    train(source / "cleanrl" / "ppo_continuous_action.py", module=OLD_DEFAULT)
    # Without final_info, which Gymnasium 1 gives on request only, the script prints no returns.
    values, losses = (scalars(tmp_path, f"losses/{name}_loss") for name in ("value", "policy"))
    assert list(values) == list(losses) == [STEPS // 2, STEPS]
    assert np.isfinite([*values.values(), *losses.values()]).all()
    record(
        algorithm="PPO, ppo_continuous_action.py unmodified, TransformObservation's old default",
        steps=STEPS,
        result=f"value loss {values[STEPS // 2]:.2f}, then {values[STEPS]:.2f}; logs no returns",
        version=version_of(source),
    )


def test_the_old_default_is_needed(clone: Path | None, train: Callable[..., list[float]]) -> None:
    source = clone or from_pypi("cleanrl", RELEASE)
    with pytest.raises(AssertionError, match=r"missing 1 required .* 'observation_space'"):
        train(source / "cleanrl" / "ppo_continuous_action.py")


@pytest.mark.parametrize("name", SCRIPTS)
def test_changed_for_gymnasium_1(
    name: str,
    clone: Path | None,
    tmp_path: Path,
    train: Callable[..., list[float]],
    record: Callable[..., None],
) -> None:
    algorithm = f"{SCRIPTS[name][0]}, {name}.py with the change for Gymnasium 1"
    source = clone or from_pypi("cleanrl", RELEASE)
    code = (source / "cleanrl" / f"{name}.py").read_text(encoding="utf-8")
    script = tmp_path / "cleanrl" / f"{name}.py"
    script.parent.mkdir()
    try:
        script.write_text(changed(name, code), encoding="utf-8")
    except DoesNotFit:
        assert clone is None, "the change does not fit the clone: mend changes.py"
        record(algorithm=algorithm, steps=0, result=NO_CLONE, version=RELEASE)
        return
    returns = train(script, source=source)
    assert len(returns) >= STEPS // 200 - 1
    record(algorithm=algorithm, steps=STEPS, result=summary(returns), version=version_of(source))


def scalars(folder: Path, name: str) -> dict[int, float]:
    """What a script logged in `folder` for TensorBoard under `name`, by step."""
    (run,) = (folder / "runs").iterdir()
    log = EventAccumulator(str(run)).Reload()
    return {event.step: event.value for event in log.Scalars(name)}


def from_pypi(distribution: str, release: str) -> Path:
    """A folder with this release and nothing that it requires, fetched once."""
    folder = CACHE / f"{distribution}-{release}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            made = Path(temporary) / "made"
            # CleanRL excludes Python 3.11, on which its scripts run.
            options = ("--no-deps", "--ignore-requires-python", "--no-compile", "--target", made)
            run_python_in(CACHE, "-m", "pip", "install", *options, f"{distribution}=={release}")
            made.replace(folder)
    return folder


def version_of(source: Path) -> str:
    """The version that a clone or an installed folder tells; of a clone also its commit."""
    if not (source / "pyproject.toml").exists():
        return RELEASE
    told = re.search(r'^version = "(.+)"', (source / "pyproject.toml").read_text("utf-8"), re.M)
    assert told is not None
    if not (source / ".git").exists():
        return told[1]
    command = ["git", "-C", source, "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return f"{told[1]} ({commit})"


def summary(returns: list[float]) -> str:
    last = returns[-3:]
    return f"return {sum(last) / len(last):.0f} in the last {len(last)} episodes of training"
