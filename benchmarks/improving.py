"""What rounds bring where random actions never show what matters.

    python benchmarks/improving.py --seed 0 -o runs/hanging

A pixel pendulum hangs down at first (tests/support/latentwrap_test_swingup.py); in 100 episodes of
random actions it is never seen above the horizontal. A model is pretrained on those; an agent then
learns on its latents for 16,000 steps, once on the model as it is, and once in four rounds between
which the model goes on learning. Prints the share of the way from a random policy to the return of
a controller that knows the state, that each comes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from latentwrap.agents.runs import evaluate_random
from latentwrap.datasets import collect
from latentwrap.joint.improving import Rounds, improve
from latentwrap.joint.runs import JointOptions
from latentwrap.training import pretrain

TASK = "latentwrap_test_swingup:HangingPendulum-v0"
STEPS, ROUNDS, FRAMES, EPISODES = 16_000, 4, 20_000, 20
SOLVED = -371.0


def main() -> None:
    """Collect, pretrain, and let both learn."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    folder, seed = arguments.output, arguments.seed
    folder.mkdir(parents=True, exist_ok=True)
    data, model = folder / "data.h5", folder / "model.safetensors"
    if not data.exists():
        collect(TASK, data, steps=FRAMES, show_progress=True)
    if not model.exists():
        pretrain(data, model, show_progress=True)
    random = evaluate_random(TASK, EPISODES, seed=seed).mean
    shares = {}
    for name, rounds in (("frozen", 1), ("rounds", ROUNDS)):
        found = learn(folder / f"{name}{seed}", data, model, rounds, seed)
        shares[name] = (found - random) / (SOLVED - random)
        print(f"{name}: return {found:.0f} after {STEPS} steps, {100 * shares[name]:.0f} %")
    print(f"random: {random:.0f}; rounds come {shares['rounds'] / shares['frozen']:.2f} × as far")
    if arguments.json:
        print(json.dumps({"random": random, **shares}))


def learn(folder: Path, data: Path, model: Path, rounds: int, seed: int) -> float:
    """The mean return of the last agent on fresh episodes."""
    result = improve(
        TASK,
        folder,
        JointOptions(model=model, data=data, seed=seed),
        rounds=Rounds(rounds, STEPS // rounds, patience=rounds, episodes=EPISODES),
        resume=(folder / "state.safetensors").exists(),
        force=True,
        show_progress=True,
    )
    if result.evaluation is None:
        sys.exit("Interrupted: the same command goes on.")
    return result.evaluation.mean


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/hanging"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
