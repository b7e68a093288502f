"""What `inspect` says and shows of a dataset."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from latentwrap_test_data import write_dataset

from latentwrap.datasets import Dataset, contact_sheet, summarize


def test_the_numbers_are_those_of_the_file(path: Path) -> None:
    episodes = write_dataset(path, [3, 12, 6])
    summary = summarize(Dataset(path))
    assert (summary.episodes, summary.transitions, summary.frames) == (3, 21, 24)
    assert (summary.terminated, summary.truncated) == (0, 3)
    assert (summary.lengths.mean, summary.lengths.min, summary.lengths.max) == (7, 3, 12)
    returns = [float(e.rewards.sum()) for e in episodes]
    assert summary.returns is not None
    assert summary.returns.mean == pytest.approx(np.mean(returns), rel=1e-5)
    assert summary.returns.std == pytest.approx(np.std(returns), rel=1e-5)
    assert (summary.codec, summary.chunks) == ("LZ4, checksums", (2, 4, 6, 3))
    assert summary.file_bytes == path.stat().st_size
    assert summary.frame_bytes == 24 * 4 * 6 * 3
    assert summary.compression == pytest.approx(summary.frame_bytes / summary.stored_frame_bytes)
    assert summary.states == {"state": 3}
    assert summary.env_id == "Test-v0"


def test_it_is_json_and_words(path: Path) -> None:
    write_dataset(path, [3, 12, 6], rewards=False, states=[])
    summary = summarize(Dataset(path))
    assert json.loads(json.dumps(dataclasses.asdict(summary)))["episodes"] == 3
    words = summary.described()
    assert words["return"] == "no rewards"
    assert words["state"] == "none"
    assert words["frames"] == "4×6×3, from 40×60"
    assert "LZ4" in words["frames on disk"]


def test_a_contact_sheet_shows_one_episode_a_row(path: Path) -> None:
    episodes = write_dataset(path, [9, 2, 30])
    sheet = contact_sheet(Dataset(path), rows=3, columns=4)
    assert sheet.shape == (3 * 4 + 2 * 2, 4 * 6 + 3 * 2, 3)
    for number, shown in enumerate([(0, 3, 6, 9), (0, 0, 1, 2), (0, 10, 20, 30)]):
        for column, row in enumerate(shown):
            top, left = number * 6, column * 8
            cell = sheet[top : top + 4, left : left + 6]
            np.testing.assert_array_equal(cell, episodes[number].frames[row])


def test_a_contact_sheet_of_few_episodes_has_few_rows(path: Path) -> None:
    write_dataset(path, [9, 9])
    assert contact_sheet(Dataset(path), rows=6, columns=2).shape[0] == 2 * 4 + 2
