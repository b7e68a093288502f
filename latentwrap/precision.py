"""How precisely networks of pixels, and products of matrices, are computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]


class _OfThread(threading.local):
    """What `computing` asks for in one thread; torch's exporter cannot trace a `ContextVar`."""

    reduced: torch.dtype | None = None


_asked = _OfThread()


@contextmanager
def computing(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute at a precision, and afterwards as before.

    Weights, and all that `reduced` does not run, stay float32.

    Args:
        precision: `float32` leaves torch's settings alone; `tf32` lets CUDA round what enters
            products and convolutions to 10 bits, and means nothing on a CPU; `bfloat16` is how
            `reduced` runs networks.
        device: where.

    Example:
        >>> with computing("bfloat16", torch.device("cpu")):
        ...     reduced(torch.nn.Linear(2, 1), torch.ones(1, 2)).dtype
        torch.float32
    """
    with ExitStack() as stack:
        stack.callback(setattr, _asked, "reduced", _asked.reduced)
        _asked.reduced = torch.bfloat16 if precision == "bfloat16" else None
        if precision == "tf32" and device.type == "cuda":
            for owner, name, value in _tf32_switches():
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)
        yield


def reduced(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """What a network gives, at the precision of `computing`, in the type of its inputs.

    Meant for networks of pixels. They are most of the arithmetic, and what they round is far below
    the noise of a frame. Latents are carried from step to step, and likelihoods divide by small
    variances: there a rounding grows.

    Args:
        network: of one tensor.
        inputs: float32 (N, ...).
    """
    dtype = _asked.reduced
    if dtype is None:
        return network(inputs)
    with torch.autocast(inputs.device.type, dtype):
        return network(inputs).to(inputs.dtype)


def _tf32_switches() -> list[tuple[Any, str, Any]]:
    """What lets CUDA use TF32: owners, attributes and values."""
    products: Any = torch.backends.cuda.matmul
    convolutions: Any = torch.backends.cudnn
    if hasattr(products, "fp32_precision"):
        # Where a program uses these, reading the older ones below is an error.
        return [(owner, "fp32_precision", "tf32") for owner in (products, convolutions.conv)]
    return [(owner, "allow_tf32", True) for owner in (products, convolutions)]
