"""npz files of strangers: read as NumPy reads them, and refused before they do harm."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from latentwrap.datasets.importers.npz_files import NpzFile
from latentwrap.errors import DatasetError

NUMBERS = st.one_of(
    arrays.boolean_dtypes(), arrays.integer_dtypes(), arrays.floating_dtypes(sizes=(32, 64))
)


@given(
    array=arrays.arrays(NUMBERS, arrays.array_shapes(min_side=0, max_dims=4)),
    by_columns=st.booleans(),
    packed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_array_comes_back_whole_and_by_blocks(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, by_columns: bool, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    written = np.asfortranarray(array) if by_columns else array
    (np.savez_compressed if packed else np.savez)(path, a=written)
    with NpzFile(path) as file:
        assert file.headers["a"].shape == array.shape
        np.testing.assert_array_equal(file.read("a"), array)
        blocks = [*file.blocks("a"), array[:0]]
    np.testing.assert_array_equal(np.concatenate(blocks), array)


def test_blocks_divide_a_long_array(tmp_path: Path) -> None:
    array = np.arange(2000).reshape(1000, 2)
    np.savez_compressed(tmp_path / "a.npz", a=array)
    with NpzFile(tmp_path / "a.npz") as file:
        blocks = list(file.blocks("a"))
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), array)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_shape(*shape: int) -> bytes:
    """An array of 3 bytes whose header says that it has another shape."""
    stream = io.BytesIO()
    said = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, said)
    return stream.getvalue() + b"\0\0\0"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(np.array([{}], object)), "no numbers"),
        (npy(np.array(["text"])), "no numbers"),
        (npy(np.zeros(2, [("a", int)])), "no numbers"),
        (with_shape(9999999999), "not there"),
        (with_shape(-1), "not there"),
        (b"no array at all", "magic"),
        (npy(np.zeros(3))[:40], "EOF|header|early"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", content)
    with pytest.raises(DatasetError, match=rf"bad\.npz.*({reason})"):
        NpzFile(path)


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, a=np.zeros(20 * 10**6, np.uint8))
    tracemalloc.start()
    with pytest.raises(DatasetError, match=r"bomb\.npz.*unpacks to .* GiB"):
        NpzFile(path, most_bytes=10**7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_flipped_bits_are_refused_or_harmless(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    array = np.random.default_rng(0).integers(255, size=(50, 8), dtype=np.uint8)
    np.savez_compressed(good, a=array)
    whole, random = good.read_bytes(), np.random.default_rng(1)
    refused = 0
    for number in range(300):
        broken = bytearray(whole)
        broken[random.integers(len(whole))] ^= 1 << int(random.integers(8))
        path = tmp_path / f"{number}.npz"
        path.write_bytes(broken)
        try:
            with NpzFile(path) as file:
                np.testing.assert_array_equal(file.read(next(iter(file.headers))), array)
        except DatasetError:
            refused += 1
    assert refused > 200


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.npz"
    np.savez(path, a=np.zeros(1000))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DatasetError, match=r"short\.npz"):
        NpzFile(path)


def test_a_missing_array_is_named_with_what_is_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=np.zeros(2), speed=np.zeros(2))
    said = "lacks 'actions', it holds frames, speed"
    with NpzFile(tmp_path / "a.npz") as file, pytest.raises(DatasetError, match=said):
        file.read("actions")
