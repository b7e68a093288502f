"""Memory against a peer's buffer, autoreset, and checkpoints that fit or do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from tests.conftest import make_tiny_model
from tests.doctor.inside import answer_inside

from latentwrap.doctor import Finding, Status
from latentwrap.doctor.fitting import ReplaySize, check_autoreset, check_fit, check_replay
from latentwrap.doctor.isolated import Answer
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.models import save_model
from latentwrap.pixels import FrameSpec


def peer_bytes(space: spaces.Space) -> int:
    """Of the observations in a replay of ten transitions of Stable-Baselines3."""
    buffer = ReplayBuffer(10, space, spaces.Box(-1, 1, (1,)))
    return int(buffer.observations.nbytes + buffer.next_observations.nbytes)


def test_the_sizes_are_those_of_a_peers_replay() -> None:
    size = ReplaySize([(96, 64, 3)], 80, transitions=10)
    assert size.pixels == peer_bytes(spaces.Box(0, 255, (9, 96, 64), np.uint8))
    assert size.latents == peer_bytes(spaces.Box(-10, 10, (80,)))


def test_a_million_transitions_by_hand() -> None:
    size = ReplaySize([(96, 96, 3)], 160)
    assert size.pixels == 165_888_000_000  # 27,648 bytes, 3 frames, twice
    assert size.latents == 1_280_000_000  # 640 bytes, twice
    assert ReplaySize([(10, 10, 3), (5, 4, 1)], 1, transitions=1).pixels == 320 * 3 * 2
    found = check_replay(size, 16 * 2**30)
    assert found.status is Status.OK
    for words in ("1,000,000", "154.5 GiB in pixels (96×96×3 × 3 stacked × 2)", "1.2 GiB in lat"):
        assert words in found.finding


def test_a_replay_that_does_not_fit_is_yellow() -> None:
    found = check_replay(ReplaySize([(64, 64, 3)], 160), 1_280_000_000)
    assert found.status is Status.WARNING
    assert found.mend.endswith("--set buffer_size=500000")


def autoreset(trouble: str = "", **facts: Any) -> Finding:
    known = {"gymnasium": "1.4.0", "offered": ["NEXT_STEP", "SAME_STEP"], "kind": "SyncVectorEnv"}
    return check_autoreset(Answer({**known, **facts}, trouble))


def test_the_autoreset_mode_is_said() -> None:
    found = autoreset(mode="SAME_STEP")
    assert found.status is Status.OK
    assert found.finding.startswith("SAME_STEP of its SyncVectorEnv")
    assert found.finding.endswith("Gymnasium 1.4.0 has NEXT_STEP, SAME_STEP")
    found = autoreset(mode=None)
    assert found.status is Status.WARNING
    assert "taken for NEXT_STEP" in found.finding
    old = autoreset(mode=None, offered=[], gymnasium="1.0.0")
    assert old.status is Status.OK
    assert "NEXT_STEP of its" in old.finding
    assert old.finding.endswith("Gymnasium 1.0.0 has NEXT_STEP")
    failed = autoreset("TypeError: no vectors")
    assert failed.status is Status.WARNING
    assert "gymnasium.make_vec fails: TypeError: no vectors" in failed.finding


def fit(path: Path, env_id: str | None = PIXEL_PENDULUM, **options: Any) -> Finding:
    arguments = {"ckpt": str(path), "device": "cpu", "env_id": env_id, "seed": 0}
    answer = answer_inside(path.parent, "fit", **arguments, options=options)
    return check_fit(answer, with_environment=env_id is not None, env_id=PIXEL_PENDULUM)


def save(path: Path, **model: Any) -> Path:
    save_model(path, make_tiny_model(**model), training={})
    return path


def test_a_checkpoint_that_fits_is_timed(tmp_path: Path) -> None:
    found = fit(save(tmp_path / "m.safetensors"))
    assert found.status is Status.OK
    assert "rssm with 8 latent dimensions from frames of 16×16×3 fits" in found.finding
    assert "ms a step" in found.finding


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"action_space": spaces.Discrete(3)}, "expects the action space Discrete(3)"),
        ({"frame": FrameSpec(height=16, width=16, channels=1)}, "channels"),
        (
            {"frame": FrameSpec(height=16, width=32, source_height=100, source_width=200)},
            "aspect ratio 200:100",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_red(
    model: dict[str, Any], words: str, tmp_path: Path
) -> None:
    found = fit(save(tmp_path / "m.safetensors", **model))
    assert found.status is Status.ERROR
    assert words in found.finding
    assert found.mend.endswith(f"latentwrap collect {PIXEL_PENDULUM} -o data.h5")


def test_checkpoints_that_cannot_be_read_are_red(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"\x80\x04K\x01.")
    for path in (foreign, tmp_path / "none.safetensors"):
        found = fit(path)
        assert found.status is Status.ERROR
        assert str(path) in found.finding
        assert "latentwrap pretrain" in found.mend


def test_without_an_environment_the_checkpoint_is_only_read(tmp_path: Path) -> None:
    found = fit(save(tmp_path / "m.safetensors"), env_id=None)
    assert found.status is Status.WARNING
    assert "no environment to fit it to" in found.finding


def test_latents_that_are_not_finite_are_red() -> None:
    facts = {"kind": "rssm", "size": 8, "frame": [16, 16, 3], "finite": False, "seconds": 0.1}
    found = check_fit(Answer({**facts, "device": "cpu"}), with_environment=True, env_id="E-v0")
    assert found.status is Status.ERROR
    assert "NaN" in found.finding


def test_no_checkpoint_is_no_fault() -> None:
    found = check_fit(None, with_environment=True, env_id="E-v0")
    assert found.status is Status.SKIPPED
