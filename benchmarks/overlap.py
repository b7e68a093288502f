"""Environment steps a second, with the environment in this process and in one of its own.

    python benchmarks/overlap.py CarRacing-v3

An agent learns on the latents of a model with random weights, or together with it; both forms take
turns. An update is made for each step, so what is saved is the shorter of stepping and learning.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from latentwrap import SAC, SLAC, LatentObservation, VectorLatentObservation
from latentwrap.actions import ActionSpec
from latentwrap.agents.online import OnlineAgent
from latentwrap.datasets.workers import running
from latentwrap.devices import threads_beside
from latentwrap.envs.making import make_env
from latentwrap.models import build_model, load_model, save_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.training import make_recipe
from latentwrap.wrappers.frame_envs import frame_maker
from latentwrap.wrappers.workers import OneEnvironment, made_frames

_STARTS = 200


def main() -> None:
    """Print steps a second of each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("env_id")
    parser.add_argument("--steps", type=int, default=300, help="in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = {}
    for what in ("frozen", "joint"):
        with TemporaryDirectory() as folder:
            rates = _race(what, Path(folder) / "model.safetensors", arguments)
        found[what] = {**rates, "ratio": rates["apart"] / rates["here"]}
        print(
            f"{what}: {rates['here']:.1f} steps a second in one process, {rates['apart']:.1f} "
            f"in two, {found[what]['ratio']:.2f} times as many",
            flush=True,
        )
    print(json.dumps({"env_id": arguments.env_id, "steps_per_second": found}))


def _race(what: str, checkpoint: Path, arguments: argparse.Namespace) -> dict[str, float]:
    _write_model(arguments.env_id, checkpoint)
    rates: dict[str, list[float]] = {"here": [], "apart": []}
    agents = {"here": _agent(what, checkpoint, arguments.env_id, apart=False)}
    agents["apart"] = _agent(what, checkpoint, arguments.env_id, apart=True)
    with agents["here"] as here, agents["apart"] as apart:
        for agent in (here, apart):
            agent.learn(_STARTS + 50)
        for _ in range(arguments.rounds):
            rates["here"].append(_steps_per_second(here, arguments.steps))
            with threads_beside(1):
                rates["apart"].append(_steps_per_second(apart, arguments.steps))
    return {name: statistics.median(values) for name, values in rates.items()}


def _steps_per_second(agent: OnlineAgent, steps: int) -> float:
    started = time.perf_counter()
    agent.learn(steps)
    return steps / (time.perf_counter() - started)


@contextmanager
def _agent(what: str, checkpoint: Path, env_id: str, *, apart: bool) -> Iterator[OnlineAgent]:
    model = load_model(checkpoint)
    make = frame_maker(env_id, model)
    options: dict[str, Any] = {"seed": 0, "device": "cpu", "learning_starts": _STARTS}
    with running(make, 1, env_id, apart=apart) as envs:
        if what == "joint":
            yield SLAC(envs, model, **options)
        elif apart:
            yield SAC(VectorLatentObservation(envs, model), **options)
        else:
            with closing(LatentObservation(make_env(env_id), model)) as env:
                yield SAC(env, **options)


def _write_model(env_id: str, path: Path) -> None:
    recipe = make_recipe("fast", {})
    with closing(frame_maker(env_id, None)()) as env:
        made = made_frames(OneEnvironment(env))
        assert made is not None
        model = build_model(
            recipe.kind,
            recipe.model.model_dump(),
            frame_spec=made.frames,
            action_spec=ActionSpec(env.action_space),
            generator=torch.Generator().manual_seed(0),
        )
    model.normalizer = LatentNormalizer.identity(model.latent_size)
    save_model(path, model, training={})


if __name__ == "__main__":
    main()
