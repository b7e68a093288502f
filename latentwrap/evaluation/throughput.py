"""How fast a model filters and imagines on this machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentwrap.models import LatentModel

_SECONDS = 0.4
_BATCH = 32


@dataclass(frozen=True)
class ThroughputResult:
    """Speed on this machine.

    Attributes:
        device: what the model runs on.
        machine: architecture and system.
        threads: that torch uses.
        filter_ms: one filter step of one environment, median, milliseconds.
        filter_hz: its inverse: the fastest control loop.
        filter_fps: frames a second in batches of 32 environments.
        imagine_fps: prior steps a second in batches of 32, without decoding.
    """

    device: str
    machine: str
    threads: int
    filter_ms: float
    filter_hz: float
    filter_fps: float
    imagine_fps: float


@torch.inference_mode()
def measure_throughput(model: LatentModel) -> ThroughputResult:
    """Time filter and prior steps for about two seconds; all that it sees is zeros."""
    single = _seconds_of(_filter_step(model, 1), model.device)
    batch = _seconds_of(_filter_step(model, _BATCH), model.device)
    prior = _seconds_of(_prior_step(model, _BATCH), model.device)
    return ThroughputResult(
        device=str(model.device),
        machine=f"{platform.machine()}, {platform.system()}",
        threads=torch.get_num_threads(),
        filter_ms=1000 * single,
        filter_hz=1 / single,
        filter_fps=_BATCH / batch,
        imagine_fps=_BATCH / prior,
    )


def _filter_step(model: LatentModel, size: int) -> Callable[[], object]:
    frames = torch.zeros((size, *model.frame_spec.shape), dtype=torch.uint8, device=model.device)
    actions = torch.zeros((size, model.action_spec.size), device=model.device)
    vectors = _vectors(model, size)
    belief = model.initial(frames, vectors=vectors)
    # The latent is copied back, as a control loop needs it.
    return lambda: model.latent(model.filter(belief, actions, frames, vectors=vectors)).cpu()


def _prior_step(model: LatentModel, size: int) -> Callable[[], object]:
    frames = torch.zeros((size, *model.frame_spec.shape), dtype=torch.uint8, device=model.device)
    actions = torch.zeros((size, model.action_spec.size), device=model.device)
    belief = model.initial(frames, vectors=_vectors(model, size))
    return lambda: model.latent(model.predict(belief, actions)).cpu()


def _vectors(model: LatentModel, size: int) -> Tensor | None:
    if not model.sees_vectors:
        return None
    return torch.zeros(size, model.vector_spec.size, device=model.device)


def _seconds_of(step: Callable[[], object], device: torch.device) -> float:
    """Median time of a step."""
    for _ in range(3):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    times: list[float] = []
    until = time.perf_counter() + _SECONDS
    while time.perf_counter() < until or len(times) < 5:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]
