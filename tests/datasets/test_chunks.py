"""Frames read past the HDF5 library are those that h5py reads."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentwrap.datasets import codecs
from latentwrap.datasets.chunks import ChunkTable, read_table

ROWS, SHAPE = 23, (4, 6, 3)

LAYOUTS: dict[str, dict[str, Any]] = {
    "lz4 one frame": {"chunks": (1, *SHAPE), **hdf5plugin.LZ4()},
    "lz4 with checksums": {"chunks": (1, *SHAPE), "fletcher32": True, **hdf5plugin.LZ4()},
    "lz4 of several frames": {"chunks": (5, *SHAPE), **hdf5plugin.LZ4()},
    "lz4 in small blocks": {"chunks": (3, *SHAPE), **hdf5plugin.LZ4(nbytes=32)},
    "zstd": {"chunks": (2, *SHAPE), "fletcher32": True, **hdf5plugin.Zstd()},
    "plain chunks": {"chunks": (4, *SHAPE)},
    "plain with checksums": {"chunks": (1, *SHAPE), "fletcher32": True},
    "contiguous": {},
}
LEFT_TO_HDF5: dict[str, dict[str, Any]] = {
    "gzip": {"chunks": (2, *SHAPE), "compression": "gzip"},
    "shuffled": {"chunks": (2, *SHAPE), "shuffle": True, **hdf5plugin.LZ4()},
    "divided frames": {"chunks": (2, 2, 6, 3), **hdf5plugin.LZ4()},
    "blosc": {"chunks": (2, *SHAPE), **hdf5plugin.Blosc()},
}


def pictures(kind: str) -> np.ndarray:
    """Random pixels cannot be compressed; flat ones can."""
    rng = np.random.default_rng(0)
    if kind == "random":
        return rng.integers(0, 256, (ROWS, *SHAPE), np.uint8)
    return np.repeat(rng.integers(0, 256, (ROWS, 1, 1, 3), np.uint8), 24, 1).reshape(ROWS, *SHAPE)


def write(path: Path, pixels: np.ndarray, options: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("frames", data=pixels, **options)


def table_of(path: Path) -> ChunkTable:
    with h5py.File(path) as file:
        table = read_table(file["frames"])
    assert table is not None
    return table


def read(path: Path, table: ChunkTable, starts: list[int], length: int) -> np.ndarray:
    out = np.full((len(starts), length, *SHAPE), 77, np.uint8)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        table.read(descriptor, np.array(starts), out)
    finally:
        os.close(descriptor)
    return out


@pytest.mark.parametrize("kind", ["random", "flat"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_windows_are_those_that_h5py_reads(path: Path, name: str, kind: str) -> None:
    write(path, pictures(kind), LAYOUTS[name])
    table = table_of(path)
    with h5py.File(path) as file:
        for length in (1, 2, 7, ROWS):
            starts = list(range(ROWS - length + 1))
            expected = np.stack([file["frames"][s : s + length] for s in starts])
            np.testing.assert_array_equal(read(path, table, starts, length), expected)


@pytest.mark.parametrize("name", LEFT_TO_HDF5)
def test_what_needs_the_hdf5_library_is_left_to_it(path: Path, name: str) -> None:
    write(path, pictures("flat"), LEFT_TO_HDF5[name])
    with h5py.File(path) as file:
        assert read_table(file["frames"]) is None


def test_a_chunk_that_was_never_written_is_left_to_it(path: Path) -> None:
    with h5py.File(path, "w") as file:
        column = file.create_dataset("frames", (ROWS, *SHAPE), np.uint8, chunks=(1, *SHAPE))
        column[3] = 1
    with h5py.File(path) as file:
        assert read_table(file["frames"]) is None


def test_a_chunk_that_skipped_its_codec_is_left_to_it(path: Path) -> None:
    pixels = pictures("random")
    write(path, pixels, LAYOUTS["lz4 one frame"])
    with h5py.File(path, "r+") as file:
        file["frames"].id.write_direct_chunk((2, 0, 0, 0), pixels[2].tobytes(), filter_mask=1)
    with h5py.File(path) as file:
        assert read_table(file["frames"]) is None
        np.testing.assert_array_equal(file["frames"][2], pixels[2])


def test_chunks_that_lie_scattered_are_read_one_by_one(path: Path) -> None:
    """Between the frames lies more than the frames themselves take."""
    pixels = pictures("flat")
    with h5py.File(path, "w") as file:
        frames = file.create_dataset(
            "frames", (0, *SHAPE), np.uint8, maxshape=(None, *SHAPE), **LAYOUTS["lz4 one frame"]
        )
        for row in range(ROWS):
            frames.resize(row + 1, 0)
            frames[row] = pixels[row]
            file.flush()  # else all frames are written together at the end
            file[f"between{row}"] = np.zeros(40_000, np.uint8)
    table = table_of(path)
    assert np.diff(table.offsets).min() > 30_000
    np.testing.assert_array_equal(read(path, table, [0, 4], 9), [pixels[:9], pixels[4:13]])


@pytest.mark.parametrize("name", ["lz4 one frame", "lz4 in small blocks", "zstd", "plain chunks"])
def test_a_chunk_cut_short_is_no_picture(path: Path, name: str) -> None:
    write(path, pictures("flat"), LAYOUTS[name])
    whole = table_of(path)
    short = replace(whole, sizes=whole.sizes - 1, checked=np.ones_like(whole.checked))
    with pytest.raises(codecs.Undecodable):
        read(path, short, [0], 3)


def test_a_chunk_past_the_end_of_the_file_is_no_picture(path: Path) -> None:
    write(path, pictures("flat"), LAYOUTS["lz4 one frame"])
    table = table_of(path)
    path.write_bytes(path.read_bytes()[: int(table.offsets[20]) + 3])
    with pytest.raises(codecs.Undecodable, match="ends too early"):
        read(path, table, [15], 8)


@settings(max_examples=300)
@given(st.sampled_from(sorted(codecs.CODECS)), st.binary(max_size=60), st.integers(1, 40))
def test_any_bytes_fill_a_row_or_are_refused(name: str, data: bytes, size: int) -> None:
    """Nothing is written past the row, whatever sizes the bytes claim."""
    memory = np.full((3, size), 77, np.uint8)
    with contextlib.suppress(codecs.Undecodable):
        codecs.CODECS[name].decode(data, [0], [len(data)], [memory[1].data])
    assert (memory[0] == 77).all()
    assert (memory[2] == 77).all()


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of lz4, zstd, none, got 'gzip'"):
        codecs.find_codec("gzip")


@pytest.mark.parametrize("name", ["lz4 with checksums", "zstd", "plain with checksums"])
def test_any_flipped_bit_is_noticed_when_a_chunk_is_first_read(path: Path, name: str) -> None:
    pixels = pictures("flat")
    write(path, pixels, LAYOUTS[name])
    table, sound = table_of(path), path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        chunk = int(rng.integers(len(table.offsets)))
        place = int(table.offsets[chunk]) + int(rng.integers(table.sizes[chunk]))
        damaged = bytearray(sound)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        fresh = replace(table, checked=np.zeros_like(table.checked))
        with pytest.raises(codecs.Undecodable, match=f"chunk {chunk} of its frames"):
            read(path, fresh, [chunk * table.rows], 1)
    path.write_bytes(sound)
    fresh = replace(table, checked=np.zeros_like(table.checked))
    np.testing.assert_array_equal(read(path, fresh, [3, 0], 9), [pixels[3:12], pixels[:9]])
    assert fresh.checked[: 12 // table.rows].all()
    assert not fresh.checked[-1]
