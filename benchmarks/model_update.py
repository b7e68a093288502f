"""Time one model update of each preset beside slac.pytorch's, in turn.

    python benchmarks/model_update.py --slac-pytorch PATH_TO_YOUR_CLONE

Every update sees 32 windows of 9 frames of 64×64×3. Each contestant lives in a process of its own,
as it would for its user, and they take turns; the medians and their ratios are printed, with two
floors: the arithmetic of the published convolutions at the rate of a large product of matrices,
and at that of a large convolution.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from gymnasium import spaces

from latentwrap.actions import ActionSpec
from latentwrap.allocator import keep_freed_memory
from latentwrap.models import WindowTensors, build_model
from latentwrap.pixels import FrameSpec
from latentwrap.training import make_recipe

WINDOWS, ACTIONS, SIZE, ACTION_SIZE = 32, 8, 64, 2
PAPER_GFLOP = 61  # multiplications and additions, forward and backward
_WARM_UP = 3


def main() -> None:
    """Run the race."""
    arguments = _arguments()
    names = ["slac.pytorch", "paper slac", "fast rssm", "fast slac", "fast deterministic"]
    contestants = {name: _start(name, arguments) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(arguments.rounds + _WARM_UP):
        for name, connection in contestants.items():
            connection.send("update")
            seconds = connection.recv()
            if turn >= _WARM_UP:
                times[name].append(seconds)
    for connection in contestants.values():
        connection.send(None)
    medians = {name: statistics.median(values) for name, values in times.items()}
    peer = medians["slac.pytorch"]
    for name, seconds in medians.items():
        print(f"{name:>20}  {1000 * seconds:6.1f} ms per update   {peer / seconds:5.2f} ×")
    torch.set_num_threads(arguments.threads)
    rates = {"matrices": _matrix_rate(), "convolution": _convolution_rate()}
    for name, rate in rates.items():
        floor = PAPER_GFLOP / rate
        print(f"floor of paper, {name}: {1000 * floor:.0f} ms at {rate:.0f} GFLOP/s")
    if arguments.json:
        print(json.dumps({"seconds": medians, "gflops": rates}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--slac-pytorch", type=Path, required=True, help="a clone of slac.pytorch")
    parser.add_argument("--rounds", type=int, default=15, help="timed updates of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def _start(name: str, arguments: argparse.Namespace) -> Connection:
    here, there = multiprocessing.get_context("spawn").Pipe()
    context = multiprocessing.get_context("spawn")
    context.Process(target=_contestant, args=(there, name, arguments), daemon=True).start()
    return here


def _contestant(connection: Connection, name: str, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    preset, _, kind = name.partition(" ")
    update = _our_update(preset, kind) if kind else _peer_update(arguments.slac_pytorch)
    while connection.recv():
        started = time.perf_counter()
        update()
        connection.send(time.perf_counter() - started)


def _batch() -> WindowTensors:
    frames = torch.randint(0, 256, (WINDOWS, ACTIONS + 1, SIZE, SIZE, 3), dtype=torch.uint8)
    actions = torch.rand(WINDOWS, ACTIONS, ACTION_SIZE) * 2 - 1
    rewards = torch.randn(WINDOWS, ACTIONS)
    return WindowTensors(frames, actions, rewards, torch.zeros(WINDOWS, ACTIONS))


def _our_update(preset: str, kind: str) -> Callable[[], None]:
    keep_freed_memory()
    recipe = make_recipe(preset, {}, kind=kind)
    model = build_model(
        kind,
        recipe.model.model_dump(),
        frame_spec=FrameSpec(height=SIZE, width=SIZE),
        action_spec=ActionSpec(spaces.Box(-1, 1, (ACTION_SIZE,))),
        generator=torch.Generator().manual_seed(0),
    )
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    windows = _batch()

    def update() -> None:
        noise = torch.randn(WINDOWS, ACTIONS + 1, model.loss_noise_size)
        loss = model.loss(windows, noise).total
        adam.zero_grad()
        loss.backward()
        adam.step()

    return update


def _peer_update(path: Path) -> Callable[[], None]:
    sys.path.insert(0, str(path))
    warnings.simplefilter("ignore")  # it uses deprecated TorchScript classes
    module = importlib.import_module("slac.network.latent")
    model = module.LatentModel((3, SIZE, SIZE), (ACTION_SIZE,))
    adam = torch.optim.Adam(model.parameters(), lr=1e-4)
    windows = _batch()

    def update() -> None:
        # As its `update_latent` does with a batch of bytes.
        states = windows.frames.permute(0, 1, 4, 2, 3).contiguous().float().div_(255.0)
        rewards = windows.rewards[..., None]
        losses = model.calculate_loss(states, windows.actions, rewards, torch.zeros_like(rewards))
        adam.zero_grad()
        sum(losses).backward()
        adam.step()

    return update


@torch.no_grad()
def _matrix_rate() -> float:
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / _median(lambda: a @ b) / 1e9


@torch.no_grad()
def _convolution_rate() -> float:
    layer = torch.nn.Conv2d(64, 128, 3, 2, 1).to(memory_format=torch.channels_last)
    x = torch.randn(288, 64, 16, 16).to(memory_format=torch.channels_last)
    return 2 * 288 * 8 * 8 * 9 * 64 * 128 / _median(lambda: layer(x)) / 1e9


def _median(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
