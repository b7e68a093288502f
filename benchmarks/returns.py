"""What SAC makes of the latents of a model: pretrain, train, evaluate.

    python benchmarks/returns.py pendulum
    python benchmarks/returns.py hover --kind slac --minutes 4

The model learns from random experience without its rewards, and SAC from that experience and
`--steps` more. `pendulum` is PixelPendulum. `hover` is the scene of tests/support in which a ball
that the action pushes is to be kept behind a wall, where no frame shows it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import latentwrap  # noqa: F401 - registers PixelPendulum
from latentwrap.agents import EvaluationResult
from latentwrap.agents.runs import evaluate_random, train_agent
from latentwrap.cli.common import parse_settings
from latentwrap.datasets import collect
from latentwrap.envs.making import find_spec
from latentwrap.training import pretrain

TASKS = {
    "pendulum": "latentwrap/PixelPendulum-v0",
    "hover": "latentwrap_test_scenes:Hover-v0",
}
EPISODES = 20


def main() -> None:
    """Collect, pretrain, train, compare with a random policy."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    env_id, seed = TASKS[arguments.task], arguments.seed
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.h5"
        collect(find_spec(env_id), data, steps=arguments.frames, seed=seed, show_progress=True)
        model = pretrain(
            data,
            Path(folder) / "model.safetensors",
            preset=arguments.preset,
            kind=arguments.kind,
            minutes=arguments.minutes,
            options=_options(arguments),
            seed=seed,
            show_progress=True,
        )
        learned = train_agent(
            env_id,
            model.checkpoint,
            Path(folder) / "agent",
            steps=arguments.steps,
            data=data,
            seed=seed,
            evaluate_every=arguments.steps,
            final_episodes=EPISODES,
            show_progress=True,
        ).evaluation
    random = evaluate_random(env_id, EPISODES, seed=seed)
    print(f"{arguments.task}: {model.steps} updates of the model, {arguments.steps} steps of SAC")
    for name, result in (("SAC on latents", learned), ("random policy", random)):
        print(f"  {name:16} {_words(result)}")
    if arguments.json:
        returns = {"learned": None if learned is None else learned.mean, "random": random.mean}
        print(json.dumps({"updates": model.steps, **returns}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--steps", type=int, default=10_000, help="of SAC in the environment")
    parser.add_argument("--frames", type=int, default=24_000, help="of random experience")
    parser.add_argument(
        "--minutes", type=float, help="of pretraining  [default: the preset's updates]"
    )
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--kind")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    # A reward would tell the model what the frames hide.
    return {"rewards": False} | parse_settings(None, tuple(arguments.set))


def _words(result: EvaluationResult | None) -> str:
    return "interrupted" if result is None else f"{result.mean:.1f} ± {result.std:.1f}"


if __name__ == "__main__":
    main()
