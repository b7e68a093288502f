"""Small files of other projects for fuzz_datasets.py, and what becomes of their damaged copies."""

from __future__ import annotations

import io
import warnings
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from fuzz_mutants import Seed, mutant

SIDE = 8
LENGTHS = (6, 4)
"""Rows of the episodes."""


def write_foreign_seeds(folder: Path) -> None:
    """Write a file for each way in which other projects store a few episodes."""
    for libver in ("earliest", "v110"):
        _write_hdf5(folder / f"d4rl-{libver}.hdf5", _d4rl(), libver)
        _write_hdf5(folder / f"shard-{libver}.hdf5", _shard(), libver)
        _write_robomimic(folder / f"robomimic-{libver}.hdf5", libver)
    rows = _d4rl()
    del rows["rewards"], rows["timeouts"]
    np.savez_compressed(folder / "visual-cube-play-v0.npz", **rows)
    episode = {name: values[: LENGTHS[0]] for name, values in _shard().items()}
    image = episode.pop("observation").transpose(0, 2, 3, 1)
    ends = {"is_first": episode["step_type"] == 0, "is_last": episode["step_type"] == 2}
    np.savez(folder / "vd4rl.npz", image=image, **ends, **episode)


def _d4rl() -> dict[str, np.ndarray]:
    """Flat columns."""
    rng, rows = np.random.default_rng(0), sum(LENGTHS)
    last = np.isin(np.arange(rows), np.cumsum(LENGTHS) - 1)
    return {
        "observations": rng.integers(0, 256, (rows, SIDE, SIDE, 3), np.uint8),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": last & (np.arange(rows) < LENGTHS[0]),
        "timeouts": last & (np.arange(rows) >= LENGTHS[0]),
    }


def _shard() -> dict[str, np.ndarray]:
    """As V-D4RL's, 84 px: each row holds the action that led to its frame."""
    rows = _d4rl()
    step = np.concatenate([[0, *[1] * (length - 2), 2] for length in LENGTHS])
    return {
        "observation": rows["observations"].transpose(0, 3, 1, 2),
        "action": rows["actions"],
        "reward": rows["rewards"],
        "discount": np.ones(len(step), np.float32),
        "step_type": step.astype(np.int64),
    }


def _write_hdf5(path: Path, columns: dict[str, np.ndarray], libver: str) -> None:
    with h5py.File(path, "w", libver=(libver, "latest")) as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)


def _write_robomimic(path: Path, libver: str) -> None:
    with h5py.File(path, "w", libver=(libver, "latest")) as file:
        data = file.create_group("data")
        data.attrs["env_args"] = '{"env_name": "Lift", "type": 1, "env_kwargs": {}}'
        for number, length in enumerate(LENGTHS):
            demo, rows = data.create_group(f"demo_{number}"), _d4rl()
            demo.attrs["num_samples"] = length
            demo["actions"] = rows["actions"][:length].astype(np.float64)
            demo["rewards"] = rows["rewards"][:length]
            demo["dones"] = (np.arange(length) == length - 1).astype(np.int64)
            pixels = rows["observations"][:length]
            demo.create_dataset("obs/agentview_image", data=pixels, compression="gzip")
            demo["obs/robot0_eef_pos"] = np.ones((length, 3))
        file["mask/train"] = np.array([b"demo_0"])


def foreign_mutant(seed: Seed, rng: np.random.Generator) -> bytes:
    """A damaged copy; half of those of zip files have sound checksums around a damaged array."""
    if not seed.name.endswith(".npz") or rng.random() < 0.5:
        return mutant(seed, rng)
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed.content)) as old, zipfile.ZipFile(changed, "w") as new:
        names = old.namelist()
        damaged = names[rng.integers(len(names))]
        for name in names:
            content = old.read(name)
            if name == damaged:  # mostly its header, which says what the rest is
                part = 128 if rng.random() < 0.7 else len(content)
                content = mutant(Seed.of(name, content[:part]), rng) + content[part:]
            new.writestr(name, content)
    return changed.getvalue()


def _source(path: Path) -> Path:
    """What to import: V-D4RL's episodes lie in a folder."""
    content = path.read_bytes()
    if b"image.npy" not in content or path.suffix != ".npz":
        return path
    folder = path.with_name("episodes")
    folder.mkdir(exist_ok=True)
    (folder / "0.npz").write_bytes(content)
    return folder


def imported(path: Path) -> dict[str, Any]:
    """What becomes of a file that is imported and read."""
    from latentwrap.datasets import Dataset
    from latentwrap.datasets.importers import ImportOptions, import_dataset
    from latentwrap.errors import LatentwrapError

    target = path.with_name("imported.h5")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what a source does not tell
            options = ImportOptions(height=SIDE, width=SIDE)
            import_dataset(_source(path), target, options=options, force=True)
        with closing(Dataset(target)) as data:
            data.frames(slice(0, data.num_frames))
    except LatentwrapError as error:
        text = str(error).replace(str(path), "").replace(str(path.with_name("episodes")), "")
        return {"outcome": "refused", "reason": " ".join(text.split()[:5])}
    except BaseException as error:  # noqa: BLE001 - whatever comes is what is looked for
        return {"outcome": "error", "error": f"{type(error).__name__}: {error}"[:500]}
    return {"outcome": "read"}
