"""Repeat the pendulum of Deep Variational Bayes Filters (Karl et al. 2017, arXiv:1605.06432).

    python benchmarks/pendulum_dvbf.py

500 sequences of 15 frames, 16×16 pixels, of a damped pendulum under random torques train a model;
ordinary least squares from its filtered latents to sin φ, cos φ and φ̇ is fitted on them and
scored on 500 other sequences: on frames 4 to 15, and on all (frame 1 shows no velocity, so that
no method can know it there). Mass and length 1, friction 0.5, g 9.81 are published; the paper
leaves open what is chosen here: steps of 0.1 s, torques in ±2 N·m, start angles anywhere and
start velocities in ±4 rad/s, a white bob on black.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import cv2
import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from latentwrap.datasets import Dataset, collect
from latentwrap.evaluation.regression import linear_fit, r_squared
from latentwrap.models import LatentModel, load_model
from latentwrap.training import pretrain
from latentwrap.training.statistics import filter_episodes
from latentwrap.types import AnyArray, Frame

SEQUENCES, FRAMES, SIZE = 500, 15, 16
FIRST_SCORED = 4
ENV_ID = "DVBFPendulum-v0"
PUBLISHED = {"sin φ": 0.961, "cos φ": 0.982, "φ̇": 0.916}
# What differs from the preset, for frames of 16×16, windows as long as the sequences, no rewards,
# which would tell a model where the pendulum is, and latents that least squares can read.
OPTIONS: dict[str, Any] = {
    "patch": 4,
    "batch_size": 32,
    "window": FRAMES - 1,
    "rewards": False,
    "decoder_var": 0.1,
    "blurred_weight": 1.0,
}
_BITS = 4


class DampedPendulum(gym.Env):
    """φ̈ = g sin φ − 0.5 φ̇ + u, φ = 0 upright; drawn as its bob."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    _SECONDS, _SUBSTEPS = 0.1, 10

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8)
        self.action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Frame, dict[str, Any]]:
        """Start anywhere."""
        super().reset(seed=seed, options=options)
        self._angle = self.np_random.uniform(-np.pi, np.pi)
        self._velocity = self.np_random.uniform(-4, 4)
        return self._see()

    def step(self, action: AnyArray) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """Turn under a torque for 0.1 s; there is no reward."""
        seconds = self._SECONDS / self._SUBSTEPS
        for _ in range(self._SUBSTEPS):
            torque = 9.81 * np.sin(self._angle) - 0.5 * self._velocity + float(action[0])
            self._velocity += seconds * torque
            self._angle += seconds * self._velocity
        frame, info = self._see()
        return frame, 0.0, False, False, info

    def _see(self) -> tuple[Frame, dict[str, Any]]:
        image = np.zeros((SIZE, SIZE, 1), np.uint8)
        centre, length = (SIZE - 1) / 2, 0.35 * SIZE
        place = (centre + length * np.sin(self._angle), centre - length * np.cos(self._angle))
        fixed = tuple(round(value * (1 << _BITS)) for value in place)
        cv2.circle(image, fixed, 2 << _BITS, 255, cv2.FILLED, cv2.LINE_AA, _BITS)
        state = np.float32([np.sin(self._angle), np.cos(self._angle), self._velocity])
        return image, {"state": state}


def main() -> None:
    """Train one model for each latent size and print the table."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    gym.register(ENV_ID, DampedPendulum, max_episode_steps=FRAMES - 1)
    with tempfile.TemporaryDirectory() as folder:
        data = _collect(Path(folder) / "train.h5", arguments.seed)
        test = _collect(Path(folder) / "test.h5", arguments.seed + 10_000)
        rows = [
            _measure(data, test, Path(folder), arguments, steps=arguments.steps, latent=None),
            _measure(data, test, Path(folder), arguments, steps=arguments.small_steps, latent=3),
        ]
    print(f"\n{'published, 3-dimensional':32}" + _scores(PUBLISHED))
    for row in rows:
        print(f"{row['name']:32}{_scores(row['late'])}   {row['seconds']:.0f} s")
        print(f"{'  all frames':32}{_scores(row['all'])}")
    if arguments.json:
        print(json.dumps(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=2000, help="updates of the default model")
    parser.add_argument("--small-steps", type=int, default=15_000, help="of 3 dimensions")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def _collect(path: Path, seed: int) -> Dataset:
    collect(ENV_ID, path, steps=SEQUENCES * (FRAMES - 1), seed=seed, height=SIZE, width=SIZE)
    return Dataset(path)


def _measure(
    data: Dataset,
    test: Dataset,
    folder: Path,
    arguments: argparse.Namespace,
    *,
    steps: int,
    latent: int | None,
) -> dict[str, Any]:
    started = time.monotonic()
    checkpoint = pretrain(
        data.path,
        folder / f"{latent}.safetensors",
        latent=latent,
        options={**OPTIONS, "steps": steps},
        seed=arguments.seed,
        show_progress=True,
    ).checkpoint
    seconds = time.monotonic() - started
    model = load_model(checkpoint)
    latents, states = _filtered(model, data), _states(data)
    probe = linear_fit(latents.reshape(-1, latents.shape[-1]), states.reshape(-1, 3))
    predicted, truth = probe.predict(_filtered(model, test)), _states(test)
    name = f"{model.kind}, {model.latent_size} dimensions"
    late = _r2(predicted[:, FIRST_SCORED - 1 :], truth[:, FIRST_SCORED - 1 :])
    return {"name": name, "late": late, "all": _r2(predicted, truth), "seconds": seconds}


def _filtered(model: LatentModel, dataset: Dataset) -> AnyArray:
    return np.stack(list(filter_episodes(model, dataset, np.arange(dataset.num_episodes))))


def _states(dataset: Dataset) -> AnyArray:
    return dataset.states["state"].reshape(SEQUENCES, FRAMES, 3)


def _r2(predicted: AnyArray, truth: AnyArray) -> dict[str, float]:
    scores = r_squared(predicted.reshape(-1, 3), truth.reshape(-1, 3))
    return dict(zip(PUBLISHED, map(float, scores), strict=True))


def _scores(scores: dict[str, float]) -> str:
    return "  ".join(f"{name} {score:.3f}" for name, score in scores.items())


if __name__ == "__main__":
    main()
