"""Files of tensors: whole, exact, and refused when anything about them changed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentwrap import storage
from latentwrap.errors import CheckpointError

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4).t(),
    "step": torch.tensor(7),
    "bytes": torch.arange(256, dtype=torch.uint8),
}
DOCUMENT = {"format": "test", "text": "ü", "number": 0.1}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "stored.safetensors"
    storage.save(path, TENSORS, DOCUMENT)
    return path


def load(path: Path) -> storage.Stored:
    return storage.load(path, file_format="test", what="file")


def test_others_may_read_what_they_may_read_elsewhere(file: Path) -> None:
    plain = file.with_name("plain.txt")
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode


def test_everything_comes_back_exactly(file: Path) -> None:
    stored = load(file)
    assert stored.document == DOCUMENT
    assert stored.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(stored.tensors[name], tensor, rtol=0, atol=0)


def test_the_fingerprint_depends_on_content_alone(tmp_path: Path, file: Path) -> None:
    again = storage.save(tmp_path / "again.safetensors", TENSORS, DOCUMENT)
    other = storage.save(tmp_path / "other.safetensors", TENSORS, {**DOCUMENT, "number": 0.2})
    assert load(file).fingerprint == again != other


def test_any_flipped_bit_is_noticed(tmp_path: Path, file: Path) -> None:
    whole = file.read_bytes()
    start = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    assert "__metadata__" in start
    rng = torch.Generator().manual_seed(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    inside = torch.randint(header, len(whole), (40,), generator=rng).tolist()
    for position in [0, 9, *range(20, header, 37), *inside]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        if bytes(damaged[8:header]).strip() == whole[8:header].strip() and position < header:
            continue  # padding of the header carries no meaning
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors"):
            load(path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, file: Path, keep: int) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"short\.safetensors is no whole safetensors file"):
        load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "none.safetensors")


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="was not written by latentwrap"):
        load(path)


def test_another_kind_of_file_is_refused(file: Path) -> None:
    with pytest.raises(CheckpointError, match="expected 'agent', got 'test'"):
        storage.load(file, file_format="agent", what="agent")


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bomb.safetensors"
    path.write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(CheckpointError):
        load(path)
    assert not (tmp_path / "exploded").exists()
