"""Train a model on a scene and say what can be read off its latents.

    python benchmarks/probes.py pendulum --minutes 4
    python benchmarks/probes.py occlusion --minutes 8
    python benchmarks/probes.py occlusion --steps 1500 --set decoder_var=0.1   # one ablation

R² on 100 test episodes, fitted on 100 others that the model has not seen either: by least squares
and by an MLP, from the filtered latents and from a single-frame encoder, which is the same model
shown each frame as the first of an episode. `pendulum` is PixelPendulum, also over episodes of
1,000 steps; `occlusion` and `crowd` are the scenes of tests/support: one ball, or three, that
pass behind a wall. Seen is a ball that shows whole, hidden one of which nothing shows, for 8 frames
at most.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

import latentwrap  # noqa: F401 - registers PixelPendulum
from latentwrap.cli.common import parse_settings
from latentwrap.datasets import Dataset, collect
from latentwrap.envs.making import find_spec
from latentwrap.evaluation.openloop import open_loop
from latentwrap.evaluation.regression import linear_fit, mlp_fit, r_squared
from latentwrap.models import LatentModel, load_model
from latentwrap.training import pretrain
from latentwrap.training.statistics import filter_episodes
from latentwrap.types import AnyArray, BoolArray

SCENES = {
    "pendulum": "latentwrap/PixelPendulum-v0",
    "occlusion": "latentwrap_test_scenes:Occlusion-v0",
    "crowd": "latentwrap_test_scenes:Crowd-v0",
}
EPISODES, STEPS = 200, 200  # with 60, an MLP is short of data: 0.93 for 0.97 of a velocity
SEEN_FROM = 4  # before that frame nobody can know a velocity
LONGEST_HIDDEN = 8


@dataclass(frozen=True)
class Rows:
    """Latents and states, (episodes, frames, ·), of episodes of equal length."""

    latents: AnyArray
    states: dict[str, AnyArray]


def main() -> None:
    """Collect, train, probe, print."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    spec = find_spec(SCENES[arguments.scene])
    with tempfile.TemporaryDirectory() as folder:
        data = _collect(spec, Path(folder) / "train.h5", arguments.frames, arguments.seed)
        test = _collect(spec, Path(folder) / "test.h5", EPISODES * STEPS, arguments.seed + 1000)
        result = pretrain(
            data.path,
            Path(folder) / "model.safetensors",
            preset=arguments.preset,
            kind=arguments.kind,
            minutes=arguments.minutes,
            options=_options(arguments),
            seed=arguments.seed,
            show_progress=True,
        )
        model = load_model(result.checkpoint)
        print(f"{arguments.scene}, {model.kind}: {result.steps} updates in {result.seconds:.0f} s")
        report: dict[str, Any] = {"steps": result.steps, "seconds": result.seconds}
        print(f"{'R²':34} least squares, MLP")
        for source, rows in _representations(model, test):
            report[source] = _probe(rows, source)
        if arguments.scene == "pendulum":
            report["long"] = _long_episodes(model, spec, Path(folder), arguments.seed)
        report["open loop"] = _open_loop(model, test)
        if arguments.json:
            print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--minutes", type=float, help="of training")
    parser.add_argument("--steps", type=int, help="updates")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--kind")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--frames", type=int, default=24_000, help="of random experience")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    options = parse_settings(None, tuple(arguments.set))
    return options if arguments.steps is None else {**options, "steps": arguments.steps}


def _collect(spec: EnvSpec, path: Path, steps: int, seed: int) -> Dataset:
    collect(spec, path, steps=steps, seed=seed, show_progress=True)
    return Dataset(path)


def _representations(model: LatentModel, dataset: Dataset) -> Iterator[tuple[str, Rows]]:
    """Latents of the filter, then of each frame alone."""
    episodes = np.arange(EPISODES)
    columns = dataset.states.items()
    states = {
        name: np.stack([column[s : s + STEPS] for s in dataset.starts]) for name, column in columns
    }
    filtered = [latents[:STEPS] for latents in filter_episodes(model, dataset, episodes)]
    yield "filter", Rows(np.stack(filtered), states)
    alone = [_encode_alone(model, dataset.episode(e).frames[:STEPS]) for e in episodes]
    yield "single frame", Rows(np.stack(alone), states)


@torch.inference_mode()
def _encode_alone(model: LatentModel, frames: AnyArray) -> AnyArray:
    latents: AnyArray = model.latent(model.initial(torch.from_numpy(frames))).numpy()
    return latents


def _probe(rows: Rows, source: str) -> dict[str, dict[str, list[float]]]:
    """R² of every state by both probes, fitted on even episodes and scored on odd ones."""
    scores: dict[str, dict[str, list[float]]] = {}
    for name, target, chosen in _targets(rows):
        fit, test = chosen.copy(), chosen.copy()
        fit[1::2], test[::2] = False, False
        x, y = rows.latents[fit], target[fit]
        for method, probe in (("linear", linear_fit(x, y)), ("MLP", mlp_fit(x, y))):
            for what, part in _parts(name, test, rows):
                r2 = r_squared(probe.predict(rows.latents[part]), target[part])
                scores.setdefault(what, {})[method] = [float(value) for value in r2]
    for what, by_method in scores.items():
        shown = ["  ".join(f"{value:.3f}" for value in r2) for r2 in by_method.values()]
        print(f"  {source + ', ' + what:32} {'   |   '.join(shown)}")
    return scores


def _targets(rows: Rows) -> Iterator[tuple[str, AnyArray, BoolArray]]:
    """Name, values and usable frames of everything to be probed."""
    shape = rows.latents.shape[:2]
    if "hidden" not in rows.states:
        yield "cos, sin, velocity", rows.states["state"], np.ones(shape, bool)
        return
    for ball in range(rows.states["hidden"].shape[-1]):
        hidden = rows.states["hidden"][..., ball]
        usable = (hidden <= LONGEST_HIDDEN) & (np.arange(STEPS) >= SEEN_FROM - 1)
        for name in ("position", "velocity"):
            yield f"{name} {ball}", rows.states[name][..., 2 * ball : 2 * ball + 2], usable


def _parts(name: str, test: BoolArray, rows: Rows) -> Iterator[tuple[str, BoolArray]]:
    if "hidden" not in rows.states:
        frame = np.arange(STEPS)
        yield name, test
        yield f"{name}, 10-60", test & (frame >= 10) & (frame < 60)
        yield f"{name}, 150-200", test & (frame >= 150)
        return
    hidden, shown = (
        rows.states[what][..., int(name.split()[1])] > 0 for what in ("hidden", "shown")
    )
    yield f"{name} seen", test & shown
    yield f"{name} partly", test & ~shown & ~hidden
    yield f"{name} hidden", test & hidden


def _long_episodes(
    model: LatentModel, spec: EnvSpec, folder: Path, seed: int
) -> dict[str, list[float]]:
    """The linear probe of the first 200 frames along episodes of 1,000 steps."""
    long_spec = gym.spec(spec.id)
    long_spec.max_episode_steps = 1000
    dataset = _collect(long_spec, folder / "long.h5", 20_000, seed + 2000)
    latents = np.stack(list(filter_episodes(model, dataset, np.arange(20))))
    states = dataset.states["state"].reshape(20, 1001, -1)
    fit = linear_fit(*(a[::2, :STEPS].reshape(-1, a.shape[-1]) for a in (latents, states)))
    scores = {}
    for first, last in ((10, 60), (150, 200), (450, 500), (950, 1000)):
        x, y = (a[1::2, first:last].reshape(-1, a.shape[-1]) for a in (latents, states))
        scores[f"{first}-{last}"] = [float(value) for value in r_squared(fit.predict(x), y)]
        shown = "  ".join(f"{value:.3f}" for value in scores[f"{first}-{last}"])
        print(f"  {f'1,000-step episodes, {first}-{last}':32} {shown}")
    return scores


def _open_loop(model: LatentModel, dataset: Dataset) -> dict[str, float]:
    """PSNR of the moving region 15 steps ahead."""
    generator = np.random.default_rng(0)
    result = open_loop(model, dataset, np.arange(EPISODES), generator=generator)
    ahead = {name: float(values[-1]) for name, values in result.moving.items()}
    gain = ahead["model"] - ahead["copy"]
    listed = ", ".join(f"{name} {value:.1f}" for name, value in ahead.items())
    print(
        f"  PSNR {result.horizon} steps ahead, moving region: {listed} dB ({gain:+.1f} over copy)"
    )
    return ahead


if __name__ == "__main__":
    main()
