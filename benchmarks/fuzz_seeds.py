"""Small files for fuzz_datasets.py: one for each way to store a dataset, and hostile ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from gymnasium import spaces

from latentwrap.actions import ActionSpec
from latentwrap.datasets import DatasetInfo, DatasetWriter, Episode
from latentwrap.pixels import Camera, FrameSpec
from latentwrap.vectors import VectorSpec

CODECS: dict[str, dict[str, Any]] = {
    "lz4": {"chunks": (1, 8, 8, 3), **hdf5plugin.LZ4()},
    "lz4 blocks": {"chunks": (4, 8, 8, 3), **hdf5plugin.LZ4(nbytes=64), "fletcher32": True},
    "zstd": {"chunks": (2, 8, 8, 3), **hdf5plugin.Zstd()},
    "gzip": {"chunks": (4, 8, 8, 3), "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": (4, 8, 8, 3), "compression": "lzf", "fletcher32": True},
    "divided": {"chunks": (4, 4, 4, 3), "compression": "gzip"},
    "plain": {},
    "plain chunks": {"chunks": (4, 8, 8, 3)},
}
"""How frames may lie in a file of ours."""


def write_seeds(folder: Path, canary: Path) -> dict[str, Path]:
    """Write all.

    Args:
        folder: to write into.
        canary: the file that hostile ones point to.
    """
    seeds = {"written": _written(folder / "written.h5"), "cameras": _cameras(folder / "two.h5")}
    for name, options in CODECS.items():
        seeds[name] = _rewritten(seeds["written"], folder / f"{name}.h5", options, "v110")
    old = {"compression": "gzip", "chunks": (4, 8, 8, 3)}
    seeds["old"] = _rewritten(seeds["written"], folder / "old.h5", old, "earliest")
    seeds["latest"] = _rewritten(seeds["written"], folder / "latest.h5", old, "latest")
    for name, change in HOSTILE.items():
        seeds[name] = _rewritten(seeds["written"], folder / f"{name}.h5", {}, "v110")
        with h5py.File(seeds[name], "r+", libver=("v110", "v110")) as file:
            change(file, canary)
    return seeds


def _written(path: Path) -> Path:
    action, frame = ActionSpec(spaces.Box(-1, 1, (2,))), FrameSpec(height=8, width=8)
    with DatasetWriter(path, DatasetInfo("fuzz", action, frame)) as writer:
        for steps in (9, 5, 2):
            writer.add(_episode(steps, (8, 8, 3)))
    return path


def _cameras(path: Path) -> Path:
    cameras = (Camera(name="left"), Camera(name="right"))
    frame = FrameSpec(height=8, width=16, cameras=cameras)
    vectors = VectorSpec(names=("joints", "hand"), sizes=(3, 1))
    action = ActionSpec(spaces.MultiDiscrete([3, 2]))
    with DatasetWriter(path, DatasetInfo("fuzz", action, frame, vectors=vectors)) as writer:
        for steps in (7, 4):
            shapes = {"joints": 3, "hand": 1}
            given = {name: np.ones((steps + 1, size), np.float32) for name, size in shapes.items()}
            actions = np.ones((steps, 2), np.int64)
            writer.add(_episode(steps, (8, 16, 3), actions=actions, vectors=given))
    return path


def _episode(steps: int, shape: tuple[int, ...], **changes: Any) -> Episode:
    rng = np.random.default_rng(steps)
    values: dict[str, Any] = {
        "frames": rng.integers(0, 4, (steps + 1, *shape), np.uint8),
        "actions": rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "states": {"state": rng.normal(size=(steps + 1, 3)).astype(np.float32)},
    }
    return Episode(terminated=True, truncated=False, **{**values, **changes})


def _rewritten(source: Path, path: Path, options: dict[str, Any], libver: str) -> Path:
    """The same content, stored in another way."""
    with h5py.File(source) as old, h5py.File(path, "w", libver=(libver, "latest")) as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value

        def copy(name: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset):
                given = options if name == "frames" else {}
                new.create_dataset(name, data=found[:], **given)

        old.visititems(copy)
    return path


def _external_link(file: h5py.File, canary: Path) -> None:
    file["state/x"] = h5py.ExternalLink(str(canary), "/frames")


def _external_storage(file: h5py.File, canary: Path) -> None:
    del file["rewards"]
    file.create_dataset("rewards", (19,), np.float32, external=[(str(canary), 0, 76)])


def _virtual(file: h5py.File, canary: Path) -> None:
    del file["rewards"]
    whole = h5py.VirtualLayout((19,), np.float32)
    whole[:] = h5py.VirtualSource(str(canary), "rewards", (19,), np.float32)
    file.create_virtual_dataset("rewards", whole)


HOSTILE: dict[str, Callable[[h5py.File, Path], None]] = {
    "external link": _external_link,
    "external storage": _external_storage,
    "virtual": _virtual,
}
