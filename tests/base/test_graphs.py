"""What becomes of inputs and results of a graph, with a recorder that needs no GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from latentwrap.graphs import Graphed, Results, record_cuda


class Recorder:
    """Repeats a function into the memory of its first results, as a graph does."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        self.recorded += 1
        # Recording launches nothing: what the function keeps must not have moved.
        state = KEPT.clone()
        results = function()
        KEPT.copy_(state)

        def replay() -> None:
            for name, result in function().items():
                results[name].copy_(result)

        return results, replay


KEPT = torch.zeros(())


def advance(x: Tensor, y: Tensor | None) -> Results:
    KEPT.add_(1)
    return {"sum": x.sum() + (0 if y is None else y.sum()), "kept": KEPT}


def test_every_call_computes_once_with_its_own_inputs() -> None:
    KEPT.zero_()
    recorder = Recorder()
    graphed = Graphed(advance, recorder)
    found = [graphed(torch.full((3,), float(i)), torch.tensor([10.0])) for i in range(8)]
    assert recorder.recorded == 1
    assert [each["sum"].item() for each in found] == [3 * i + 10 for i in range(8)]
    # The first calls give what the function keeps itself, later ones a copy of it.
    assert [each["kept"].item() for each in found[3:]] == [4, 5, 6, 7, 8]


def test_other_shapes_and_missing_inputs_are_graphs_of_their_own() -> None:
    recorder = Recorder()
    graphed = Graphed(advance, recorder)
    for _ in range(5):
        assert graphed(torch.ones(3), None)["sum"] == 3
        assert graphed(torch.ones(4), None)["sum"] == 4
        assert graphed(torch.ones(4), torch.ones(2))["sum"] == 6
    assert recorder.recorded == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records on CUDA")
def test_a_cuda_graph_is_what_the_function_does() -> None:
    kept = torch.zeros((), device="cuda")

    def function(x: Tensor) -> Results:
        kept.add_(x.sum())
        return {"kept": kept * 2}

    graphed = Graphed(function, record_cuda)
    found = [graphed(torch.full((3,), float(i), device="cuda"))["kept"].item() for i in range(6)]
    assert found == [0, 6, 18, 36, 60, 90]
