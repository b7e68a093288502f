"""A computation on CUDA that is launched as one graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

Results: TypeAlias = dict[str, Tensor]
Function: TypeAlias = Callable[..., Results]
Record: TypeAlias = Callable[[Callable[[], Results]], "tuple[Results, Callable[[], None]]"]
"""Runs a function once, and gives its results and what repeats it into the same memory."""

_WARM_UP = 3  # calls in which libraries choose their kernels and take their memory


class Graphed:
    """Repeats a function of tensors as a CUDA graph.

    To launch a hundred small kernels one by one takes longer than what they compute. The function
    must do the same work for inputs of the same shapes, change what it keeps in place, and never
    wait for the GPU; each new combination of shapes becomes a graph of its own. If one cannot be
    recorded, it says so, and the function is called as it is from then on.

    A copy records graphs of its own.

    Args:
        function: of tensors, or of `None`, which stays what it was.
        record: records a graph.

    Example:
        >>> def doubled(x):
        ...     return {"y": 2 * x}
        >>> quick = graphed(doubled, record_on(torch.device("cuda")))  # doctest: +SKIP
        >>> quick(torch.ones(1, device="cuda"))  # doctest: +SKIP
        {'y': tensor([2.], device='cuda:0')}
    """

    def __init__(self, function: Function, record: Record) -> None:
        self._function, self._record = function, record
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"_function": self._function, "_record": self._record}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _forget(self) -> None:
        self._calls: dict[tuple[object, ...], int] = {}
        self._graphs: dict[tuple[object, ...], _Graph] = {}
        self._refused = False

    def __call__(self, *inputs: Tensor | None) -> Results:
        """What the function gives, in tensors of their own."""
        key = tuple(None if x is None else (x.shape, x.dtype) for x in inputs)
        if key not in self._graphs:
            self._calls[key] = self._calls.get(key, 0) + 1
            if self._calls[key] > _WARM_UP and not self._refused:
                self._try_to_record(key, inputs)
        if key in self._graphs:
            # Recording computes nothing, so the first replay is this very call.
            return self._graphs[key](inputs)
        return _copied(self._function(*inputs))

    def _try_to_record(self, key: tuple[object, ...], inputs: Sequence[Tensor | None]) -> None:
        try:
            self._graphs[key] = _Graph(self._function, inputs, self._record)
        except RuntimeError as error:
            self._refused = True
            reason = str(error).partition("\n")[0].rstrip(".")
            warnings.warn(
                f"CUDA could not record an update as one graph ({reason}): it goes on without, "
                "with the same results in more time.",
                stacklevel=4,
            )


class _Graph:
    def __init__(self, function: Function, inputs: Sequence[Tensor | None], record: Record) -> None:
        self._inputs = [None if x is None else x.clone() for x in inputs]
        self._results, self._replay = record(lambda: function(*self._inputs))

    def __call__(self, inputs: Sequence[Tensor | None]) -> Results:
        for kept, given in zip(self._inputs, inputs, strict=True):
            if kept is not None and given is not None:
                kept.copy_(given, non_blocking=True)
        self._replay()
        return _copied(self._results)


def graphed(function: Function, record: Record | None) -> Function:
    """The function as graphs, or as it is where nothing records them."""
    return function if record is None else Graphed(function, record)


def record_on(device: torch.device) -> Record | None:
    """Records what a function launches on a GPU; nothing is computed before the first replay.

    `None` on another device, whose work is not launched.
    """
    return partial(_record_cuda, device) if device.type == "cuda" else None


def _record_cuda(
    device: torch.device, function: Callable[[], Results]
) -> tuple[Results, Callable[[], None]]:
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(device)
    # A graph records the current device alone; the stream that torch would take is where the first
    # graph of all was.
    stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.device(device), torch.cuda.graph(graph, stream=stream):
        results = function()
    return results, graph.replay


def _copied(results: Results) -> Results:
    return {name: result.clone() for name, result in results.items()}
