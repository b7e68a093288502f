"""Writers of the layouts of others, each as its project publishes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latentwrap.datasets import Episode
from latentwrap.types import AnyArray, Frames

FPS = 10
CAMERA = "observation.images.top"


def rows_that_led_here(episode: Episode) -> dict[str, AnyArray]:
    """Columns whose row t holds the action and reward that led to frame t, as V-D4RL has them."""
    rows = len(episode.frames)
    step_type = np.ones(rows)
    step_type[0], step_type[-1] = 0, 2
    discount = np.ones(rows, np.float32)
    discount[-1] = 0 if episode.terminated else 1
    return {
        "action": np.concatenate([np.zeros_like(episode.actions[:1]), episode.actions]),
        "reward": np.concatenate([np.zeros(1, np.float32), episode.rewards]),
        "discount": discount,
        "step_type": step_type,
    }


def write_vd4rl(path: Path, episode: Episode, **extra: AnyArray) -> None:
    """One npz file of V-D4RL, 64 px, as its conversion script writes it."""
    columns = rows_that_led_here(episode)
    step_type = columns.pop("step_type")
    np.savez_compressed(
        path,
        image=episode.frames,
        is_first=step_type == 0,
        is_last=step_type == 2,
        **columns,
        **extra,
    )


def write_shards(folder: Path, episodes: Sequence[Episode], cuts: Sequence[int]) -> None:
    """Shards of V-D4RL, 84 px, cut at some rows, as its conversion scripts write them."""
    parts = [
        {"observation": e.frames.transpose(0, 3, 1, 2), **rows_that_led_here(e)} for e in episodes
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    bounds = [0, *cuts, len(columns["action"])]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        with h5py.File(folder / f"{number}.hdf5", "w") as file:
            for name, values in columns.items():
                file.create_dataset(name, data=values[start:stop], compression="gzip")


def write_video(path: Path, frames: Iterable[AnyArray], codec: str = "libx264") -> None:
    """A video of RGB images, 10 in a second."""
    with av.open(str(path), "w") as container:
        stream: Any = None
        for number, image in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=FPS)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = {"ffv1": "bgr0", "gif": "rgb8"}.get(codec, "yuv420p")
                if codec == "libx264":
                    stream.options = {"g": "12", "crf": "18"}
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_lerobot(
    root: Path,
    episodes: Sequence[Episode],
    *,
    cameras: Sequence[str] = (CAMERA,),
    images: bool = False,
    per_file: int = 2,
) -> None:
    """A LeRobot v3.0 dataset: `per_file` episodes in each Parquet file and in each video.

    Row t of the published layout has no successor in the last row of an episode: the action there
    is the one that would have been taken next.
    """
    meta = []
    for number in range(0, len(episodes), per_file):
        group = episodes[number : number + per_file]
        meta += _write_group(root, group, number, number // per_file, cameras, images=images)
    _write_parquet(root / "meta/episodes/chunk-000/file-000.parquet", [pa.Table.from_pylist(meta)])
    low = min(float(e.actions.min()) for e in episodes)
    high = max(float(e.actions.max()) for e in episodes)
    stats = {"action": {"min": [low], "max": [high]}}
    (root / "meta/stats.json").write_text(json.dumps(stats))
    (root / "meta/info.json").write_text(json.dumps(_info(episodes, cameras, images=images)))


def _write_group(
    root: Path,
    group: Sequence[Episode],
    first: int,
    file: int,
    cameras: Sequence[str],
    *,
    images: bool,
) -> list[dict[str, Any]]:
    """One file of rows, one video for each camera, and what `meta/` says of the episodes."""
    # Counting goes on over all files, as LeRobot's does; every episode here has as many rows.
    begin, start, meta = first * len(group[0].frames), 0, []
    for number, episode in enumerate(group, first):
        rows = len(episode.frames)
        said = {
            "episode_index": number, "length": rows, "tasks": ["count"],
            "dataset_from_index": begin + start, "dataset_to_index": begin + start + rows,
            "data/chunk_index": 0, "data/file_index": file,
        }  # fmt: skip
        for camera in () if images else cameras:
            said |= {
                f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": file,
                f"videos/{camera}/from_timestamp": start / FPS,
                f"videos/{camera}/to_timestamp": (start + rows) / FPS,
            }  # fmt: skip
        meta.append(said)
        start += rows
    shown = cameras if images else ()
    tables = [_rows(episode, number, shown) for number, episode in enumerate(group, first)]
    _write_parquet(root / f"data/chunk-000/file-{file:03d}.parquet", tables)
    for camera in () if images else cameras:
        path = root / f"videos/{camera}/chunk-000/file-{file:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, (frame for episode in group for frame in episode.frames))
    return meta


def _rows(episode: Episode, number: int, images: Sequence[str]) -> pa.Table:
    rows = len(episode.frames)
    steps = np.arange(rows)
    actions = np.append(episode.actions[:, 0], episode.actions[-1, 0])
    columns: dict[str, Any] = {
        "observation.state": pa.FixedSizeListArray.from_arrays(
            pa.array(np.stack([steps, -steps], 1).reshape(-1).astype(np.float32)), 2
        ),
        "observation.environment_state": pa.array([[float(step)] for step in steps]),
        "action": pa.array(actions.astype(np.float32)),
        "next.reward": pa.array(steps.astype(np.float32)),
        "next.done": pa.array(steps == rows - 1) if episode.terminated else pa.array(steps < 0),
        "timestamp": pa.array((steps / FPS).astype(np.float32)),
        "frame_index": pa.array(steps),
        "episode_index": pa.array(np.full(rows, number)),
    }
    for camera in images:
        columns[camera] = pa.array([{"bytes": _png(f), "path": None} for f in episode.frames])
    return pa.table(columns)


def _write_parquet(path: Path, tables: Sequence[pa.Table]) -> None:
    """A row group for each table, as LeRobot writes one for each episode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)


def _info(episodes: Sequence[Episode], cameras: Sequence[str], *, images: bool) -> dict[str, Any]:
    one = {"dtype": "float32", "shape": [1], "names": None}
    picture = {"dtype": "image" if images else "video", "shape": list(episodes[0].frames.shape[1:])}
    return {
        "codebase_version": "v3.0",
        "robot_type": "toy",
        "fps": FPS,
        "total_episodes": len(episodes),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            **dict.fromkeys(cameras, picture),
            "observation.state": {"dtype": "float32", "shape": [2]},
            "observation.environment_state": one,
            "action": one,
            "next.reward": one,
            "next.done": {"dtype": "bool", "shape": [1]},
            "timestamp": one,
            "episode_index": {"dtype": "int64", "shape": [1]},
        },
    }


def _png(frame: Frames) -> bytes:
    codec: Any = av.CodecContext.create("png", "w")
    codec.height, codec.width = frame.shape[:2]
    codec.pix_fmt, codec.time_base = "rgb24", Fraction(1, FPS)
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(image), *codec.encode(None)])
