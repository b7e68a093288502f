"""A step of the filter by torch and by exported graphs, for one stream and for many.

    OMP_NUM_THREADS=1 python benchmarks/exported_filter.py [--streams 1 32] [--steps 300]

Models are untrained, of 64x64 RGB frames and two actions; frames are noise. Medians in microseconds
of whole `step` calls on one thread, both ways in turn for 50 steps each, and the largest difference
of raw latents along the same episode.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces

from latentwrap import LatentFilter, OnnxFilter
from latentwrap.actions import ActionSpec
from latentwrap.exporting import export_onnx
from latentwrap.filtering import StreamFilter
from latentwrap.models import build_model, save_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec
from latentwrap.training.recipes import PRESETS
from latentwrap.types import FloatArray, Frames

BLOCK = 50
MODELS = (("fast", "rssm"), ("fast", "slac"), ("fast", "deterministic"), ("paper", "slac"))


def main() -> None:
    """Print a row for each model and number of streams."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("preset kind           streams  torch   onnx  largest difference")
    with tempfile.TemporaryDirectory() as folder:
        for preset, kind in MODELS:
            checkpoint = make_checkpoint(Path(folder), preset, kind)
            exported = export_onnx(checkpoint).path
            for num in arguments.streams:
                filters = LatentFilter(checkpoint, num), OnnxFilter(exported, num)
                *times, difference = compare(*filters, arguments.steps)
                told = " ".join(f"{1e6 * each:6.0f}" for each in times)
                print(f"{preset:6} {kind:13} {num:9} {told}  {difference:.0e}", flush=True)


def make_checkpoint(folder: Path, preset: str, kind: str) -> Path:
    """An untrained model, saved."""
    model = build_model(
        kind,
        PRESETS[preset][kind].model.model_dump(),
        frame_spec=FrameSpec(),
        action_spec=ActionSpec(spaces.Box(-1, 1, (2,))),
        generator=torch.Generator().manual_seed(0),
    ).eval()
    model.normalizer = LatentNormalizer.identity(model.latent_size)
    path = folder / f"{preset}-{kind}.safetensors"
    save_model(path, model, training={})
    return path


def compare(ours: StreamFilter, theirs: StreamFilter, steps: int) -> tuple[float, float, float]:
    """Median seconds of a step of each, and the largest difference of their latents."""
    rng, num = np.random.default_rng(0), ours.num
    shape = (steps + 1, num, 64, 64, 3) if num > 1 else (steps + 1, 64, 64, 3)
    frames = rng.integers(0, 256, shape, np.uint8)
    actions = rng.uniform(-1, 1, (steps, num, 2) if num > 1 else (steps, 2)).astype(np.float32)
    spent: tuple[list[float], list[float]] = [], []
    difference = 0.0
    for each in (ours, theirs):
        each.reset(frames[0])
    for start in range(0, steps, BLOCK):
        latents = [
            timed_steps(each, actions[start : start + BLOCK], frames[start + 1 :], seconds)
            for each, seconds in zip((ours, theirs), spent, strict=True)
        ]
        difference = max(difference, float(np.abs(latents[0] - latents[1]).max()))
    return statistics.median(spent[0]), statistics.median(spent[1]), difference


def timed_steps(
    latents: StreamFilter, actions: FloatArray, frames: Frames, seconds: list[float]
) -> FloatArray:
    """Latents of some steps; how long each took is appended to `seconds`."""
    series = []
    for action, frame in zip(actions, frames, strict=False):
        began = time.perf_counter()
        series.append(latents.step(action, frame))
        seconds.append(time.perf_counter() - began)
    return np.stack(series)


if __name__ == "__main__":
    main()
