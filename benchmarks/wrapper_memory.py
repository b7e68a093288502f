"""Resident memory over a million steps of the wrapper, with a tiny model.

    python benchmarks/wrapper_memory.py [--steps 1000000]

Floor: none grows. Prints memory after 10,000 steps and ten times from there on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from latentwrap import LatentObservation
from latentwrap.actions import ActionSpec
from latentwrap.models import build_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec

SIDE = 16
WARM_UP = 10_000


class Static(gym.Env[np.ndarray, np.ndarray]):
    """Shows noise drawn once, and ends every 100 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.action_space = spaces.Box(-1, 1, (1,))
        self._frames = np.random.default_rng(0).integers(0, 256, (101, SIDE, SIDE, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:  # noqa: ARG002
        """Show the first."""
        super().reset(seed=seed)
        self._step = 0
        return self._frames[0], {}

    def step(self, action: np.ndarray) -> tuple:  # noqa: ARG002
        """Show the next."""
        self._step += 1
        return self._frames[self._step], 0.0, False, self._step == 100, {}


def main() -> None:
    """Step and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1_000_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    env = LatentObservation(Static(), tiny_model(), diagnostics=False)
    action = np.zeros(1, np.float32)
    env.reset(seed=0)
    began, marks = time.monotonic(), range(WARM_UP, arguments.steps + 1, arguments.steps // 10)
    first = 0.0
    print(f"{'steps':>10} {'resident':>12} {'since':>10}")
    for step in range(1, arguments.steps + 1):
        if env.step(action)[3]:
            env.reset()
        if step in marks or step == arguments.steps:
            resident = resident_mib()
            first = first or resident
            print(f"{step:>10} {resident:>8.1f} MiB {resident - first:>+6.1f} MiB", flush=True)
    print(f"{arguments.steps / (time.monotonic() - began):.0f} steps/s")


def tiny_model() -> torch.nn.Module:
    """Untrained, with statistics: it filters whatever it sees."""
    options = {"network": "patch", "patch": 8, "widths": (4, 8), "features": 12}
    model = build_model(
        "rssm",
        {**options, "hidden": (16,), "memory": 8, "stochastic": 4},
        frame_spec=FrameSpec(height=SIDE, width=SIDE),
        action_spec=ActionSpec(spaces.Box(-1, 1, (1,))),
        generator=torch.Generator().manual_seed(0),
    )
    size = model.latent_size
    model.normalizer = LatentNormalizer(np.zeros(size, np.float32), np.ones(size, np.float32))
    return model.eval()


def resident_mib() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
