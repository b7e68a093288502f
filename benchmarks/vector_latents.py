"""Many environments through one model: VectorLatentObservation beside as many LatentObservation.

    python benchmarks/vector_latents.py [--num-envs 16] [--model runs/demo/pendulum.safetensors]
    python benchmarks/vector_latents.py workers [--env-id CarRacing-v3]

The first steps PixelPendulum in turn in this process, both ways in alternation, and compares the
latents. Floor: the time that the environments alone take. The second steps rendered environments in
spawned workers, 1 and 2 of them, and looks whether they have torch in their memory. (A spawned
process imports the script that started it: one that imports torch at its top, unlike this one,
brings torch into every worker.)
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np

import latentwrap
from latentwrap.envs import LATENT, PIXEL_PENDULUM
from latentwrap.envs.making import make_env

ROUNDS = 7
STEPS = 100


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["batch", "workers"], default="batch")
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--model", type=Path, help="A checkpoint; one is made where none is given.")
    parser.add_argument("--env-id", default="CarRacing-v3", help="Of the workers.")
    parser.add_argument("--threads", type=int, help="Of torch; 2, and 1 beside workers.")
    arguments = parser.parse_args()
    set_threads(arguments.threads or (2 if arguments.what == "batch" else 1))
    with tempfile.TemporaryDirectory() as folder:
        env_id = PIXEL_PENDULUM if arguments.what == "batch" else arguments.env_id
        model = arguments.model or brief_model(env_id, Path(folder))
        if arguments.what == "batch":
            compare(model, arguments.num_envs)
        else:
            scale(model, env_id)


def set_threads(count: int) -> None:
    """Of torch in this process."""
    import torch

    torch.set_num_threads(count)


def brief_model(env_id: str, folder: Path) -> Path:
    """A `fast` model of the environment, hardly trained: what it costs is what counts."""
    from latentwrap.datasets import collect
    from latentwrap.training import pretrain

    data, model = folder / "brief.h5", folder / "brief.safetensors"
    collect(env_id, data, steps=400)
    pretrain(data, model, options={"steps": 5})
    return model


def compare(path: Path, num: int) -> None:
    """Steps per second both ways, and the largest difference between their latents."""
    model = latentwrap.load_model(path)
    singles = [latentwrap.LatentObservation(make_env(PIXEL_PENDULUM), model) for _ in range(num)]
    together = latentwrap.VectorLatentObservation(
        gym.vector.SyncVectorEnv([lambda: make_env(PIXEL_PENDULUM)] * num), model
    )
    bare = gym.vector.SyncVectorEnv([lambda: make_env(PIXEL_PENDULUM)] * num)
    rng = np.random.default_rng(0)
    difference = 0.0
    times: dict[str, list[float]] = {"alone": [], "together": [], "bare": []}
    for seed in range(ROUNDS):
        actions = rng.uniform(-2, 2, (STEPS, num, 1)).astype(np.float32)
        for stream, env in enumerate(singles):
            env.reset(seed=seed + stream)
        together.reset(seed=seed)
        bare.reset(seed=seed)

        def step_singles(action: np.ndarray) -> np.ndarray:
            return np.stack([env.step(a)[0] for env, a in zip(singles, action, strict=True)])

        alone = timed(step_singles, actions, times["alone"])
        batched = timed(lambda action: together.step(action)[0], actions, times["together"])
        timed(lambda action: bare.step(action)[0], actions, times["bare"])
        difference = max(difference, float(np.abs(alone - batched).max()))
    rates = {name: num * STEPS / statistics.median(taken) for name, taken in times.items()}
    print(f"{num} environments, {STEPS} steps, median of {ROUNDS}:")
    print(f"  {num} × LatentObservation      {rates['alone']:8.0f} steps/s")
    print(f"  VectorLatentObservation     {rates['together']:8.0f} steps/s")
    print(f"  the environments alone      {rates['bare']:8.0f} steps/s")
    print(f"  ratio {rates['together'] / rates['alone']:.2f}")
    print(f"  largest difference of standardised latents {difference:.1e}")


def timed(
    step: Callable[[np.ndarray], np.ndarray], actions: np.ndarray, times: list[float]
) -> np.ndarray:
    """What came of every action, and how long that took."""
    began = time.perf_counter()
    found = [step(action) for action in actions]
    times.append(time.perf_counter() - began)
    return np.stack(found)


def scale(model: Path, env_id: str) -> None:
    """Steps per second of 1 and 2 spawned workers with as many environments."""
    for workers in (1, 2):
        envs = gym.make_vec(
            LATENT, num_envs=workers, env_id=env_id, ckpt=str(model), workers="async"
        )
        envs.reset(seed=0)
        envs.action_space.seed(0)
        rates = []
        for _ in range(3):
            began = time.perf_counter()
            for _ in range(STEPS):
                envs.step(envs.action_space.sample())
            rates.append(workers * STEPS / (time.perf_counter() - began))
        loaded = sum(has_torch(process.pid) for process in envs.unwrapped.processes)
        rate = statistics.median(rates)
        print(f"{workers} workers: {rate:.0f} steps/s, torch loaded in {loaded} of them")
        envs.close()


def has_torch(pid: int) -> bool:
    """Whether a process has mapped torch's library."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
