"""`latentwrap demo`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from latentwrap.cli.common import (
    INTERRUPTED,
    Report,
    Verb,
    device_option,
    seed_option,
    verb_options,
)
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import MissingExtra, OutputExists, TrainingDiverged
from latentwrap.files import refuse_existing, remove

if TYPE_CHECKING:
    from latentwrap.agents import EvaluationResult
    from latentwrap.evaluation.probe import ProbeResult

_MARK = "demo.json"
_EPISODES = 20
_PROBE_EPISODES = 50
_PROBE_SEED = 30_000


@click.command("demo", cls=Verb)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="Folder for all that it leaves.",
)
@click.option("--force", is_flag=True, help="Replace an earlier demo.")
@click.option("--frames", type=click.IntRange(min=400), default=20_000, show_default=True)
@click.option(
    "--updates", type=click.IntRange(min=1), default=None, help="Of the model.  [default: preset]"
)
@click.option("--steps", type=click.IntRange(min=1), default=10_000, show_default=True)
@seed_option
@device_option
@verb_options
def command(
    *,
    output: Path,
    force: bool,
    frames: int,
    updates: int | None,
    steps: int,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Solve a pendulum seen only as pixels, from nothing.

    Collects random experience, pretrains a latent model on it, wraps the environment, learns
    with SAC on the latents, and shows what came of it.

    \b
    Example:
      latentwrap demo --seed 1
    """
    from latentwrap.devices import resolve_device

    resolve_device(device)
    _prepare_folder(output, force=force)
    demo = _Demo(output, Report(as_json=as_json), seed=seed, device=device)
    demo.run(frames=frames, updates=updates, steps=steps)


def _prepare_folder(folder: Path, *, force: bool) -> None:
    """Make the folder; only one that an earlier demo made is replaced."""
    refuse_existing(folder, force=force)
    if folder.exists() and not (folder / _MARK).exists():
        raise OutputExists(
            f"{folder} exists and was not made by latentwrap demo: choose another folder with -o."
        )
    remove(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).write_text("{}", encoding="utf-8")


class _Demo:
    """The stages of the demo and the files between them."""

    def __init__(self, folder: Path, report: Report, *, seed: int, device: str) -> None:
        self.folder, self.report = folder, report
        self.seed, self.device = seed, device
        self.seconds: dict[str, float] = {}
        self.data = folder / "pendulum.h5"
        self.probe_data = folder / "probe.h5"
        self.model = folder / "pendulum.safetensors"
        self.agent = folder / "agent"

    def run(self, *, frames: int, updates: int | None, steps: int) -> None:
        """Run all stages and report."""
        with self._stage("collect", f"{frames} frames with random actions"):
            self._collect(frames)
        with self._stage("pretrain", "a latent model on them"):
            self._pretrain(updates)
        with self._stage("probe", "read the physical state off the latents"):
            probe = self._probe()
        with self._stage(
            "learn", f"SAC on latents for {steps} steps, with that experience to start from"
        ):
            learned = self._learn(steps)
        with self._stage("compare", f"a random policy on the same {_EPISODES} new episodes"):
            random = self._random_returns()
        with self._stage("pictures", "return curve, reconstructions, video"):
            pictures = self._draw(random.mean)
        self._tell(probe, learned, random, pictures, steps=steps, frames=frames)

    def _stop(self) -> NoReturn:
        """End the demo after Ctrl-C: what follows would be about less than was asked for."""
        self.report.say(f"Interrupted: {self.folder} holds what was done so far.")
        raise click.exceptions.Exit(INTERRUPTED)

    @contextmanager
    def _stage(self, name: str, what: str) -> Iterator[None]:
        self.report.say(f"{name}: {what}")
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started

    def _collect(self, frames: int) -> None:
        from latentwrap.datasets import collect

        result = collect(
            PIXEL_PENDULUM, self.data, steps=frames, seed=self.seed, show_progress=True
        )
        if result.interrupted:
            self._stop()

    def _pretrain(self, updates: int | None) -> None:
        from latentwrap.training import pretrain

        result = pretrain(
            self.data,
            self.model,
            options={} if updates is None else {"steps": updates},
            seed=self.seed,
            device=self.device,
            show_progress=True,
        )
        if result.note:
            self.report.say(result.note)
        if result.diverged:
            raise TrainingDiverged(result.diverged)
        if result.interrupted:
            self._stop()

    def _probe(self) -> ProbeResult:
        """Fit on one half of episodes that the model has never seen, score on the other."""
        import numpy as np

        from latentwrap.datasets import Dataset, collect
        from latentwrap.evaluation.probe import probe_states
        from latentwrap.models import load_model

        steps = 200 * _PROBE_EPISODES
        seed = self.seed + _PROBE_SEED
        collect(PIXEL_PENDULUM, self.probe_data, steps=steps, seed=seed, show_progress=True)
        dataset, model = Dataset(self.probe_data), load_model(self.model, device=self.device)
        episodes = np.arange(_PROBE_EPISODES)
        return probe_states(model, dataset, fit=episodes[::2], test=episodes[1::2])

    def _learn(self, steps: int) -> EvaluationResult:
        from latentwrap.agents.runs import train_agent

        result = train_agent(
            PIXEL_PENDULUM,
            self.model,
            self.agent,
            steps=steps,
            data=self.data,
            seed=self.seed,
            device=self.device,
            evaluate_every=1000,
            evaluation_episodes=3,
            final_episodes=_EPISODES,
            show_progress=True,
        )
        if result.evaluation is None:
            self._stop()
        return result.evaluation

    def _random_returns(self) -> EvaluationResult:
        from latentwrap.agents.runs import evaluate_random

        return evaluate_random(PIXEL_PENDULUM, _EPISODES, seed=self.seed)

    def _draw(self, baseline: float) -> list[Path]:
        from latentwrap.agents.run_folder import AgentRun
        from latentwrap.datasets import Dataset
        from latentwrap.evaluation.pictures import draw_return_curve, reconstruction_strip
        from latentwrap.evaluation.video import record_video
        from latentwrap.pixels import save_png
        from latentwrap.runlog import read_metrics

        run = AgentRun(self.agent)
        env = run.make_env(device=self.device)
        strip = self.folder / "reconstruction.png"
        episode = Dataset(self.probe_data).episode(0)
        save_png(strip, reconstruction_strip(env.model, episode))
        curve, video = self.folder / "return_curve.png", self.folder / "play.mp4"
        rows = read_metrics(run.evaluations_path)
        try:
            draw_return_curve(
                curve,
                [row["step"] for row in rows],
                [row["evaluation/return"] for row in rows],
                title="PixelPendulum: SAC on latents",
                baseline=baseline,
            )
            policy = run.load_policy(env, device=self.device)
            record_video(video, policy, env, episodes=1, seed=self.seed, show_progress=True)
        except MissingExtra as error:
            self.report.say(str(error))
        finally:
            env.close()
        return [path for path in (curve, strip, video) if path.exists()]

    def _tell(
        self,
        probe: ProbeResult,
        learned: EvaluationResult,
        random: EvaluationResult,
        pictures: list[Path],
        *,
        steps: int,
        frames: int,
    ) -> None:
        total = sum(self.seconds.values())
        names = ("cos θ", "sin θ", "angular velocity")
        scores = dict(zip(names, probe.r2.values(), strict=True))
        known = ", ".join(f"{name} {r2:.3f}" for name, r2 in scores.items())
        stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())
        self.report.table(
            "\nPixelPendulum, from pixels",
            {
                "return, random policy": f"{random.mean:.0f} ± {random.std:.0f}",
                "return, SAC on latents": f"{learned.mean:.0f} ± {learned.std:.0f}",
                "environment steps": f"{steps} (with the collected ones {steps + frames})",
                f"R² of linear probe, {_PROBE_EPISODES} new episodes": known,
                "seconds": f"{total:.0f} ({stages})",
                "pictures": ", ".join(str(path) for path in pictures),
            },
        )
        self.report.next(
            ["latentwrap", "play", self.agent],
            ["latentwrap", "collect", "YOUR_ENV_ID", "-o", "data.h5", "--steps", "20000"],
            ["latentwrap", "pretrain", "data.h5", "-o", "model.safetensors"],
            [
                "latentwrap",
                "train",
                "YOUR_ENV_ID",
                "--model",
                "model.safetensors",
                "--data",
                "data.h5",
            ],
        )
        result: dict[str, Any] = {
            "return_mean": learned.mean,
            "return_std": learned.std,
            "random_return_mean": random.mean,
            "env_steps": steps + frames,
            "seconds": total,
            "checkpoint": str(self.model),
            "probe": scores,
            "seconds_by_stage": self.seconds,
            "seed": self.seed,
        }
        (self.folder / _MARK).write_text(json.dumps(result, indent=2), encoding="utf-8")
        self.report.result(**result)
