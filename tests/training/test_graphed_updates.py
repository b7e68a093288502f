"""An update whose loss and gradient are a graph, with a recorder that needs no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import TINY
from tests.training.test_updater import (
    BATCH,
    CONFIG,
    LENGTH,
    VECTORS,
    make_model,
    make_windows,
    tensors_of,
)

from latentwrap.errors import TrainingDiverged
from latentwrap.graphs import Results
from latentwrap.models import LatentModel, WindowTensors
from latentwrap.training.updater import ModelUpdater

UPDATES = 7


class Recorder:
    """Repeats a function as a GPU would.

    Into the memory of its first results, and of the gradients that there were when it was recorded,
    whatever has become of the parameters' own since.
    """

    def __init__(self, model: LatentModel) -> None:
        self.recorded, self.replayed = 0, 0
        self._parameters = list(model.parameters())

    def __call__(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        self.recorded += 1
        results = {name: result.clone() for name, result in function().items()}
        recorded = [p.grad for p in self._parameters]
        for gradient in recorded:
            if gradient is not None:
                gradient.fill_(torch.nan)  # recording computes nothing

        def replay() -> None:
            self.replayed += 1
            now = [p.grad for p in self._parameters]
            self._point_at(recorded)
            for name, result in function().items():
                results[name].copy_(result)
            assert all(p.grad is g for p, g in zip(self._parameters, recorded, strict=True))
            self._point_at(now)

        return results, replay

    def _point_at(self, gradients: list[torch.Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient


def train(kind: str, *, graphed: bool, meddle: bool = False, **options: Any) -> list[Any]:
    """What updates return, and the state that they end in."""
    seen = {"vectors": VECTORS, "sees_vectors": True} if kind == "rssm" else {}
    model = make_model(kind, **seen)
    record = Recorder(model) if graphed else None
    updater = ModelUpdater(model, CONFIG.replace(**options), seed=3, record=record)
    found: list[Any] = []
    for number in range(UPDATES):
        windows = make_windows(number, vectors=bool(seen))
        if meddle and number == UPDATES - 2:
            model.zero_grad(set_to_none=True)
        loss = updater.update(windows)
        found.append({"total": loss.total, "features": loss.features, **loss.terms})
    if record is not None:
        assert (record.recorded, record.replayed) == (1, UPDATES - 3)
    return [*found, updater.state()]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("kind", TINY)
def test_a_graph_trains_bit_for_bit_as_no_graph_does(kind: str) -> None:
    for options in ({}, {"max_grad_norm": 0.5, "precision": "bfloat16"}):
        expected = train(kind, graphed=False, **options)
        assert_same(train(kind, graphed=True, **options), expected)


def test_gradients_that_someone_removes_do_not_take_the_graphs_memory_with_them() -> None:
    assert_same(train("slac", graphed=True, meddle=True), train("slac", graphed=False))


@pytest.mark.parametrize("at", [1, 5])
def test_a_graphed_update_that_diverges_leaves_everything_as_it_was(at: int) -> None:
    model = make_model()
    updater = ModelUpdater(model, CONFIG, seed=0, record=Recorder(model))
    for number in range(at):
        updater.update(make_windows(number))
    before = {name: tensor.clone() for name, tensor in updater.state().items()}
    windows = make_windows(at)
    assert windows.rewards is not None
    windows.rewards[0, 0] = np.inf
    with pytest.raises(TrainingDiverged, match=f"in step {at + 1} of training"):
        updater.update(windows)
    after = updater.state()
    assert all(torch.equal(after[name], before[name]) for name in before if name != "noise")
    for number in range(5):
        updater.update(make_windows(number))
    assert updater.steps_done == at + 5
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_what_cannot_be_recorded_trains_without_a_graph() -> None:
    def refuse(function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        function()
        raise RuntimeError("the device was busy")

    model = make_model("slac")
    updater = ModelUpdater(model, CONFIG, seed=3, record=refuse)
    for number in range(3):
        updater.update(make_windows(number))
    with pytest.warns(UserWarning, match=r"could not record .* \(the device was busy\)"):
        updater.update(make_windows(3))
    for number in range(4, UPDATES):
        updater.update(make_windows(number))
    assert_same([updater.state()], train("slac", graphed=False)[-1:])


@pytest.mark.parametrize("network", ["patch", "paper"])
@pytest.mark.parametrize("kind", TINY)
def test_neither_loss_nor_gradient_waits_for_the_host(kind: str, network: str) -> None:
    """Tensors without data: whoever asks for a number, or brings tensors of the CPU, fails."""
    options = {"network": network, "decoded_fraction": 0.5, "blurred_weight": 1.0}
    options |= {"standardize_frames": True, "standardize_rewards": True, "terminations": True}
    model = make_model(kind, vectors=VECTORS, sees_vectors=True, options=options)
    windows = tensors_of(make_windows(vectors=True), model)
    nowhere = torch.device("meta")
    model.to(nowhere)
    moved = WindowTensors(*(None if x is None else x.to(nowhere) for x in windows))
    noise = torch.empty(BATCH, LENGTH + 1, model.loss_noise_size, device=nowhere)
    loss = model.loss(moved, noise)
    loss.total.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    found = (norm, loss.features, *loss.terms.values())
    assert {x.device for x in found} == {nowhere}
    with pytest.raises(RuntimeError):
        norm.item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records on CUDA")
@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-3), ("bfloat16", 0.05)])
@pytest.mark.parametrize("kind", TINY)
def test_cuda_learns_with_a_graph_what_the_cpu_learns(
    kind: str, precision: str, close: float
) -> None:
    losses: dict[str, list[float]] = {}
    for device in ("cpu", "cuda"):
        model = make_model(kind).to(device)
        updater = ModelUpdater(model, CONFIG.replace(precision=precision), seed=3)
        losses[device] = [float(updater.update(make_windows(n)).total) for n in range(UPDATES)]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=close)
