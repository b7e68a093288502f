"""What becomes of inputs and results of a graph, with a recorder that needs no GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from latentwrap.graphs import Graphed, Results, record_on


class Counting:
    """A function that keeps something, and a recorder of it that needs no GPU."""

    def __init__(self) -> None:
        self.kept, self.recorded = torch.zeros(()), 0

    def advance(self, x: Tensor, y: Tensor | None) -> Results:
        self.kept.add_(1)
        return {"sum": x.sum() + (0 if y is None else y.sum()), "kept": self.kept}

    def record(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        """Repeats it into the memory of its first results; recording itself computes nothing."""
        self.recorded += 1
        before = self.kept.clone()
        results = {name: result.clone() for name, result in function().items()}
        self.kept.copy_(before)

        def replay() -> None:
            for name, result in function().items():
                results[name].copy_(result)

        return results, replay


def test_every_call_computes_once_with_its_own_inputs() -> None:
    counting = Counting()
    graphed = Graphed(counting.advance, counting.record)
    found = [graphed(torch.full((3,), float(i)), torch.tensor([10.0])) for i in range(8)]
    assert counting.recorded == 1
    assert [each["sum"].item() for each in found] == [3 * i + 10 for i in range(8)]
    assert [each["kept"].item() for each in found] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_other_shapes_and_missing_inputs_are_graphs_of_their_own() -> None:
    counting = Counting()
    graphed = Graphed(counting.advance, counting.record)
    for _ in range(5):
        assert graphed(torch.ones(3), None)["sum"] == 3
        assert graphed(torch.ones(4), None)["sum"] == 4
        assert graphed(torch.ones(4), torch.ones(2))["sum"] == 6
    assert counting.recorded == 3


def test_a_copy_records_anew() -> None:
    counting = Counting()
    graphed = Graphed(counting.advance, counting.record)
    for _ in range(5):
        graphed(torch.ones(3), None)
    copied = copy.deepcopy(graphed)
    found = [copied(torch.ones(3), None)["kept"].item() for _ in range(5)]
    assert found == [6, 7, 8, 9, 10]
    assert counting.kept == 5
    assert counting.recorded == 1


def test_what_cannot_be_recorded_is_done_without_a_graph_and_said_once() -> None:
    counting = Counting()

    def refuse(function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    graphed = Graphed(counting.advance, refuse)
    found = [graphed(torch.ones(3), None)["kept"].item() for _ in range(3)]
    with pytest.warns(UserWarning, match=r"one graph \(operation not .* capturing\): it goes on"):
        found.append(graphed(torch.ones(3), None)["kept"].item())
    found += [graphed(torch.ones(size), None)["kept"].item() for size in (3, 4, 4, 4, 4)]
    assert found == [1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records on CUDA")
def test_a_cuda_graph_is_what_the_function_does() -> None:
    kept = torch.zeros((), device="cuda")

    def function(x: Tensor) -> Results:
        kept.add_(x.sum())
        return {"kept": kept * 2}

    graphed = Graphed(function, record_on(torch.device("cuda")))
    found = [graphed(torch.full((3,), float(i), device="cuda"))["kept"].item() for i in range(6)]
    assert found == [0, 6, 18, 36, 60, 90]
