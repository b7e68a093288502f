"""The memory estimate against what autograd and the process really keep."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tests.conftest import make_tiny_model

from latentwrap.models import KINDS, WindowTensors
from latentwrap.training.memory import estimate_memory


def one_window(length: int) -> WindowTensors:
    frames = torch.zeros(1, length + 1, 16, 16, 3, dtype=torch.uint8)
    return WindowTensors(
        frames, torch.zeros(1, length, 1), torch.zeros(1, length), torch.zeros(1, length)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_estimate_grows_with_window_and_batch(kind: str) -> None:
    model = make_tiny_model(kind=kind)
    short = estimate_memory(model, one_window(4), batch_size=1, frames=1000)
    long = estimate_memory(model, one_window(19), batch_size=1, frames=1000)
    wide = estimate_memory(model, one_window(4), batch_size=7, frames=1000)
    assert 2 * short.batch < long.batch < 6 * short.batch
    assert wide.batch == 7 * short.batch
    assert short.weights == 5 * sum(4 * p.numel() for p in model.parameters())
    assert short.total == 1000 + short.weights + short.batch


def test_what_is_kept_for_gradients_is_counted_once() -> None:
    class Square(torch.nn.Module):
        """x² summed keeps x, once for each factor, and the weight is not counted."""

        loss_noise_size, device = 1, torch.device("cpu")

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1000))

        def loss(self, windows: WindowTensors, noise: torch.Tensor) -> torch.Tensor:
            x = self.weight + torch.ones(1000)
            return (x * x * self.weight).sum()

    estimate = estimate_memory(Square(), one_window(1), batch_size=1, frames=0)  # type: ignore[arg-type]
    assert estimate.batch == 2 * 4000 + one_window(1).frames.numel()  # x and x²


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    script = """
import resource, torch
from latentwrap.allocator import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        kept = [torch.ones(5_000_000) for _ in range(5)]  # 20 MB each
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
keep_freed_memory()
faults()
print(faults())
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 1000  # 5 x 100 MB are 122,000 pages
