"""Pictures and videos show what they say."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np
import pytest

from latentwrap import LatentFilter, LatentObservation
from latentwrap.agents import RandomAgent
from latentwrap.datasets import Episode
from latentwrap.errors import ConfigError, MissingExtra
from latentwrap.evaluation.pictures import (
    draw_return_curve,
    reconstruct_episode,
    reconstruction_strip,
)
from latentwrap.evaluation.video import record_video
from latentwrap.models import LatentModel
from latentwrap.types import Frame

RNG = np.random.default_rng(0)
EPISODE = Episode(
    frames=RNG.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8),
    actions=RNG.uniform(-2, 2, (5, 1)).astype(np.float32),
    rewards=None,
    terminated=False,
    truncated=True,
)


def test_reconstructions_are_what_the_filter_believes(tiny_model: LatentModel) -> None:
    latents = LatentFilter(tiny_model)
    latents.reset(EPISODE.frames[0])
    expected = [latents.reconstruct()[0]]
    for action, frame in zip(EPISODE.actions, EPISODE.frames[1:], strict=True):
        latents.step(action, frame)
        expected.append(latents.reconstruct()[0])
    np.testing.assert_array_equal(reconstruct_episode(tiny_model, EPISODE), expected)


def test_the_strip_has_frames_above_reconstructions(tiny_model: LatentModel) -> None:
    strip = reconstruction_strip(tiny_model, EPISODE, count=3)
    assert strip.shape == (2 * 16 + 2, 3 * 16 + 2 * 2, 3)
    np.testing.assert_array_equal(strip[:16, :16], EPISODE.frames[0])
    np.testing.assert_array_equal(strip[:16, -16:], EPISODE.frames[-1])
    reconstruction = reconstruct_episode(tiny_model, EPISODE)
    np.testing.assert_array_equal(strip[18:, -16:], reconstruction[-1])


def test_the_return_curve_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    draw_return_curve(path, [1, 2, 3], [-3.0, -2.0, -1.0], title="test", baseline=-4.0)
    picture = cv2.imread(str(path))
    assert picture.shape[0] > 300
    assert picture.std() > 5


def test_a_missing_matplotlib_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"latentwrap\[report\]"):
        draw_return_curve(tmp_path / "curve.png", [1], [1.0], title="test")


def frames_of(video: Path) -> list[Frame]:
    """All frames of a video, RGB."""
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_videos_show_frame_and_reconstruction(
    tmp_path: Path, pendulum: gym.Env, tiny_model: LatentModel, suffix: str
) -> None:
    env = LatentObservation(gym.wrappers.TimeLimit(pendulum, 5), tiny_model)
    path = tmp_path / f"play{suffix}"
    record_video(path, RandomAgent(env.action_space, 0), env, episodes=2, seed=0)
    pictures = frames_of(path)
    assert len(pictures) == 2 * 6
    height, width = pictures[0].shape[:2]
    assert height == 256
    assert width > 2 * height - 1
    left = pictures[-1][:, :256].astype(float)
    shown = cv2.resize(env.frame, (256, 256), interpolation=cv2.INTER_NEAREST)
    assert np.abs(left - shown).mean() < 12  # the codec is lossy


def test_another_ending_is_refused(
    tmp_path: Path, pendulum: gym.Env, tiny_model: LatentModel
) -> None:
    env = LatentObservation(pendulum, tiny_model)
    with pytest.raises(ConfigError, match=r"must end in \.mp4 or \.gif"):
        record_video(
            tmp_path / "play.avi", RandomAgent(env.action_space, 0), env, episodes=1, seed=0
        )
