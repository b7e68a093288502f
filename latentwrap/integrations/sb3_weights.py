"""Networks of Stable-Baselines3 with the weights of a file, which bound time and memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Unmoved(TorchFunctionMode):
    """Leaves tensors without memory where they are, and takes what is asked of them for true.

    Stable-Baselines3 moves the networks that it makes, and torch checks the parameters of the
    distributions.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.to and args[0].is_meta:
            return args[0]
        if func is torch.Tensor.__bool__ and args[0].is_meta:
            return True
        return func(*args, **(kwargs or {}))


def built(make: Callable[[], Any], weights: io.BytesIO) -> Any:
    """A policy with weights, on the CPU.

    It is made without memory for its weights, and takes those of the file as they are: settings
    that ask for a huge network cost nothing before they are found not to fit.

    Args:
        make: makes the policy.
        weights: the content of policy.pth.

    Raises:
        ValueError, RuntimeError, ...: the weights are no plain ones, or not those of the policy.
    """
    stored = _loaded(weights)
    with torch.random.fork_rng(devices=[]):  # noise for exploration is drawn
        with torch.device("meta"), _Unmoved():
            policy = make()
        policy.load_state_dict(stored, assign=True)
        for module in policy.modules():
            _make_noise(module)
    return policy


def _loaded(weights: io.BytesIO) -> dict[str, torch.Tensor]:
    size = weights.getbuffer().nbytes
    with zipfile.ZipFile(weights) as archive:
        if sum(member.file_size for member in archive.infolist()) > size:
            raise ValueError("its weights are compressed")
    weights.seek(0)
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    if not isinstance(stored, dict) or not all(map(_is_plain, stored.values())):
        raise ValueError("its weights are no plain arrays of numbers")
    return stored


def _is_plain(value: Any) -> bool:
    """Whether every number of it lies in memory by itself."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and value.dtype is torch.float32
        and value.is_contiguous()
    )


def _make_noise(module: Any) -> None:
    """Draw the noise of state-dependent exploration anew, from the weights that were loaded."""
    if getattr(module, "use_sde", False) and hasattr(module, "log_std"):
        module.reset_noise()
