"""What a hostile file may try, and the sentence that refuses it."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_data import edit, make_info, write_dataset

from latentwrap.actions import ActionSpec
from latentwrap.datasets import Dataset
from latentwrap.datasets.guarding.opening import open_checked
from latentwrap.errors import DatasetError, EnvironmentMismatch

ROWS = 19  # in episodes of 4, 13 and 2


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A pipe without a writer: whoever opens it waits for ever, and is not told of a file."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes")
    made = tmp_path / "trap"
    os.mkfifo(made)
    return made


def replace(file: h5py.File, name: str, values: Any, **options: Any) -> None:
    del file[name]
    file.create_dataset(name, data=values, **options)


def external_storage(file: h5py.File, trap: Path) -> None:
    del file["rewards"]
    place = [(str(trap), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("rewards", (ROWS,), np.float32, external=place)


def virtual(file: h5py.File, trap: Path, name: str = "{}") -> None:
    del file["rewards"]
    whole = h5py.VirtualLayout((ROWS,), np.float32)
    whole[:] = h5py.VirtualSource(name.format(trap), "rewards", (ROWS,), np.float32)
    file.create_virtual_dataset("rewards", whole)


def unlimited_virtual(file: h5py.File, trap: Path) -> None:
    """Its size is that of files that are looked for when it is opened."""
    del file["rewards"]
    plist, unlimited = h5py.h5p.create(h5py.h5p.DATASET_CREATE), h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple((ROWS,), (unlimited,))
    space.select_hyperslab((0,), (unlimited,), (1,), (1,))
    plist.set_virtual(space, f"{trap}%b".encode(), b"rewards", h5py.h5s.create_simple((1,)))
    whole = h5py.h5s.create_simple((ROWS,), (unlimited,))
    h5py.h5d.create(file.id, b"rewards", h5py.h5t.NATIVE_FLOAT, whole, plist)
    trap.rename(f"{trap}0")


LEADING_OUT: dict[str, tuple[Callable[[h5py.File, Path], Any], str]] = {
    "external link": (
        lambda f, trap: f.__setitem__("state/x", h5py.ExternalLink(str(trap), "/")),
        "has an external link at /state/x, which could lead out of the file",
    ),
    "external link to frames": (
        lambda f, trap: (
            f.__delitem__("frames"),
            f.__setitem__("frames", h5py.ExternalLink(str(trap), "/frames")),
        ),
        "has an external link at /frames",
    ),
    "soft link through an external one": (
        lambda f, trap: (
            f.__setitem__("vectors/x", h5py.SoftLink("/zzz/deep")),
            f.__setitem__("zzz", h5py.ExternalLink(str(trap), "/")),
        ),
        "has a(n external| soft) link at /",
    ),
    "soft link": (
        lambda f, trap: f.__setitem__("state/x", h5py.SoftLink("/state/state")),
        "has a soft link at /state/x",
    ),
    "external storage": (external_storage, "a column /rewards stored outside of the file"),
    "virtual": (virtual, "a virtual column /rewards made of other files"),
    "unlimited virtual": (unlimited_virtual, "a virtual column /rewards made of other files"),
}


@pytest.mark.parametrize("rules", ["layout", "foreign"])
@pytest.mark.parametrize("name", LEADING_OUT)
def test_nothing_leads_out_of_a_file(path: Path, trap: Path, name: str, rules: str) -> None:
    """The other file is a pipe: were it opened, the sentence would be that of a timeout."""
    write_dataset(path, [3, 12, 1])
    change, sentence = LEADING_OUT[name]
    edit(path, lambda file: change(file, trap))
    refused(path, sentence, rules)


def refused(path: Path, sentence: str, rules: str = "layout") -> None:
    with pytest.raises(DatasetError, match=sentence) as error:
        open_checked(path, rules=rules)
    text = str(error.value)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text


def compound(file: h5py.File) -> None:
    replace(file, "state/state", np.zeros(ROWS, [("a", "f4"), ("b", "i8")]))


def references(file: h5py.File) -> None:
    values = np.array([file["actions"].ref] * ROWS, h5py.ref_dtype)
    replace(file, "state/state", values, dtype=h5py.ref_dtype)


def texts(file: h5py.File) -> None:
    replace(file, "state/state", ["x"] * ROWS)


def lists(file: h5py.File) -> None:
    del file["state/state"]
    file.create_dataset("state/state", (ROWS,), h5py.vlen_dtype(np.float32))


def cycle(file: h5py.File) -> None:
    file["state/again"] = file["/"]


def deep(file: h5py.File) -> None:
    file.create_group("/".join("abcdefghijklmnopqrstuvw"))


def absurd_rows(file: h5py.File) -> None:
    file.create_dataset("state/x", (2**40, 3), np.float32, chunks=(16, 3))


def absurd_contiguous(file: h5py.File) -> None:
    file.create_dataset("state/x", (2**40,), np.float32)


def absurd_limit(file: h5py.File) -> None:
    """The HDF5 library looks for chunks at places computed from it, behind its memory."""
    limit = (ROWS, 2**60, 8)
    file.create_dataset("state/x", (ROWS, 8, 8), "u1", maxshape=limit, chunks=(4, 4, 4))


def absurd_chunk(file: h5py.File) -> None:
    file.create_dataset("state/x", (2**31,), np.uint8, chunks=(2**31,), compression="gzip")


def bomb(file: h5py.File) -> None:
    """Zeros that gzip packs a thousand to one."""
    file.create_dataset("state/x", (2**30,), np.uint8, chunks=(2**26,), compression="gzip")
    packed = zlib.compress(bytes(2**26), 9)
    for start in range(0, 2**30, 2**26):
        file["state/x"].id.write_direct_chunk((start,), packed)


def bomb_in_a_chunk(file: h5py.File) -> None:
    """A small chunk that unpacks to a large one."""
    file.create_dataset("state/x", (64,), np.uint8, chunks=(64,), compression="gzip")
    # As many bytes as a chunk may have in the file beside its content.
    file["state/x"].id.write_direct_chunk((0,), zlib.compress(bytes(4 * 2**20), 9))


def short_chunk(options: dict[str, Any]) -> Callable[[h5py.File], None]:
    """The HDF5 library would hand out what lies behind the chunk in memory."""

    def change(file: h5py.File) -> None:
        column = file.create_dataset("state/x", (64,), np.uint8, chunks=(64,), **options)
        small = file.create_dataset("small", (16,), np.uint8, chunks=(16,), **options)
        small[:] = np.arange(16) % 2
        file.flush()
        mask, data = small.id.read_direct_chunk((0,))
        column.id.write_direct_chunk((0,), data, filter_mask=mask)
        del file["small"]

    return change


def unknown_filter(file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((ROWS,))
    plist.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((ROWS,))
    h5py.h5d.create(file["state"].id, b"x", h5py.h5t.NATIVE_FLOAT, space, plist)


def two_codecs(file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((ROWS,))
    plist.set_deflate(9)
    plist.set_deflate(9)
    space = h5py.h5s.create_simple((ROWS,))
    h5py.h5d.create(file["state"].id, b"x", h5py.h5t.NATIVE_FLOAT, space, plist)


def blosc(file: h5py.File) -> None:
    values = np.zeros((ROWS, 2), np.float32)
    replace(file, "state/state", values, chunks=(8, 2), **hdf5plugin.Blosc())


def reference_attribute(file: h5py.File) -> None:
    file.attrs["x"] = file["actions"].ref


def long_attribute(file: h5py.File) -> None:
    file.attrs["provenance"] = json.dumps({"x": "y" * 5_000_000})


def unreadable_attribute(file: h5py.File) -> None:
    file.attrs["env_id"] = b"\xff\xfe"
    file.attrs.create("env_id", b"\xff\xfe", dtype=h5py.string_dtype())


def committed_type(file: h5py.File) -> None:
    file["state/x"] = np.dtype("f4")


ATTACKS: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "compound": (compound, "/state/state that holds records, not plain numbers"),
    "references": (references, "/state/state that holds references"),
    "texts": (texts, "/state/state that holds texts"),
    "lists": (lists, "/state/state that holds lists"),
    "objects": (lambda f: f.__setitem__("x", np.void(b"abc")), "/x that holds objects"),
    "cycle": (cycle, "a group /state/again that is also elsewhere"),
    "deep": (deep, "groups more than 3 deep"),
    "absurd rows": (absurd_rows, "/state/x of .* bytes that are not all in the file"),
    "absurd contiguous": (absurd_contiguous, "/state/x of .* that are not all in the file"),
    "absurd limit": (absurd_limit, r"/state/x that could grow to \(19, 1152921504606846976, 8\)"),
    "absurd chunk": (absurd_chunk, "chunks of 2,147,483,648 bytes in /state/x"),
    "bomb": (bomb, "columns of 1,073,.* bytes in .* bytes of file"),
    "bomb in a chunk": (bomb_in_a_chunk, r"a damaged chunk in /state/x at \(0,\) \(65 bytes"),
    "short chunk": (short_chunk({}), r"damaged chunk in /state/x .*\(16 bytes instead of 64\)"),
    "short gzip": (short_chunk({"compression": "gzip"}), "damaged chunk.*16 bytes instead of 64"),
    "short LZF": (short_chunk({"compression": "lzf"}), "damaged chunk.*16 bytes instead of 64"),
    "short LZ4": (short_chunk({**hdf5plugin.LZ4()}), "damaged chunk.*16 bytes instead of 64"),
    "short Zstd": (short_chunk({**hdf5plugin.Zstd()}), "damaged chunk.*16 bytes instead of 64"),
    "short checksum": (short_chunk({"fletcher32": True}), "damaged chunk.*20 bytes instead of 68"),
    "unknown filter": (unknown_filter, "/state/x encoded with the HDF5 filter 31999"),
    "blosc": (blosc, "/state/state encoded with the HDF5 filter 32001"),
    "two codecs": (two_codecs, "/state/x with several compressing filters"),
    "reference attribute": (reference_attribute, "an attribute x of / that is neither a number"),
    "long attribute": (long_attribute, "an attribute provenance of / of 5,0.* bytes"),
    "unreadable attribute": (unreadable_attribute, "attribute env_id of / that is no UTF-8 text"),
    "unreadable name": (lambda f: f.create_group(b"\xff\xfe"), "a name in / that is no UTF-8"),
    "type": (committed_type, "an object /state/x that is neither a group nor a column"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(path: Path, name: str) -> None:
    write_dataset(path, [3, 12, 1])
    change, sentence = ATTACKS[name]
    edit(path, change)
    refused(path, sentence)


def test_chunks_that_share_bytes_are_refused(path: Path) -> None:
    """A small file could claim to be as large as it likes, of the same bytes."""
    write_dataset(path, [3])
    edit(path, lambda f: f.create_dataset("state/x", data=np.zeros((64, 64), np.uint8)))
    edit(path, lambda f: f.create_dataset("state/y", data=np.ones((64, 64), np.uint8)))
    with h5py.File(path) as file:
        first, second = (file[f"state/{name}"].id.get_offset() for name in "xy")
    edit(path, lambda f: [f.__setitem__(f"state/z{n}", f["state/x"]) for n in range(40)])
    assert first != second
    refused(path, "columns that share the same bytes of the file")


def test_a_user_block_is_refused(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["frames"] = 1
    refused(path, "a user block before its content")


# Damage that HDF5 reads without complaint.
def document(name: str, value: Any) -> Callable[[h5py.File], None]:
    text = value if isinstance(value, str) else json.dumps(value)
    return lambda file: file.attrs.__setitem__(name, text)


def absurd_index(lengths: list[int]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        replace(file, "episodes/length", np.array(lengths, np.int64))
        with np.errstate(over="ignore"):
            ends = np.cumsum(np.array(lengths, np.int64))
        replace(file, "episodes/start", ends - np.array(lengths, np.int64))

    return change


def odd_truth(file: h5py.File) -> None:
    raw = file["terminations"].id
    values = np.zeros(ROWS, np.uint8)
    values[2] = 7
    raw.write(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=raw.get_type())


NEST = "[" * 100_000 + "]" * 100_000
CONTENTS: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "nested space": (document("action_space", NEST), "damaged attributes.*recursion"),
    "nested frame": (document("frame", NEST), "damaged attributes.*recursion"),
    "nested provenance": (document("provenance", NEST), "damaged attributes.*recursion"),
    "giant number": (document("frame", '{"height": ' + "9" * 9000 + "}"), "damaged attributes"),
    "NaN size": (document("frame", '{"height": NaN}'), "damaged attributes"),
    "absurd size": (document("frame", {"height": 10**12, "width": 10**12}), "to be uint8"),
    "NaN bounds": (
        document(
            "action_space",
            '{"kind": "Box", "dtype": "float32", "shape": [2], "low": [NaN, 0], "high": [1, 1]}',
        ),
        "damaged attributes.*NaN",
    ),
    "odd dtype": (
        document(
            "action_space",
            {"kind": "Box", "dtype": "O", "shape": [2], "low": [0, 0], "high": [1, 1]},
        ),
        "damaged attributes.*object",
    ),
    "many choices": (
        document("action_space", {"kind": "Discrete", "n": 10**12, "start": 0}),
        "damaged attributes.*at most 65536",
    ),
    "more choices than numbers": (
        document("action_space", {"kind": "Discrete", "n": 10**30, "start": 0}),
        "damaged attributes",
    ),
    "late choices": (
        document("action_space", {"kind": "Discrete", "n": 3, "start": 10**30}),
        "damaged attributes|is damaged",
    ),
    "many dimensions": (
        document("action_space", {"kind": "MultiBinary", "shape": [2**32, 2**32]}),
        "damaged attributes.*at most 65536",
    ),
    "large dimensions": (
        document("action_space", {"kind": "MultiDiscrete", "nvec": [2**62] * 4, "start": [0] * 4}),
        "damaged attributes.*at most 65536",
    ),
    "list provenance": (document("provenance", []), "damaged attributes.*no JSON object"),
    "number env_id": (lambda f: f.attrs.__setitem__("env_id", 3), "'env_id' is no text"),
    "no skip": (lambda f: f.attrs.__setitem__("frame_skip", 0), "'frame_skip' must be"),
    "absurd skip": (lambda f: f.attrs.__setitem__("frame_skip", 2**62), "'frame_skip' must be"),
    "list skip": (lambda f: f.attrs.__setitem__("frame_skip", [1]), "'frame_skip' must be"),
    "repeated vectors": (document("vectors", ["x"] * 100_000), "damaged attributes.*twice"),
    "odd vectors": (document("vectors", [["x"]]), "damaged attributes.*vector requires a name"),
    "wrapping index": (absurd_index([2**62, 2**62, 2**62, 2**62, ROWS]), "does not cover"),
    "absurd index": (absurd_index([2**62]), "does not cover"),
    "negative index": (absurd_index([-(2**62), 2**62, ROWS]), "does not cover"),
    "odd truth": (odd_truth, "a termination or truncation that is neither true nor false"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_absurd_contents_are_refused(path: Path, name: str) -> None:
    write_dataset(path, [3, 12, 1])
    change, sentence = CONTENTS[name]
    edit(path, change)
    with pytest.raises(DatasetError, match=sentence) as error:
        Dataset(path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(10**6), spaces.MultiDiscrete([10**5, 3]), spaces.MultiBinary((2**10, 2**10))],
)
def test_an_action_that_fits_no_model_is_refused(space: spaces.Space) -> None:
    with pytest.raises(EnvironmentMismatch, match="at most 65536 values"):
        ActionSpec(space)


SOUND: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunked": {"chunks": (5, 3)},
    "gzip": {"chunks": (5, 3), "compression": "gzip", "shuffle": True},
    "LZF": {"chunks": (5, 3), "compression": "lzf", "fletcher32": True},
    "LZ4": {"chunks": (5, 3), **hdf5plugin.LZ4()},
    "Zstd": {"chunks": (5, 3), **hdf5plugin.Zstd()},
    "scale": {"chunks": (19, 3), "shuffle": True, "fletcher32": True},
}


@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_column_is_read(path: Path, name: str, libver: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (ROWS, 3)).astype(np.float32)  # compresses, but not to nothing
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("state/state", data=values, **SOUND[name])
        file.attrs["text"] = "sound"
    for rules in ("layout", "foreign"):
        with open_checked(path, rules=rules) as file:
            np.testing.assert_array_equal(file["state/state"][:], values)


def test_other_projects_may_store_texts_lists_and_deep_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a/b/c/d/e/f"] = ["one", "two"]
        file["fixed"] = np.array([b"one", b"two"])
        images = file.create_dataset("images", (2,), h5py.vlen_dtype(np.uint8))
        images[0], images[1] = np.arange(5, dtype=np.uint8), np.arange(9, dtype=np.uint8)
        file.create_dataset("never written", (5,), np.float32)
        file.create_dataset("empty", (0, 3), np.float32, chunks=(1, 3), maxshape=(None, 3))
        file["nothing"] = h5py.Empty(np.float32)
    with open_checked(path, rules="foreign") as file:
        assert file["images"][1].tolist() == list(range(9))
    refused(path, "deep")


def test_a_file_that_changes_is_examined_again(path: Path) -> None:
    write_dataset(path, [3])
    os.utime(path, (1, 1))  # long ago, so that the verdict is kept
    open_checked(path).close()
    open_checked(path).close()
    edit(path, lambda f: f.__setitem__("state/x", h5py.SoftLink("/frames")))
    refused(path, "a soft link")


def test_a_trusted_file_is_opened_as_it_is(path: Path) -> None:
    write_dataset(path, [3])
    edit(path, lambda f: f.__setitem__("state/x", h5py.SoftLink("/frames")))
    with open_checked(path, trusted=True) as file:
        assert "frames" in file


def test_a_newer_info_is_still_the_same(path: Path) -> None:
    """The checks accept all that the writer writes."""
    write_dataset(path, [3, 5], states=["pole", "cart"])
    assert Dataset(path).info == make_info()
