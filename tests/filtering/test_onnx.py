"""The filter without torch is the filter with torch."""

from __future__ import annotations

import copy
import json
import multiprocessing
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from tests.conftest import TINY, make_tiny_model

from latentwrap import LatentFilter, OnnxFilter
from latentwrap.errors import CheckpointError, LatentwrapError, MissingExtra
from latentwrap.extras import require
from latentwrap.filtering import graphs
from latentwrap.filtering.card import CARD

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (41, 3, 16, 16, 3), dtype=np.uint8)  # (T, num, H, W, C)
ACTIONS = RNG.uniform(-3, 3, (40, 3, 1)).astype(np.float32)  # some out of bounds

Export = Callable[[str], Path]
Pair = tuple[LatentFilter, OnnxFilter]


@pytest.fixture(params=TINY)
def checkpoint(request: pytest.FixtureRequest, exported: Export) -> Path:
    return exported(request.param)


@pytest.fixture
def folder(exported: Export) -> Path:
    return exported("rssm").with_suffix(".onnx")


def pair(checkpoint: Path, num: int = 3, **options: Any) -> Pair:
    runner = OnnxFilter(checkpoint.with_suffix(".onnx"), num, **options)
    return LatentFilter(checkpoint, num, **options), runner


def both(filters: Pair, call: Callable[[Any], np.ndarray]) -> np.ndarray:
    """What the runner gives, if it is what torch gives."""
    expected, found = call(filters[0]), call(filters[1])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_array_equal(filters[1].frames, filters[0].frames)
    return found


@pytest.mark.parametrize("normalize", [True, False])
def test_latents_along_episodes_are_those_of_torch(checkpoint: Path, normalize: bool) -> None:
    for num in (1, 2, 3):
        filters = pair(checkpoint, num, normalize=normalize)
        both(filters, lambda f, n=num: f.reset(FRAMES[0, :n]))
        for action, frames in zip(ACTIONS, FRAMES[1:], strict=True):
            both(filters, lambda f, n=num, a=action, x=frames: f.step(a[:n], x[:n]))


def test_streams_begin_rest_and_lose_frames_alike(checkpoint: Path) -> None:
    filters = pair(checkpoint)
    both(filters, lambda f: f.reset(FRAMES[0]))
    both(filters, lambda f: f.step(ACTIONS[0], [FRAMES[1, 0], None, np.full((16, 16, 3), np.nan)]))
    before = filters[1].belief
    assert before is not None
    mask = np.array([False, True, False])
    both(filters, lambda f: f.reset([None, FRAMES[2, 1], None], mask))
    after = filters[1].belief
    assert after is not None
    for name, part in after.items():
        np.testing.assert_array_equal(part[~mask], before[name][~mask])
        assert (part[mask] != before[name][mask]).any()
    first = np.array([False, False, True])
    both(filters, lambda f: f.step(ACTIONS[1], [FRAMES[3, 0], None, FRAMES[3, 2]], first=first))
    both(filters, lambda f: f.step(ACTIONS[2], [None] * 3))
    both(filters, lambda f: f.step(ACTIONS[3], FRAMES[4]))
    both(filters, lambda f: f.imagine(ACTIONS[:4]))


def test_one_stream_takes_and_gives_single_arrays(checkpoint: Path) -> None:
    filters = pair(checkpoint, 1)
    assert both(filters, lambda f: f.reset(FRAMES[0, 0])).ndim == 1
    assert both(filters, lambda f: f.step(ACTIONS[0, 0], FRAMES[1, 0])).ndim == 1
    assert both(filters, lambda f: f.step(ACTIONS[1, 0], None)).ndim == 1
    large = np.kron(FRAMES[2, 0], np.ones((3, 3, 1), np.uint8))
    both(filters, lambda f: f.step(ACTIONS[2, 0], large))
    assert both(filters, lambda f: f.imagine(ACTIONS[:4, 0])).ndim == 2


def test_a_belief_can_be_saved_and_restored(checkpoint: Path, tmp_path: Path) -> None:
    latents = OnnxFilter(checkpoint.with_suffix(".onnx"), 3)
    assert latents.belief is None
    latents.reset(FRAMES[0])
    assert latents.belief is not None
    np.savez(tmp_path / "belief.npz", **latents.belief)
    first = latents.step(ACTIONS[0], FRAMES[1])
    latents.step(ACTIONS[1], FRAMES[2])
    with np.load(tmp_path / "belief.npz") as saved:
        latents.belief = saved
    np.testing.assert_array_equal(latents.step(ACTIONS[0], FRAMES[1]), first)
    latents.belief = None
    with pytest.raises(LatentwrapError, match="call reset"):
        latents.step(ACTIONS[0], FRAMES[1])
    for wrong in ({}, {"latent": np.zeros((3, 8))}):
        with pytest.raises(LatentwrapError, match="belief of 3 streams of this model"):
            latents.belief = wrong


@pytest.mark.parametrize("normalize", [True, False])
def test_results_are_no_buffers_and_no_part_of_the_belief(folder: Path, normalize: bool) -> None:
    latents = OnnxFilter(folder, normalize=normalize)
    first = latents.reset(FRAMES[0, 0])
    kept, expected = first.copy(), OnnxFilter(folder, normalize=normalize)
    expected.reset(FRAMES[0, 0])
    second = latents.step(ACTIONS[0, 0], FRAMES[1, 0])
    np.testing.assert_array_equal(first, kept)
    second[:] = 7
    expected.step(ACTIONS[0, 0], FRAMES[1, 0])
    np.testing.assert_array_equal(
        latents.step(ACTIONS[1, 0], None), expected.step(ACTIONS[1, 0], None)
    )


def go_on(latents: OnnxFilter) -> np.ndarray:
    return latents.step(ACTIONS[0], FRAMES[1])


def _go_on_in_worker(latents: OnnxFilter, queue: Any) -> None:
    queue.put(go_on(latents))


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda f: cloudpickle.loads(cloudpickle.dumps(f))]
)
def test_copies_go_on_alike(folder: Path, clone: Callable[[OnnxFilter], OnnxFilter]) -> None:
    latents = OnnxFilter(folder, 3)
    latents.reset(FRAMES[0])
    twin = clone(latents)
    np.testing.assert_array_equal(go_on(latents), go_on(twin))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_fork_goes_on_alike(folder: Path, threads: int) -> None:
    latents = OnnxFilter(folder, 3, threads=threads)
    latents.reset(FRAMES[0])
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_go_on_in_worker, args=(latents, queue))
    worker.start()
    found = queue.get(timeout=60)
    worker.join()
    np.testing.assert_array_equal(found, go_on(latents))


def test_it_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'h5py', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "import latentwrap\n"
        f"latents = latentwrap.OnnxFilter({str(folder)!r})\n"
        "frame = np.zeros((64, 64, 3), np.uint8)\n"
        "latents.reset(frame)\n"
        "latents.step([0.5], frame)\n"
        "print(latents.step([0.5], None).shape, sys.modules['torch'])"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(8,) None\n", "")


def test_the_example_for_robots_is_the_filter(checkpoint: Path) -> None:
    example = runpy.run_path(str(ROOT / "examples/robot_onnx.py"))
    source = (ROOT / "examples/robot_onnx.py").read_text(encoding="utf-8")
    assert "import latentwrap" not in source
    bare = example["BareFilter"](checkpoint.with_suffix(".onnx"))
    latents = LatentFilter(checkpoint)
    np.testing.assert_allclose(bare.reset(FRAMES[0, 0]), latents.reset(FRAMES[0, 0]), atol=1e-4)
    for action, frame in zip(ACTIONS[:9, 0], [*FRAMES[1:9, 0], None], strict=True):
        unit = action.clip(-2, 2) / 2
        found, expected = bare.step(unit, frame), latents.step(action, frame)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    example["main"](str(checkpoint.with_suffix(".onnx")))


def test_wrong_use_is_refused(folder: Path) -> None:
    with pytest.raises(LatentwrapError, match="OnnxFilter requires num of at least 1, got 0"):
        OnnxFilter(folder, 0)
    with pytest.raises(LatentwrapError, match="threads of at least 1, got 0"):
        OnnxFilter(folder, threads=0)
    latents = OnnxFilter(folder, 3)
    with pytest.raises(LatentwrapError, match="call reset"):
        go_on(latents)
    with pytest.raises(LatentwrapError, match="call reset"):
        latents.imagine(ACTIONS)
    with pytest.raises(LatentwrapError, match="first frame of an episode was dropped"):
        latents.reset([FRAMES[0, 0], None, None])
    latents.reset(FRAMES[0])
    with pytest.raises(LatentwrapError, match="one action for each of 3 streams, got 2"):
        latents.step(ACTIONS[0, :2], FRAMES[1])
    with pytest.raises(LatentwrapError, match="at least one action"):
        latents.imagine([])
    with pytest.raises(LatentwrapError, match="aspect ratio"):
        OnnxFilter(folder).reset(np.zeros((16, 32, 3), np.uint8))
    OnnxFilter(folder, stretch=True).reset(np.zeros((16, 32, 3), np.uint8))


def test_vectors_are_standardised_and_required(
    tmp_path: Path, exported: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["sees_vectors"] = True
        document["vectors"] = {"names": ["joints"], "sizes": [2]}
        document["vector_statistics"] = {"mean": [1.0, 2.0], "std": [0.5, 0.001]}

    latents = OnnxFilter(changed(tmp_path, exported("rssm"), change, monkeypatch))
    seen: list[Any] = []

    def see(frames: Any, vectors: Any) -> np.ndarray:
        seen.append(vectors)
        return np.zeros((1, 12), np.float32)

    monkeypatch.setattr(latents._graphs, "see", see)
    latents.reset(FRAMES[0, 0], vectors=[2, 2.05])
    np.testing.assert_allclose(seen, [[[2.0, 5.0]]], rtol=1e-4)
    for wrong in (None, [1.0]):
        with pytest.raises(LatentwrapError, match=r"requires them as an array \(1, 2\)"):
            latents.step([0.0], FRAMES[1, 0], vectors=wrong)
    with pytest.raises(LatentwrapError, match="requires finite vectors joints"):
        latents.step([0.0], FRAMES[1, 0], vectors=[1, np.nan])


def changed(
    tmp_path: Path,
    checkpoint: Path,
    change: Callable[[dict[str, Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A copy of exported graphs with another card, whose fingerprint is not asked for."""
    monkeypatch.setattr("latentwrap.filtering.card._fingerprint", lambda _: "")
    folder = tmp_path / "changed.onnx"
    shutil.copytree(checkpoint.with_suffix(".onnx"), folder)
    document = json.loads((folder / CARD).read_text(encoding="utf-8"))
    change(document)
    document["fingerprint"] = ""
    (folder / CARD).write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 2}, "of version 2, this latentwrap .* of version 1: export"),
        ({"format": "other"}, "is a 'other' of version 1"),
        ({"frame": {"hight": 3}}, "does not describe a filter of this version: FrameSpec"),
        ({"belief": None}, "does not describe a filter of this version"),
    ],
)
def test_other_cards_are_refused(
    tmp_path: Path,
    exported: Export,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    message: str,
) -> None:
    folder = changed(tmp_path, exported("rssm"), lambda card: card.update(values), monkeypatch)
    with pytest.raises(CheckpointError, match=message):
        OnnxFilter(folder)


def test_what_is_damaged_or_foreign_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(
        CheckpointError, match=f"no folder of exported graphs, for it has no {CARD}"
    ):
        OnnxFilter(tmp_path)
    copied = tmp_path / "copied.onnx"
    shutil.copytree(folder, copied)
    text = (copied / CARD).read_text(encoding="utf-8")
    for wrong in ("{", "[]", '{"format": 1}'):
        (copied / CARD).write_text(wrong, encoding="utf-8")
        with pytest.raises(CheckpointError, match="was not written by latentwrap export"):
            OnnxFilter(copied)
    (copied / CARD).write_text(text.replace('"frame_skip": 1', '"frame_skip": 2'), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"{CARD} was damaged or changed"):
        OnnxFilter(copied)
    (copied / CARD).write_text(text, encoding="utf-8")
    latents = OnnxFilter(copied, 3)
    latents.reset(FRAMES[0])
    (copied / "step.onnx").write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"step.onnx was damaged or changed"):
        OnnxFilter(copied)
    with pytest.raises(CheckpointError, match=r"step.onnx was damaged or changed"):
        go_on(copy.deepcopy(latents))
    (copied / "step.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"step.onnx cannot be read"):
        OnnxFilter(copied)


def test_what_onnxruntime_cannot_open_ends_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "read_graph", lambda *_: b"no graph")
    with pytest.raises(CheckpointError, match="cannot open the graph 'encoder' in") as caught:
        OnnxFilter(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_onnxruntime_ends_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, **options: Any) -> Any:
        return require("no_such_module", **options)

    monkeypatch.setattr(graphs, "require", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'latentwrap\[onnx\]'"):
        OnnxFilter(folder)


def test_the_card_says_what_the_model_is(exported: Export) -> None:
    card, model = (
        OnnxFilter(exported("slac").with_suffix(".onnx")).card,
        make_tiny_model(kind="slac"),
    )
    assert card.frame_spec == model.frame_spec
    assert card.action_spec == model.action_spec
    assert (card.kind, card.frame_skip, card.sees_vectors) == ("slac", 1, False)
    assert card.belief == {"z1": 3, "z2": 5}
    assert "mean" not in repr(card)
