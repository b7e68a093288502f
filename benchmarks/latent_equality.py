"""Compare the latents of the same episodes in every form, over random patterns of episode ends.

    python benchmarks/latent_equality.py --patterns 1000

Each pattern says, for each of three environments, after how many steps its episodes end and how;
some are left before their end. It is played in every form, raw, standardised and as samples, with
a tiny untrained model: of every kind in turn, with continuous and discrete actions. The frames are
noise that the actions shift. What is handed out is compared with the model called step by step, one
episode at a time, on what the environments recorded. Printed is the largest difference in each
form, raw ones divided by max(1, |z|). TorchRL and Stable-Baselines3 count where they are installed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from latentwrap.actions import ActionSpec
from latentwrap.models import LatentModel, build_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec
from latentwrap.testing import Plan
from latentwrap.testing.comparing import RAW, STANDARDISED, Comparison, compare
from latentwrap.testing.forms import FORMS, compare_offline
from latentwrap.testing.subjects import LatentSubject, NotRun

SIZE, ENVS = 16, 3
_TINY = {"network": "patch", "patch": 8, "widths": (4, 8), "features": 12, "hidden": (16, 16)}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "rssm": ("rssm", {**_TINY, "memory": 5, "stochastic": 3}),
    "rssm, discrete": ("rssm", {**_TINY, "memory": 4, "stochastic": 2, "classes": 2}),
    "slac": ("slac", {**_TINY, "z1": 3, "z2": 5}),
    "deterministic": ("deterministic", {**_TINY, "z": 8}),
}
SPACES: list[spaces.Space[Any]] = [spaces.Box(-2, 2, (2,)), spaces.Discrete(3)]
VARIANTS: dict[str, dict[str, bool]] = {
    "raw": {"normalize": False, "deterministic": True},
    "standardised": {"normalize": True, "deterministic": True},
    "raw samples": {"normalize": False, "deterministic": False},
}


class Noise(gym.Env[Any, Any]):
    """Frames of noise, shifted by all actions of the episode so far; it never ends by itself.

    Args:
        space: of the actions.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.action_space = space
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        super().reset(seed=seed, options=options)
        self._shift = 0.0
        return self._frame(), {}

    def step(self, action: Any) -> Any:
        """Shift the frames."""
        self._shift += 20 * float(np.sum(action))
        return self._frame(), 0.0, False, False, {}

    def _frame(self) -> Any:
        noise = self.np_random.integers(0, 100, (SIZE, SIZE, 3))
        return ((noise + int(self._shift)) % 256).astype(np.uint8)


def main() -> None:
    """Play all patterns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patterns", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20, help="of each environment, in each form")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--json", action="store_true", help="also print the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began, table = time.monotonic(), Table()
    makers = list(itertools.product(KINDS, SPACES))
    models = [tiny_model(kind, space) for kind, space in makers]
    for number in range(arguments.patterns):
        model, (_, space) = models[number % len(makers)], makers[number % len(makers)]
        seed = arguments.seed * arguments.patterns + number
        plan = Plan.draw(seed, num_envs=ENVS, steps=arguments.steps)
        for variant, options in VARIANTS.items():
            subject = LatentSubject(partial(Noise, space), model, **options)
            for form, comparison in compare_forms(subject, plan, arguments.forms):
                table.add(form, variant, comparison, f"pattern {number}")
        if (number + 1) % 100 == 0:
            print(f"{number + 1} patterns, {time.monotonic() - began:.0f} s", flush=True)
    table.show(arguments.patterns)
    if arguments.json:
        print(json.dumps(table.largest))


class Table:
    """The largest differences so far.

    Attributes:
        largest: by form and variant.
    """

    def __init__(self) -> None:
        self.largest: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.wrong: list[str] = []
        self._count: Counter[str] = Counter()

    def add(self, form: str, variant: str, comparison: Comparison, where: str) -> None:
        """Add one comparison."""
        row = self.largest[form]
        row[variant] = max(row[variant], comparison.largest)
        self._count[form] += comparison.count
        if not comparison.passed:
            self.wrong.append(f"{where}, {form}, {variant}: {comparison}")

    def show(self, patterns: int) -> None:
        """Print it."""
        print(f"{patterns} patterns; allowed: raw {RAW:.0e}, standardised {STANDARDISED:.0e}")
        print("| form | " + " | ".join(VARIANTS) + " | latents |")
        print("|---|" + "---|" * (len(VARIANTS) + 1))
        for form, row in self.largest.items():
            cells = [f"{row[name]:.1e}" if name in row else "–" for name in VARIANTS]
            print(f"| {form} | " + " | ".join(cells) + f" | {self._count[form]:,} |")
        print("\n".join(self.wrong) or "every pattern within what is allowed")


def compare_forms(
    subject: LatentSubject, plan: Plan, forms: Sequence[str]
) -> Iterator[tuple[str, Comparison]]:
    """One pattern in those forms that are installed, each against the reference."""
    reference = subject.reference()
    for form in forms:
        try:
            played = FORMS[form](subject, plan)
        except NotRun:
            continue
        expected = reference.expected(played)
        yield form, compare(played, expected, relative=subject.relative)
        if form == "single" and subject.deterministic:
            yield "offline", compare_offline(subject, reference, played)


def tiny_model(kind: str, space: spaces.Space[Any]) -> LatentModel:
    """An untrained model with statistics."""
    name, config = KINDS[kind]
    model = build_model(
        name,
        config,
        frame_spec=FrameSpec(height=SIZE, width=SIZE, source_height=SIZE, source_width=SIZE),
        action_spec=ActionSpec(space),
        generator=torch.Generator().manual_seed(0),
    )
    rng, size = np.random.default_rng(0), model.latent_size
    mean, std = rng.normal(size=size), rng.uniform(0.2, 1, size)
    model.normalizer = LatentNormalizer(np.float32(mean), np.float32(std))
    return model.eval()


if __name__ == "__main__":
    main()
