"""Pretraining: resume, Ctrl-C, NaN, held-out loss, and what it refuses."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tests.conftest import TINY
from tests.training.conftest import FAST_ENOUGH

import latentwrap
from latentwrap import storage
from latentwrap.datasets import Dataset
from latentwrap.errors import CheckpointError, ConfigError, OutputExists, TrainingDiverged
from latentwrap.models import KINDS, LossTerms, RSSMModel
from latentwrap.runlog import read_metrics
from latentwrap.training import PretrainResult, pretrain
from latentwrap.training.statistics import filter_episodes
from latentwrap.training.trainer import Trainer


def train(
    data: Path, output: Path, *, kind: str = "rssm", steps: int = 12, **arguments: Any
) -> PretrainResult:
    options = {**TINY[kind], **FAST_ENOUGH, "steps": steps, **arguments.pop("options", {})}
    return pretrain(data, output, kind=kind, options=options, device="cpu", **arguments)


def tensors_of(path: Path, file_format: str = "latentwrap-model") -> dict[str, torch.Tensor]:
    return storage.load(path, file_format=file_format, what="file").tensors


def assert_same_files(one: Path, other: Path, file_format: str = "latentwrap-model") -> None:
    ours, theirs = tensors_of(one, file_format), tensors_of(other, file_format)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_2n_steps_are_n_steps_resumed_for_n_more(data: Path, tmp_path: Path, kind: str) -> None:
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    train(data, whole, kind=kind, steps=14)
    train(data, halves, kind=kind, steps=7)  # between two evaluations and two rows of the log
    train(data, halves, kind=kind, steps=14, resume=True)
    assert_same_files(whole, halves)
    states = [path.with_suffix(".run") / "trainer.safetensors" for path in (whole, halves)]
    assert_same_files(*states, file_format="latentwrap-trainer")
    best = [path.with_suffix(".run") / "best.safetensors" for path in (whole, halves)]
    assert_same_files(*best)


def test_resuming_does_not_change_which_model_is_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = RSSMModel.loss

    def jumpy(self: RSSMModel, windows: Any, noise: Any) -> LossTerms:
        """A held-out loss that may be lowest anywhere, also at a stop between evaluations."""
        loss = plain(self, windows, noise)
        if torch.is_grad_enabled():
            return loss
        return loss._replace(total=torch.sin(1e5 * next(self.parameters()).sum()))

    monkeypatch.setattr(RSSMModel, "loss", jumpy)
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    train(data, whole, steps=20)
    for steps in (7, 12, 17, 20):
        train(data, halves, steps=steps, resume=steps > 7)
    states = [path.with_suffix(".run") / "trainer.safetensors" for path in (whole, halves)]
    assert_same_files(*states, file_format="latentwrap-trainer")


def test_resuming_a_finished_run_leaves_its_checkpoint(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    first = train(data, path)
    before = latentwrap.load_model(path).checkpoint
    again = train(data, path, resume=True)
    after = latentwrap.load_model(path).checkpoint
    assert before is not None  # and its fingerprint is what agents know the model by
    assert after == before
    assert (first.begun_at, again.begun_at) == (0, 12)
    assert replace(again, begun_at=0) == first


def test_time_alone_may_limit_the_training(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(ConfigError, match="steps or minutes, got neither"):
        train(data, path, options={"steps": None})
    options = {**FAST_ENOUGH, "batch_size": 1, "window": 1}
    result = pretrain(data, path, options=options, minutes=0.02, device="cpu")
    assert result.seconds >= 0.02 * 60
    assert result.steps > 0


def test_rewards_are_those_of_the_training_episodes_without_padding(
    data: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.h5"
    copy.write_bytes(data.read_bytes())
    dataset = Dataset(copy)
    dataset.close()
    with h5py.File(copy, "r+") as file:
        rewards = np.ones(len(file["rewards"]), np.float32)
        rewards[dataset.starts + dataset.lengths - 1] = 0
        file["rewards"][:] = rewards
    path = tmp_path / "m.safetensors"
    train(copy, path, steps=1, options={"standardize_rewards": True})
    # A constant has no scale of its own.
    assert tensors_of(path)["reward_scale"].tolist() == [1, 1]


def test_a_checkpoint_has_the_ending_of_one(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.safetensors"):
        train(data, tmp_path / "model.pt")
    folder = tmp_path / "m.safetensors"
    folder.mkdir()
    with pytest.raises(OutputExists, match="is a folder"):
        train(data, folder, force=True)


def test_the_seed_decides_everything_but_the_global_generators_nothing(
    data: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for path, seed, noise in zip(paths, (0, 0, 1), (1, 2, 1), strict=True):
        torch.manual_seed(noise)
        train(data, path, steps=3, seed=seed)
    assert_same_files(paths[0], paths[1])
    first, other = tensors_of(paths[0]), tensors_of(paths[2])
    assert not torch.equal(first["prior.net.0.weight"], other["prior.net.0.weight"])


def press_ctrl_c_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Trainer.step

    def pressed(self: Trainer) -> dict[str, float]:
        if self.steps_done == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self)

    monkeypatch.setattr(Trainer, "step", pressed)


def test_ctrl_c_leaves_a_checkpoint_and_resumes_bit_for_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train(data, whole, steps=14)
    with monkeypatch.context() as patch:
        press_ctrl_c_at(8, patch)
        result = train(data, broken, steps=14)
    assert result.interrupted
    assert result.steps == 8
    assert latentwrap.load_model(broken).normalizer is not None
    resumed = train(data, broken, steps=14, resume=True)
    assert not resumed.interrupted
    assert_same_files(whole, broken)


def turn_nan_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, calls = RSSMModel.loss, []

    def broken(self: RSSMModel, windows: Any, noise: Any) -> LossTerms:
        loss = plain(self, windows, noise)
        calls.append(torch.is_grad_enabled())
        return loss._replace(total=loss.total * float("nan")) if sum(calls) == step else loss

    monkeypatch.setattr(RSSMModel, "loss", broken)


def test_nan_stops_at_once_and_keeps_the_last_good_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    train(data, good, steps=5)
    turn_nan_at(8, monkeypatch)
    result = train(data, bad, steps=14)
    assert result.diverged is not None
    assert "nan" in result.diverged
    assert result.steps == 5
    for name, tensor in tensors_of(good).items():
        torch.testing.assert_close(tensors_of(bad)[name], tensor, rtol=0, atol=0)


def test_nan_before_any_good_state_is_an_error_without_a_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_nan_at(2, monkeypatch)
    with pytest.raises(TrainingDiverged, match="in step 2"):
        train(data, tmp_path / "bad.safetensors")
    assert not (tmp_path / "bad.safetensors").exists()
    monkeypatch.undo()
    train(data, tmp_path / "bad.safetensors")  # the advice can be followed at once


def test_the_best_model_has_the_lowest_logged_heldout_loss(data: Path, tmp_path: Path) -> None:
    result = train(data, tmp_path / "m.safetensors", steps=20)
    rows = read_metrics(tmp_path / "m.run" / "metrics.csv")
    losses = {row["step"]: row["heldout/loss"] for row in rows if "heldout/loss" in row}
    assert list(losses) == [5, 10, 15, 20]
    assert result.best is not None
    best = latentwrap.load_model(result.best).checkpoint
    assert best is not None
    assert best.document["training"]["heldout"]["loss"] == pytest.approx(min(losses.values()))
    assert result.heldout["loss"] == pytest.approx(losses[20])


def test_training_lowers_the_heldout_loss(data: Path, tmp_path: Path) -> None:
    # Standardised frames begin near the loss of the mean frame; here even that must be learned.
    options = {"learning_rate": 3e-3, "decoder_var": 0.01, "standardize_frames": False}
    short = train(data, tmp_path / "short.safetensors", steps=1, options=options)
    long = train(data, tmp_path / "long.safetensors", steps=150, options=options)
    # The log-likelihood of 5 frames of 16×16×3 holds ½ log 2π σ² for each pixel.
    constant = 0.5 * 5 * 16 * 16 * 3 * math.log(2 * math.pi * 0.01)
    assert long.heldout["image"] - constant < 0.5 * (short.heldout["image"] - constant)
    assert long.heldout["loss"] < short.heldout["loss"]


def test_the_loss_is_logged_as_the_mean_of_its_rows(data: Path, tmp_path: Path) -> None:
    result = train(data, tmp_path / "m.safetensors", steps=6)
    rows = read_metrics(tmp_path / "m.run" / "metrics.csv")
    train_rows = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in train_rows] == [2, 4, 6]
    assert train_rows[-1]["train/loss"] == pytest.approx(result.train["loss"])
    parts = sum(train_rows[0][f"train/{name}"] for name in ("kl", "image", "reward"))
    assert parts == pytest.approx(train_rows[0]["train/loss"], rel=1e-5)


def test_statistics_are_those_of_the_training_latents(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    train(data, path, steps=3)
    model, dataset = latentwrap.load_model(path), Dataset(data)
    assert model.checkpoint is not None
    heldout = model.checkpoint.document["training"]["heldout_episodes"]
    episodes = np.setdiff1d(np.arange(dataset.num_episodes), heldout)
    latents = np.concatenate(list(filter_episodes(model, dataset, episodes))).astype(np.float64)
    assert model.normalizer is not None
    np.testing.assert_allclose(model.normalizer.mean, latents.mean(0), atol=1e-4)
    np.testing.assert_allclose(model.normalizer.std, latents.std(0), atol=1e-4)


def test_init_starts_from_other_weights(data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train(data, first, steps=3)
    before = tensors_of(first)
    train(data, second, steps=1, seed=7, init=first, options={"learning_rate": 1e-12})
    for name, tensor in tensors_of(second).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-9)


def test_init_of_another_size_is_refused(data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    train(data, first, steps=1)
    with pytest.raises(CheckpointError, match="does not fit the model to train"):
        train(data, tmp_path / "m.safetensors", init=first, options={"memory": 7})


def test_existing_outputs_are_refused_and_stay(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    train(data, path, steps=1)
    before = path.read_bytes()
    with pytest.raises(OutputExists, match=r"m\.safetensors exists already"):
        train(data, path)
    assert path.read_bytes() == before
    path.unlink()
    with pytest.raises(OutputExists, match=r"m\.run exists already"):
        train(data, path)
    train(data, path, steps=1, force=True)
    assert path.exists()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"options": {"memory": 6}}, "recipe.model.memory"),
        ({"options": {"learning_rate": 1.0}}, "recipe.training.learning_rate"),
    ],
)
def test_resuming_with_other_arguments_is_refused(
    data: Path, tmp_path: Path, changes: dict[str, Any], name: str
) -> None:
    path = tmp_path / "m.safetensors"
    train(data, path, steps=1)
    with pytest.raises(CheckpointError, match=f"another {name}"):
        train(data, path, resume=True, **changes)


def test_resuming_on_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "m.safetensors", tmp_path / "other.h5"
    train(data, path, steps=1)
    other.write_bytes(data.read_bytes())
    with h5py.File(other, "r+") as file:
        file["rewards"][0] = 3.0
    with pytest.raises(CheckpointError, match="another dataset"):
        train(other, path, resume=True)


def test_there_must_be_something_to_resume(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(data, tmp_path / "m.safetensors", resume=True)


def test_unknown_names_are_refused_with_the_nearest(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(ConfigError, match="no preset 'fats': did you mean 'fast'"):
        pretrain(data, path, preset="fats")
    with pytest.raises(ConfigError, match="no option 'windw': did you mean 'window'"):
        train(data, path, options={"windw": 3})
    with pytest.raises(ConfigError, match="invalid batch_size"):
        train(data, path, options={"batch_size": 0})
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_rewards_makes_a_model_without_them(data: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent.h5"
    silent.write_bytes(data.read_bytes())
    with h5py.File(silent, "r+") as file:
        del file["rewards"]
    result = train(silent, tmp_path / "m.safetensors", steps=2)
    assert result.train.keys() == {"kl", "image", "loss"}


def test_a_single_episode_leaves_nothing_to_hold_out(data: Path, tmp_path: Path) -> None:
    result = train(data, tmp_path / "m.safetensors", steps=2, options={"heldout_fraction": 0.0})
    assert result.heldout == {}
    assert result.best is None


def test_a_time_limit_ends_the_training(data: Path, tmp_path: Path) -> None:
    result = train(data, tmp_path / "m.safetensors", steps=10_000_000, minutes=1e-9)
    assert result.steps == 0
    assert latentwrap.load_model(result.checkpoint).normalizer is not None


def test_paper_preset_is_the_published_one() -> None:
    from latentwrap.training import PRESETS

    recipe = PRESETS["paper"]["slac"]
    model = recipe.model
    assert (model.features, model.z1, model.z2, model.hidden) == (256, 32, 256, (256, 256))
    assert (model.decoder_var, model.network) == (0.1, "paper")
    training = recipe.training
    assert (training.batch_size, training.window, training.learning_rate) == (32, 8, 1e-4)
    assert training.max_grad_norm is None
