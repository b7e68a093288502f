"""What is sent to a device is there before it is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from latentwrap.devices import to_device

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Sent:
    """Stands for a tensor, for there may be no GPU; remembers what is done with it."""

    def __init__(self, device: torch.device, *done: object) -> None:
        self.device, self.done = device, done

    def pin_memory(self) -> Sent:
        return Sent(self.device, *self.done, "pinned")

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Sent:
        return Sent(device, *self.done, "on its way" if non_blocking else "arrived")


@pytest.mark.parametrize(
    ("start", "end", "done"),
    [
        (CPU, CUDA, ("pinned", "on its way")),
        (CUDA, CUDA, ("on its way",)),  # where kernels wait their turn
        (CUDA, CPU, ("arrived",)),  # where nothing would wait for it
        (CPU, CPU, ("arrived",)),
    ],
)
def test_only_what_goes_to_a_gpu_may_still_be_on_its_way(
    start: torch.device, end: torch.device, done: tuple[str, ...]
) -> None:
    sent: Any = Sent(start)
    assert to_device(sent, end).done == done
