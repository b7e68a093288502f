"""The memory of an optimiser, as tensors that a file can hold."""

from __future__ import annotations

import torch
from torch import Tensor


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of step counts and moments, named `<parameter index>.<what>`."""
    return {
        f"{index}.{name}": tensor.clone()
        for index, held in optimizer.state_dict()["state"].items()
        for name, tensor in held.items()
    }


def restore_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Go on from what `moments` gave."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    held: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, what = name.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            # The fused optimiser pairs memory, not indices: the layouts must agree.
            tensor = torch.empty_like(parameter).copy_(tensor)
        held.setdefault(int(index), {})[what] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": held, "param_groups": groups})


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, named without it."""
    size = len(prefix)
    return {name[size:]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
