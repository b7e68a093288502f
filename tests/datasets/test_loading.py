"""Windows read ahead are the windows of the sampler, whoever reads them."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from latentwrap_test_data import write_dataset
from torch.utils.data import DataLoader

from latentwrap.datasets import Dataset, WindowDataset, WindowLoader, Windows, WindowSampler
from latentwrap.errors import ConfigError, DatasetError
from latentwrap.seeding import numpy_generator


def sampler(data: Dataset, seed: int = 0) -> WindowSampler:
    episodes = np.arange(data.num_episodes)
    return WindowSampler(data, episodes, length=5, batch_size=7, generator=numpy_generator(seed))


@pytest.fixture
def data(path: Path) -> Dataset:
    write_dataset(path, [20, 9, 31])
    return Dataset(path)


def assert_same(found: Windows, expected: Windows) -> None:
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.actions, expected.actions)
    np.testing.assert_array_equal(found.rewards, expected.rewards)
    np.testing.assert_array_equal(found.terminations, expected.terminations)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_of_the_sampler(data: Dataset, workers: int) -> None:
    plain = sampler(data)
    with WindowLoader(sampler(data), workers=workers) as loader:
        for _ in range(12):
            assert_same(loader.sample(), plain.sample())
        for found, expected in zip(loader.fixed(9), plain.fixed(9), strict=True):
            assert_same(found, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_state_is_that_of_what_was_handed_out(data: Dataset, workers: int) -> None:
    """A run that goes on from it sees the batches that were read ahead, but not learned from."""
    with WindowLoader(sampler(data), workers=workers, ahead=3) as loader:
        for _ in range(4):
            loader.sample()
        state, following = loader.state(), loader.sample()
        loader.sample()
        fresh = sampler(data, seed=1)
        fresh.restore(state)
        assert_same(fresh.sample(), following)
        loader.restore(state)
        assert_same(loader.sample(), following)


def test_a_batch_stays_as_it_is_while_someone_holds_it(data: Dataset) -> None:
    """Also when more are held than there are places in shared memory, and as tensors of views."""
    plain = sampler(data)
    with WindowLoader(sampler(data), workers=1, ahead=2) as loader:
        held = [torch.from_numpy(loader.sample().frames[:, 1:]) for _ in range(20)]
        expected = [plain.sample().frames[:, 1:] for _ in range(20)]
        for found, want in zip(held, expected, strict=True):
            np.testing.assert_array_equal(found.numpy(), want)
    np.testing.assert_array_equal(held[0].numpy(), expected[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_is_named(path: Path, data: Dataset, workers: int) -> None:
    with WindowLoader(sampler(data), workers=workers) as loader:
        loader.sample()
        os.truncate(path, 5000)
        with pytest.raises(DatasetError, match=r"data\.h5 is damaged \(the file ends too early\)"):
            for _ in range(20):
                loader.sample()


def test_a_worker_that_was_killed_is_named(data: Dataset) -> None:
    with WindowLoader(sampler(data), workers=1) as loader:
        loader.sample()
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        with pytest.raises(DatasetError, match="ended unexpectedly"):
            for _ in range(9):
                loader.sample()


def test_closing_leaves_no_process_behind(data: Dataset) -> None:
    before = multiprocessing.active_children()
    with WindowLoader(sampler(data), workers=2) as loader:
        loader.sample()
        assert len(multiprocessing.active_children()) == len(before) + 2
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_wait_loses_and_shifts_nothing(
    data: Dataset, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Ctrl-C stops a cell of a notebook, and the next cell goes on."""
    plain = sampler(data)
    with WindowLoader(sampler(data), workers=workers) as loader:
        assert_same(loader.sample(), plain.sample())
        batch = loader._ahead[0]

        def interrupted() -> None:
            batch.wait()  # the answer came, but nobody got it
            raise KeyboardInterrupt

        loader._ahead[0] = batch._replace(wait=interrupted)
        with pytest.raises(KeyboardInterrupt):
            loader.sample()
        for _ in range(8):
            assert_same(loader.sample(), plain.sample())


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"ahead": 0}])
def test_numbers_out_of_range_are_refused(data: Dataset, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="Loading requires"):
        WindowLoader(sampler(data), **wrong)


def batches(data: Dataset, **options: Any) -> list[dict[str, torch.Tensor]]:
    windows = WindowDataset(data, length=5)
    generator = torch.Generator().manual_seed(3)
    return list(DataLoader(windows, batch_size=8, shuffle=True, generator=generator, **options))


def assert_same_batches(
    found: list[dict[str, torch.Tensor]], expected: list[dict[str, torch.Tensor]]
) -> None:
    assert len(found) == len(expected) > 3
    for have, want in zip(found, expected, strict=True):
        assert have.keys() == want.keys() == {"frames", "actions", "rewards", "terminations"}
        for name, tensor in want.items():
            assert torch.equal(have[name], tensor)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a single core
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_torch_loads_the_same_with_workers_as_without(data: Dataset, method: str) -> None:
    """After torch's threads have run and the file was read here, which a fork inherits."""
    torch.set_num_threads(2)
    torch.randn(400, 400) @ torch.randn(400, 400)
    expected = batches(data)
    assert_same_batches(batches(data), expected)
    options = {"num_workers": 2, "multiprocessing_context": method}
    assert_same_batches(batches(data, **options), expected)


def test_a_window_by_number_is_the_one_at_that_place(data: Dataset) -> None:
    windows = WindowDataset(data, np.array([1, 2]), length=5)
    assert len(windows) == (9 - 4) + (31 - 4)
    row = 21 + 10  # the second episode has five windows; the sixth begins the third episode
    frames = data.frames(slice(row, row + 6))
    np.testing.assert_array_equal(windows[5]["frames"], frames)
    np.testing.assert_array_equal(windows[5]["rewards"], data.rewards[row : row + 5])
    with pytest.raises(IndexError, match="There are 32 windows"):
        windows[32]
