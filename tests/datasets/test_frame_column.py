"""Chunks encoded here are those that HDF5's own filters read."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentwrap.datasets.checksums import fletcher32
from latentwrap.datasets.codecs import CODECS
from latentwrap.datasets.frame_column import FrameColumn

SHAPES = {"two in a chunk": (4, 6, 3), "one in a chunk": (80, 80, 3)}


def pictures(count: int, shape: tuple[int, ...], kind: str) -> np.ndarray:
    rng = np.random.default_rng(count)
    if kind == "random":
        return rng.integers(0, 256, (count, *shape), np.uint8)
    return np.broadcast_to(rng.integers(0, 256, (count, 1, 1, 1), np.uint8), (count, *shape))


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("kind", ["random", "flat", "black"])
@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("codec", CODECS)
def test_hdf5_reads_what_was_written(
    path: Path, codec: str, size: str, kind: str, thorough: bool
) -> None:
    """Also where a chunk holds the end of an episode and the beginning of the next."""
    episodes = [pictures(n, SHAPES[size], kind) * (kind != "black") for n in (3, 1, 4, 1, 2)]
    with h5py.File(path, "w") as file:
        column = FrameColumn(file, "frames", SHAPES[size], CODECS[codec], thorough=thorough)
        for episode in episodes:
            column.add(episode)
        column.finish()
    with h5py.File(path) as file:
        assert file["frames"].fletcher32  # h5py checks the sums as it reads
        np.testing.assert_array_equal(file["frames"][:], np.concatenate(episodes))


@settings(max_examples=200)
@given(st.binary(min_size=1, max_size=900))
def test_the_checksum_is_that_of_hdf5(data: bytes) -> None:
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        values = np.frombuffer(data, np.uint8)
        column = file.create_dataset("a", data=values, chunks=values.shape, fletcher32=True)
        file.flush()
        assert column.id.read_direct_chunk((0,))[1] == data + fletcher32(data)


@pytest.mark.parametrize("word", [b"\xff\xff", b"\xff\xfe\x00\x01", b"\x00\x00", b"\x80\x00"])
def test_sums_that_are_multiples_of_65535(word: bytes) -> None:
    for times in (1, 2, 359, 360, 361, 5000):
        test_the_checksum_is_that_of_hdf5.hypothesis.inner_test(word * times)


@pytest.mark.parametrize("words", [65534, 65535, 65536, 131070, 200_000])
def test_a_single_word_however_far_from_the_end(words: int) -> None:
    """Its weight in the second sum may be a multiple of 65535, which is not nothing."""
    data = np.zeros(200_000, ">u2")
    data[-words] = 7
    test_the_checksum_is_that_of_hdf5.hypothesis.inner_test(data.tobytes())


def test_a_flipped_bit_is_noticed_by_h5py(path: Path) -> None:
    with h5py.File(path, "w") as file:
        column = FrameColumn(file, "frames", (4, 6, 3), CODECS["lz4"], thorough=True)
        column.add(pictures(8, (4, 6, 3), "flat"))
        column.finish()
        where = file["frames"].id.get_chunk_info(2)
    damaged = bytearray(path.read_bytes())
    damaged[where.byte_offset + where.size // 2] ^= 4
    path.write_bytes(damaged)
    with h5py.File(path) as file:
        file["frames"][0:4]
        with pytest.raises(OSError, match="filter returned failure"):
            file["frames"][4:6]
