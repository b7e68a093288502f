"""Choosing the device that tensors live on."""

from __future__ import annotations

import torch

from latentwrap.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")


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
    kind = name.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"The device must be auto, cpu or cuda, got {name!r}.")
    if kind == "cuda" and not available:
        raise ConfigError("The device cuda was asked for, but torch finds none: use cpu or auto.")
    return torch.device(name)
