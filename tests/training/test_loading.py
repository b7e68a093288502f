"""How frames reach the model changes nothing that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TINY
from tests.training.conftest import FAST_ENOUGH
from tests.training.test_pretrain import assert_same_files

from latentwrap.datasets import Dataset, DatasetWriter
from latentwrap.errors import CheckpointError, ConfigError
from latentwrap.training import Loading, MemoryEstimate, pretrain


def train(data: Any, output: Path, *, steps: int = 12, **arguments: Any) -> None:
    options = {**TINY["rssm"], **FAST_ENOUGH, "steps": steps}
    pretrain(data, output, kind="rssm", options=options, device="cpu", **arguments)


@pytest.fixture
def shards(data: Path, tmp_path: Path) -> list[Path]:
    """The dataset in two files."""
    whole, paths = Dataset(data), [tmp_path / "one.h5", tmp_path / "two.h5"]
    half = whole.num_episodes // 2
    for path, numbers in zip(paths, (range(half), range(half, whole.num_episodes)), strict=True):
        with DatasetWriter(path, whole.info) as writer:
            for number in numbers:
                writer.add(whole.episode(number))
    return paths


def test_a_streamed_dataset_teaches_what_one_in_memory_does(data: Path, tmp_path: Path) -> None:
    held, streamed = tmp_path / "held.safetensors", tmp_path / "streamed.safetensors"
    by_workers = tmp_path / "workers.safetensors"
    estimates: list[MemoryEstimate] = []
    train(data, held, on_start=estimates.append)
    train(data, streamed, loading=Loading(memory=0), on_start=estimates.append)
    train(data, by_workers, loading=Loading(memory=0, workers=1))
    assert_same_files(held, streamed)
    assert_same_files(held, by_workers)
    assert [e.frames for e in estimates] == [Dataset(data).frame_bytes, 0]


def test_a_streamed_run_resumes_as_if_it_had_never_stopped(data: Path, tmp_path: Path) -> None:
    """Batches that were read ahead at the stop, but not learned from, come again."""
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    train(data, whole, steps=14)
    train(data, halves, steps=7, loading=Loading(memory=0))
    train(data, halves, steps=14, resume=True, loading=Loading(memory=0))
    assert_same_files(whole, halves)


def test_several_files_teach_what_one_does(data: Path, shards: list[Path], tmp_path: Path) -> None:
    train(data, tmp_path / "whole.safetensors")
    train(shards, tmp_path / "parts.safetensors")
    assert_same_files(tmp_path / "whole.safetensors", tmp_path / "parts.safetensors")


def test_a_mix_belongs_to_the_run(shards: list[Path], tmp_path: Path) -> None:
    plain, mixed = tmp_path / "plain.safetensors", tmp_path / "mixed.safetensors"
    train(shards, plain)
    train(shards, mixed, mix={str(shards[0]): 1, "*two.h5": 5})
    with pytest.raises(AssertionError):
        assert_same_files(plain, mixed)
    with pytest.raises(CheckpointError, match="mix"):
        train(shards, mixed, steps=20, resume=True)


def test_a_mix_needs_files_of_the_data(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"The mix names other\.h5"):
        train(data, tmp_path / "m.safetensors", mix={"other.h5": 1})
    assert not (tmp_path / "m.run").exists()


def test_a_file_that_the_mix_leaves_out_counts_for_nothing(
    shards: list[Path], tmp_path: Path
) -> None:
    """Nor for the statistics of latents and rewards, nor for the held-out loss."""
    mixed, alone = tmp_path / "mixed.safetensors", tmp_path / "alone.safetensors"
    only = {str(shards[0]): 1}
    train(shards, mixed, mix=only)
    train([shards[0]], alone, mix=only)
    assert_same_files(mixed, alone)
    best = [path.with_suffix(".run") / "best.safetensors" for path in (mixed, alone)]
    assert_same_files(*best)
