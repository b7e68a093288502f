"""Exported graphs compute what torch computes, whatever the model."""

from __future__ import annotations

import errno
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from gymnasium import spaces
from tests.conftest import TINY, make_statistics

from latentwrap import LatentFilter, OnnxFilter
from latentwrap.actions import ActionSpec
from latentwrap.errors import (
    CheckpointError,
    LatentwrapError,
    MissingExtra,
    OutputExists,
    OutputFailed,
)
from latentwrap.exporting import export, export_onnx
from latentwrap.filtering.card import read_card
from latentwrap.models import LatentModel, build_model, load_model, pixel_networks, save_model
from latentwrap.pixels import FrameSpec
from latentwrap.training.recipes import PRESETS
from latentwrap.vectors import VectorSpec

RNG = np.random.default_rng(0)
RGB = FrameSpec(height=16, width=16)
ODD_GREY = FrameSpec(height=21, width=19, channels=1)
VECTORS = VectorSpec(names=("joints", "grip"), sizes=(3, 1))
PAPER = PRESETS["paper"]["slac"].model.model_dump()

MODELS: dict[str, dict[str, Any]] = {
    "frame by frame": {"kind": "deterministic", "recursive": False},
    "z2 only": {"kind": "slac", "z2_only": True, "shared_first": True},
    "paper preset": {"kind": "slac", "frame": FrameSpec(), **PAPER},
    "paper networks, odd grey": {"kind": "rssm", "frame": ODD_GREY, "network": "paper"},
    "standardised, odd grey, choices": {
        "kind": "rssm",
        "frame": ODD_GREY,
        "space": spaces.MultiDiscrete([2, 3]),
        "standardize_frames": True,
    },
    "vectors": {"kind": "slac", "vectors": True},
}
"""Forms of the kinds; those of `TINY` are met in the tests of `OnnxFilter`."""


def make_model(
    kind: str,
    *,
    frame: FrameSpec = RGB,
    space: spaces.Space[Any] = spaces.Box(-2, 2, (2,)),  # noqa: B008
    **options: Any,
) -> LatentModel:
    model = build_model(
        kind,
        {**TINY[kind], **options},
        frame_spec=frame,
        action_spec=ActionSpec(space),
        vector_spec=VECTORS if options.get("vectors") else None,
        generator=torch.Generator().manual_seed(1),
    )
    model.normalizer = make_statistics(model.latent_size, RNG)
    model.vector_normalizer = make_statistics(4, RNG) if options.get("vectors") else None
    model.fit_frames(torch.from_numpy(RNG.integers(0, 256, (8, *frame.shape), np.uint8)))
    return model.eval()


def save(folder: Path, model: LatentModel) -> Path:
    path = folder / "model.safetensors"
    save_model(path, model, training={})
    return path


def episode(filter_: LatentFilter | OnnxFilter, model: LatentModel, steps: int) -> np.ndarray:
    """Latents along an episode of noise in which every camera drops a frame now and then."""
    rng, num, space = np.random.default_rng(3), filter_.num, model.action_spec.space
    space.seed(3)
    latents = []
    for t in range(steps + 1):
        frames: list[Any] = list(rng.integers(0, 256, (num, *model.frame_spec.shape), np.uint8))
        vectors = rng.normal(size=(num, 4)) if model.sees_vectors else None
        actions = [space.sample() for _ in range(num)]
        if t == 0:
            latents.append(filter_.reset(frames, vectors=vectors))
            continue
        if t % 3 == 0:
            frames[t % num] = None
        latents.append(filter_.step(actions, frames, vectors=vectors))
    return np.stack(latents)


@pytest.mark.parametrize("name", MODELS)
def test_latents_along_episodes_are_those_of_torch(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, make_model(**MODELS[name]))
    result = export_onnx(path)
    assert result.path == tmp_path / "model.onnx"
    assert result.difference <= 1e-5
    model = load_model(path)
    for num in (1, 2, 3, 32):
        expected = episode(LatentFilter(model, num), model, 30)
        found = episode(OnnxFilter(result.path, num), model, 30)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_batch_that_torch_would_split_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_networks, "_LARGEST_BLOCK", 1)  # one frame at a time
    path = save(tmp_path, make_model("rssm"))
    folder, model = export_onnx(path).path, load_model(path)
    for num in (1, 2, 5):
        expected = episode(LatentFilter(model, num), model, 3)
        np.testing.assert_allclose(episode(OnnxFilter(folder, num), model, 3), expected, atol=1e-4)


def shapes(values: Any) -> dict[str, tuple[str, list[Any]]]:
    found = {}
    for value in values:
        kind = value.type.tensor_type
        dims = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
        found[value.name] = (onnx.TensorProto.DataType.Name(kind.elem_type), dims)
    return found


def test_the_files_are_as_documented(tmp_path: Path) -> None:
    path = save(tmp_path, make_model("slac", vectors=True))
    result = export_onnx(path)
    z1, z2, latent = ("FLOAT", ["n", 3]), ("FLOAT", ["n", 5]), ("FLOAT", ["n", 8])
    features, action = ("FLOAT", ["n", 16]), ("FLOAT", ["n", 2])
    seen = {"frame": ("UINT8", ["n", 16, 16, 3]), "vectors": ("FLOAT", ["n", 4])}
    after = {"next_z1": z1, "next_z2": z2, "latent": latent}
    expected = {
        "encoder": (seen, {"features": features}),
        "first": ({"features": features}, after),
        "step": ({"features": features, "action": action, "z1": z1, "z2": z2}, after),
        "predict": ({"action": action, "z1": z1, "z2": z2}, after),
    }
    assert set(result.sizes) == {"filter.json", *(f"{name}.onnx" for name in expected)}
    for name, (inputs, outputs) in expected.items():
        proto = onnx.load(result.path / f"{name}.onnx", load_external_data=False)
        onnx.checker.check_model(proto, full_check=True)
        assert shapes(proto.graph.input) == inputs
        assert shapes(proto.graph.output) == outputs
        assert [(each.domain, each.version) for each in proto.opset_import] == [("", 18)]
        assert not proto.functions
    document = json.loads((result.path / "filter.json").read_text(encoding="utf-8"))
    assert document["belief"] == {"z1": 3, "z2": 5}
    assert document["model"] == load_model(path).fingerprint
    assert (document["features"], document["latent_size"], document["opset"]) == (16, 8, 18)


def test_an_export_is_quiet_repeats_and_tells_nothing_of_this_machine(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, make_model("rssm"))
    first = export_onnx(path)  # a warning would be an error
    assert tuple(capfd.readouterr()) == ("", "")
    assert first.card.files == export_onnx(path, tmp_path / "again.onnx").card.files
    for name in first.sizes:
        content = (first.path / name).read_bytes()
        assert b".py" not in content
        assert b"latentwrap/" not in content


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write something else than graphs, at once."""
    monkeypatch.setattr(export, "to_onnx", lambda *_: b"graph")
    monkeypatch.setattr(export, "largest_difference", lambda *_: 0.0)


@pytest.mark.usefixtures("swift")
def test_what_is_there_is_replaced_only_if_it_is_ours_and_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path, make_model("rssm"))
    folder = export_onnx(path).path
    with pytest.raises(OutputExists, match="exists already"):
        export_onnx(path)
    save_model(path, make_model("slac"), training={})
    assert export_onnx(path, force=True).card.kind == "slac"
    assert read_card(folder).kind == "slac"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", path.name]
    other = tmp_path / "photos"
    other.mkdir()
    with pytest.raises(OutputExists, match="no folder of exported graphs, and is not replaced"):
        export_onnx(path, other, force=True)


@pytest.mark.usefixtures("swift")
def test_what_is_replaced_stays_until_the_new_one_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, make_model("rssm"))
    folder = export_onnx(path).path
    save_model(path, make_model("slac"), training={})
    replace = Path.replace

    def fail(source: Path, target: Path) -> Path:
        if target == folder and ".tmp." in source.name:
            raise PermissionError(errno.EACCES, "denied")
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputFailed, match=r"model\.onnx could not be written"):
        export_onnx(path, force=True)
    assert read_card(folder).kind == "rssm"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", path.name]


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("wrong", [1e-3, float("nan")])
def test_graphs_that_differ_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    path = save(tmp_path, make_model("rssm"))
    monkeypatch.setattr(export, "largest_difference", lambda *_: wrong)
    with pytest.raises(LatentwrapError, match=r"differ from torch's by .*, more than 0.0001"):
        export_onnx(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.usefixtures("swift")
def test_our_own_warnings_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: Any) -> float:
        warnings.warn("ours", stacklevel=1)
        return 0.0

    monkeypatch.setattr(export, "largest_difference", warn)
    with pytest.warns(UserWarning, match="ours"):
        export_onnx(save(tmp_path, make_model("rssm")))


def test_what_cannot_be_exported_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        export_onnx(tmp_path / "none.safetensors")

    def fail(*_: Any, **__: Any) -> None:
        raise torch.onnx.OnnxExporterError("no such operator\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(LatentwrapError, match=r"cannot export this model \(no such operator\)"):
        export_onnx(save(tmp_path, make_model("rssm")))

    def missing(*_: Any, **__: Any) -> None:
        raise MissingExtra("An export to ONNX requires onnxscript.")

    monkeypatch.setattr(export, "require", missing)
    with pytest.raises(MissingExtra):
        export_onnx(tmp_path / "model.safetensors")
