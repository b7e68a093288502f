"""Vectors and cameras from collection to checkpoint, and what they are good for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.conftest import TINY, make_tiny_model
from tests.training.conftest import FAST_ENOUGH

import latentwrap
from latentwrap import storage
from latentwrap.actions import ActionSpec
from latentwrap.datasets import Dataset, DatasetInfo, DatasetWriter, Episode, collect
from latentwrap.errors import CheckpointError, ConfigError, DatasetError
from latentwrap.evaluation.pictures import reconstruct_episode
from latentwrap.models import LatentModel
from latentwrap.pixels import Camera, FrameSpec
from latentwrap.training import PretrainResult, pretrain
from latentwrap.training.statistics import filter_episodes
from latentwrap.types import FloatArray
from latentwrap.vectors import VectorSpec

CAMERAS = "latentwrap_test_envs:latentwrap-test/Cameras-v0"
KEYS = ("joints", "robot.mode")


def collected(path: Path, **options: Any) -> Dataset:
    keys = {"image_keys": ["front", "robot.wrist"], "vector_keys": KEYS, **options}
    kwargs = {"lengths": (9, 7, 12)}
    collect(CAMERAS, path, steps=150, height=8, width=8, env_kwargs=kwargs, **keys)
    return Dataset(path)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collected(tmp_path_factory.mktemp("seen") / "seen.h5").path


def train(data: Path, output: Path, *, kind: str = "rssm", **arguments: Any) -> PretrainResult:
    options = {**TINY[kind], **FAST_ENOUGH, "steps": 6, **arguments.pop("options", {})}
    return pretrain(data, output, kind=kind, options=options, device="cpu", **arguments)


@pytest.mark.parametrize("kind", ["rssm", "slac", "deterministic"])
@pytest.mark.parametrize("sees", [False, True])
def test_from_a_dataset_to_a_checkpoint(seen: Path, tmp_path: Path, kind: str, sees: bool) -> None:
    path = tmp_path / "m.safetensors"
    result = train(seen, path, kind=kind, options={"vectors": sees})
    assert ("vectors" in result.train) == ("vectors" in result.heldout) == sees
    model, dataset = latentwrap.load_model(path), Dataset(seen)
    assert model.sees_vectors == sees
    assert model.vector_spec == VectorSpec(names=KEYS, sizes=(2, 3))
    assert [camera.name for camera in model.frame_spec.cameras] == ["front", "robot.wrist"]
    # Statistics of the frames of the training episodes, whether the model sees vectors or not.
    heldout = model.checkpoint.document["training"]["heldout_episodes"]
    assert heldout
    rows = dataset.rows(np.setdiff1d(np.arange(dataset.num_episodes), heldout))
    joined = np.concatenate([dataset.vectors[name][rows] for name in KEYS], axis=1)
    assert model.vector_normalizer is not None
    np.testing.assert_allclose(model.vector_normalizer.mean, joined.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.vector_normalizer.std, joined.std(0), rtol=1e-4, atol=1e-6)
    best = latentwrap.load_model(path.with_suffix(".run") / "best.safetensors")
    assert best.vector_normalizer is not None
    np.testing.assert_array_equal(best.vector_normalizer.mean, model.vector_normalizer.mean)


@pytest.mark.parametrize("kind", list(TINY))
@torch.no_grad()
def test_filtering_offline_is_filtering_step_by_step(seen: Path, kind: str) -> None:
    dataset = Dataset(seen)
    model: Any = make_tiny_model(
        kind=kind, frame=dataset.info.frame, vectors=dataset.info.vectors, sees_vectors=True,
        action_space=dataset.info.action.space,
    )  # fmt: skip
    numbers = np.array([0, 1, 2])
    for number, latents in zip(numbers, filter_episodes(model, dataset, numbers), strict=True):
        episode = dataset.episode(int(number))
        joined = np.concatenate([episode.vectors[name] for name in KEYS], axis=1)
        belief, alone = None, []
        actions = torch.from_numpy(model.action_spec.encode(episode.actions))
        for t, image in enumerate(episode.frames):
            frame = torch.from_numpy(image)[None]
            vectors = model.prepare_vectors(joined[t : t + 1])
            if belief is None:
                belief = model.initial(frame, vectors=vectors)
            else:
                belief = model.filter(belief, actions[t - 1 : t], frame, vectors=vectors)
            alone.append(model.latent(belief)[0].numpy())
        np.testing.assert_allclose(latents, alone, atol=1e-5)
        shown = reconstruct_episode(model, episode)
        np.testing.assert_array_equal(shown[-1], model.decode(belief)[0].numpy())


def test_the_run_goes_on_where_it_stopped(seen: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    options = {"vectors": True}
    train(seen, whole, options={**options, "steps": 8})
    train(seen, halves, options={**options, "steps": 4})
    train(seen, halves, options={**options, "steps": 8}, resume=True)
    ours, theirs = (latentwrap.load_model(path).state_dict() for path in (whole, halves))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_from_before_there_were_vectors_goes_on(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    train(data, path)
    state = path.with_suffix(".run") / "trainer.safetensors"
    stored = storage.load(state, file_format="latentwrap-trainer", what="training state")
    for option in ("vectors", "vector_weight"):
        del stored.document["identity"]["recipe"]["model"][option]
    storage.save(state, stored.tensors, stored.document)
    assert train(data, path, options={"steps": 8}, resume=True).steps == 8
    with pytest.raises(CheckpointError, match=r"another recipe\.model\.vector_weight"):
        train(data, path, options={"steps": 9, "vector_weight": 2.0}, resume=True)


def test_vectors_are_refused_where_the_data_has_none(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pendulum\.h5 has none: collect it with --vector-key"):
        train(data, tmp_path / "m.safetensors", options={"vectors": True})
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_of_other_cameras_or_vectors_is_refused(seen: Path, tmp_path: Path) -> None:
    dataset = Dataset(seen)
    info = dataset.info

    def model_of(**changes: Any) -> LatentModel:
        given = {"frame": info.frame, "vectors": info.vectors, **changes}
        return make_tiny_model(action_space=info.action.space, sees_vectors=True, **given)

    one = np.array([0])
    assert len(next(filter_episodes(model_of(), dataset, one)))
    turned = VectorSpec(names=KEYS[::-1], sizes=(3, 2))
    with pytest.raises(DatasetError, match=r"vectors joints \(2\), robot.mode \(3\), the model"):
        next(filter_episodes(model_of(vectors=turned), dataset, one))
    other = info.frame.replace(cameras=(Camera(name="robot.wrist"), Camera(name="front")))
    with pytest.raises(DatasetError, match=r"cameras front, robot.wrist, the model requires the"):
        next(filter_episodes(model_of(frame=other), dataset, one))


def test_weights_to_start_from_keep_the_scale_of_their_vectors(seen: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train(seen, first, options={"vectors": True})
    slower = collected(tmp_path / "slower.h5", frame_skip=1, seed=5, policy="noise")
    train(slower.path, second, init=first, options={"vectors": True})
    ours, theirs = (latentwrap.load_model(path).vector_normalizer for path in (first, second))
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(theirs.std, ours.std)
    turned = collected(tmp_path / "turned.h5", vector_keys=KEYS[::-1])
    with pytest.raises(CheckpointError, match=r"sees the vectors joints \(2\), robot.mode \(3\)"):
        train(turned.path, tmp_path / "third.safetensors", init=first, options={"vectors": True})


def write_blank(path: Path) -> Dataset:
    """Frames that show nothing beside vectors that nothing foretells."""
    rng, frame = np.random.default_rng(0), FrameSpec(height=16, width=16)
    spec = VectorSpec(names=("force",), sizes=(2,))
    info = DatasetInfo("Blank-v0", ActionSpec(spaces.Discrete(2)), frame, vectors=spec)
    with DatasetWriter(path, info) as writer:
        for _ in range(30):
            writer.add(
                Episode(
                    frames=np.full((21, *frame.shape), 90, np.uint8),
                    actions=rng.integers(0, 2, (20, 1)),
                    rewards=None,
                    terminated=False,
                    truncated=True,
                    vectors={"force": rng.normal(3, 5, (21, 2)).astype(np.float32)},
                )
            )
    return Dataset(path)


def explained(model: LatentModel, dataset: Dataset) -> float:
    """R² of the vectors from the latents, fitted on some episodes and scored on others."""

    def rows(episodes: range) -> tuple[FloatArray, FloatArray]:
        numbers = np.array(episodes)
        latents = np.concatenate(list(filter_episodes(model, dataset, numbers)))
        ones = np.ones((len(latents), 1), np.float32)
        return np.hstack([latents, ones]), dataset.vectors["force"][dataset.rows(numbers)]

    x, y = rows(range(15))
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    x, y = rows(range(15, 30))
    return float(1 - np.square(y - x @ weights).sum() / np.square(y - y.mean(0)).sum())


@pytest.mark.parametrize("kind", ["rssm", "slac", "deterministic"])
def test_a_model_that_sees_vectors_knows_what_no_picture_shows(tmp_path: Path, kind: str) -> None:
    dataset = write_blank(tmp_path / "blank.h5")
    learning = {"learning_rate": 5e-3, "batch_size": 8, "evaluate_every": 1000}
    scores = {}
    for sees, steps in ((True, 200), (False, 50)):
        path = tmp_path / f"{sees}.safetensors"
        train(dataset.path, path, kind=kind, options={**learning, "steps": steps, "vectors": sees})
        scores[sees] = explained(latentwrap.load_model(path), dataset)
    assert scores[True] > 0.8
    assert scores[False] < 0.1
