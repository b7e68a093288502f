"""What the fuzzing itself rests on: the checksums are HDF5's, and a mutant is always the same."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from latentwrap_test_data import write_dataset

from latentwrap.datasets import Dataset
from latentwrap.errors import DatasetError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from fuzz_mutants import Seed, lookup3, lookup3_of_beginnings, mutant, repair


def test_the_hash_is_that_of_its_author() -> None:
    """The values that Bob Jenkins's lookup3.c gives for itself."""
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551


@pytest.mark.parametrize("length", [1, 4, 11, 12, 13, 24, 25, 100])
def test_many_hashes_at_once_are_the_same(length: int) -> None:
    data = np.random.default_rng(length).bytes(120)
    assert lookup3_of_beginnings(data, np.array([length, 120]))[0] == lookup3(data[:length])


def test_a_repaired_checksum_lets_damage_through(path: Path) -> None:
    """A flag's row count is changed: HDF5 stops it by the checksum, and not after the repair."""
    write_dataset(path, [3])
    seed = Seed.of("sound", path.read_bytes())
    with h5py.File(path) as file:
        shape = file["terminations"].id.get_space().get_simple_extent_dims(maxdims=True)
        assert shape == (h5py.h5s.UNLIMITED,)
        at = h5py.h5o.get_info(file["terminations"].id).addr
    content = bytearray(seed.content)
    dimension = content.index((4).to_bytes(8, "little") + b"\xff" * 8, at)
    content[dimension] = 3
    path.write_bytes(bytes(content))
    with pytest.raises(DatasetError, match=r"is damaged|no whole"):
        Dataset(path)
    repair(content, seed)
    path.write_bytes(bytes(content))
    with pytest.raises(DatasetError, match=r"/terminations to be bool \(4\), got bool \(3,\)"):
        Dataset(path)


def test_a_mutant_has_a_number(path: Path) -> None:
    write_dataset(path, [3])
    seed = Seed.of("sound", path.read_bytes())
    first, again, other = (mutant(seed, np.random.default_rng(n)) for n in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("count", [8, 10, 900, 0x190009])
def test_a_lying_number_of_attributes_is_refused(path: Path, count: int) -> None:
    """The HDF5 library believes it, and takes what lies in its memory for attributes."""
    write_dataset(path, [3])
    with h5py.File(path) as file:
        assert len(file.attrs) == 9
    seed = Seed.of("sound", path.read_bytes())
    content = bytearray(seed.content)
    trees = [
        at
        for at in range(len(content) - 38)
        if content[at : at + 4] == b"BTHD" and content[at + 26] == 9
    ]
    assert trees
    for at in trees:
        content[at + 26 : at + 34] = count.to_bytes(8, "little")
    repair(content, seed)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="attributes at /"):
        Dataset(path)
