"""The device that tensors live on, and its threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from latentwrap.errors import ConfigError
from latentwrap.types import AnyArray

DEVICES = ("auto", "cpu", "cuda")


def _one_thread() -> None:
    torch.set_num_threads(1)


# The threads of OpenMP do not survive a fork: a forked worker would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)


@contextmanager
def threads_beside(others: int) -> Iterator[None]:
    """Leave a core to each of so many busy processes.

    Two threads that wait for each other on one core take longer than one alone.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - others))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def to_device(values: Tensor | AnyArray, device: torch.device) -> Tensor:
    """A tensor, or an array as one, on the device.

    What goes to a GPU does not wait for what that has to do yet; what comes to the CPU does, for it
    may be read at once.
    """
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type != "cuda":
        return tensor.to(device)
    if tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def resolve_device(name: str) -> torch.device:
    """The torch device of a name.

    Args:
        name: `cpu`, `cuda` (or `cuda:1`), or `auto`, which takes CUDA where there is one.

    Raises:
        ConfigError: another name, or CUDA where there is none.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not index.isdecimal())):
        raise ConfigError(f"The device must be auto, cpu, cuda or cuda:N, got {name!r}.")
    if kind == "cuda" and not available:
        raise ConfigError("The device cuda was asked for, but torch finds none: use cpu or auto.")
    if colon and int(index) >= torch.cuda.device_count():
        raise ConfigError(f"The device {name} was asked for, but torch finds no such: use cuda.")
    return torch.device(name)
