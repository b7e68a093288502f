"""Videos of an agent: the frame beside what the model believes it sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from latentwrap.agents import Predictor
from latentwrap.errors import ConfigError
from latentwrap.extras import require
from latentwrap.files import written_whole
from latentwrap.pixels import tile
from latentwrap.progress import bar
from latentwrap.types import Frame
from latentwrap.wrappers import LatentObservation
from latentwrap.wrappers.history import HistoryObservation

_MIN_HEIGHT = 256

Watched: TypeAlias = LatentObservation | HistoryObservation
"""An environment that tells what its model believes to see."""


def record_video(
    path: Path,
    agent: Predictor,
    env: Watched,
    *,
    episodes: int,
    seed: int | None,
    show_progress: bool = False,
) -> None:
    """Play episodes with the mean action into an MP4 or GIF file.

    Args:
        path: ends in `.mp4` or `.gif`; replaced when the new video is whole.
        agent: acts on latents.
        env: its frames and reconstructions are shown side by side.
        episodes: how many, one after the other.
        seed: of the first episode; the next ones count up.
        show_progress: draw a progress bar on standard error.

    Raises:
        MissingExtra: imageio or its ffmpeg is not installed.
        ConfigError: another ending.
    """
    check_video(path)
    with (
        bar("Recording frames", None, show=show_progress) as progress,
        _writer(path, fps=_frames_per_second(env)) as write,
    ):
        for episode in range(episodes):
            for picture in _play(agent, env, None if seed is None else seed + episode):
                write(picture)
                progress.advance()


def check_video(path: Path) -> None:
    """Refuse a path that no video can be written to, before time is spent on one.

    Raises:
        MissingExtra: imageio or its ffmpeg is not installed.
        ConfigError: an ending other than `.mp4` or `.gif`.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise ConfigError(f"A video must end in .mp4 or .gif, got {path}.")
    require("imageio", extra="report", purpose="A video")
    if path.suffix == ".mp4":
        require("imageio_ffmpeg", extra="report", purpose="An MP4 video")


def _play(agent: Predictor, env: Watched, seed: int | None) -> Iterator[Frame]:
    latent, _ = env.reset(seed=seed)
    yield _side_by_side(env)
    done = False
    while not done:
        action, _ = agent.predict(latent, deterministic=True)
        latent, _, terminated, truncated, _ = env.step(action)
        yield _side_by_side(env)
        done = terminated or truncated


def _side_by_side(env: Watched) -> Frame:
    """Frame and reconstruction, enlarged to a size that players show well."""
    pair = np.stack([env.frame, env.reconstruct()])
    if pair.shape[-1] == 1:
        pair = np.repeat(pair, 3, axis=-1)
    factor = max(1, -(-_MIN_HEIGHT // pair.shape[1]))
    sheet = tile(pair, columns=2)
    height, width = sheet.shape[0] * factor, sheet.shape[1] * factor
    enlarged = cv2.resize(sheet, (width, height), interpolation=cv2.INTER_NEAREST)
    # The codec wants even sizes.
    return np.ascontiguousarray(enlarged[: height - height % 2, : width - width % 2])


@contextmanager
def _writer(path: Path, *, fps: int) -> Iterator[Any]:
    imageio = require("imageio.v2", extra="report", purpose="A video")
    mp4: dict[str, Any] = {"fps": fps, "macro_block_size": 2}
    options = mp4 if path.suffix == ".mp4" else {"duration": 1000 / fps, "loop": 0}
    with written_whole(path) as temporary, imageio.get_writer(temporary, **options) as writer:
        yield writer.append_data


def _frames_per_second(env: Watched) -> int:
    rate = env.metadata.get("render_fps") or 30
    return max(1, round(rate / env.frame_skip))
