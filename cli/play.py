"""`latentwrap play`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentwrap.cli.common import (
    Report,
    Verb,
    device_option,
    making_words,
    output_option,
    path_argument,
    seed_option,
    verb_options,
)

if TYPE_CHECKING:
    from latentwrap.agents.run_folder import AgentRun, JointCard


@click.command("play", cls=Verb)
@path_argument("run", "RUN")
@click.option("--episodes", type=click.IntRange(min=1), default=10, show_default=True)
@click.option(
    "--video-episodes",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="0: no video.",
)
@click.option("--best", is_flag=True, help="The agent with the best evaluation, not the last.")
@click.option("--model", type=click.Path(path_type=Path), help="The latent model, if it has moved.")
@output_option("The video, .mp4 or .gif.  [default: RUN/play.mp4]", required=False)
@click.option("--force", is_flag=True, help="Replace the video.")
@seed_option
@device_option
@verb_options
def command(
    *,
    run: Path,
    episodes: int,
    best: bool,
    model: Path | None,
    video_episodes: int,
    output: Path | None,
    force: bool,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Evaluate the agent in the folder RUN and record a video.

    The video shows the frame on the left and what the model believes it sees on the right.

    \b
    Example:
      latentwrap play runs/car --episodes 20
    """
    from latentwrap.agents.evaluate import evaluate_policy
    from latentwrap.agents.policy import Policy
    from latentwrap.agents.run_folder import AgentRun
    from latentwrap.evaluation.video import check_video, record_video
    from latentwrap.files import refuse_output

    report = Report(as_json=as_json)
    video = output or run / "play.mp4"
    if video_episodes:
        refuse_output(video, force=force)
        check_video(video)
    agent_run = AgentRun(run)
    with closing(agent_run.make_env(model=model, best=best, device=device)) as env:
        policy = agent_run.load_policy(env, best=best, device=device)
        result = evaluate_policy(policy, env, episodes, seed=seed, show_progress=True)
        report.say(
            f"Return {result.mean:.1f} ± {result.std:.1f} over the {episodes} episodes of seed "
            f"{seed} and on."
        )
        if video_episodes:
            record_video(video, policy, env, episodes=video_episodes, seed=seed, show_progress=True)
            report.say(f"Frame and reconstruction side by side: {video}")
    steps = policy.num_timesteps
    if best:
        steps = Policy.load(agent_run.agent_path, device="cpu").num_timesteps
    report.next(_longer(agent_run, steps=2 * steps))
    report.result(
        return_mean=result.mean,
        return_std=result.std,
        returns=list(result.returns),
        video=video if video_episodes else None,
    )


def _longer(run: AgentRun, *, steps: int) -> list[object]:
    """The words that resume a run, with the options that it was begun with."""
    from latentwrap.agents import SACConfig
    from latentwrap.joint import JointConfig

    card = run.read_card()
    joint = card.joint
    improved = joint is not None and joint.rounds is not None
    verb, usual = "improve" if improved else "train", JointConfig() if joint else SACConfig()
    words: list[object] = ["latentwrap", verb, card.env_id, "-o", run.folder]
    words += ["--model", card.model] if card.model else []
    words += [] if card.data is None else ["--data", card.data]
    words += _settings(usual.model_dump(mode="json"), card.config, "")
    words += [] if joint is None else _joint_words(joint, run.folder)
    words += [] if improved else ["--steps", steps]
    return [*words, "--seed", card.seed, "--resume"]


def _round_words(known: Mapping[str, Any], folder: Path) -> list[object]:
    """What to type after `latentwrap improve` for one round more."""
    from latentwrap.errors import CheckpointError
    from latentwrap.joint.improving import Rounds, one_more, read_rounds

    rounds = Rounds(**known)
    with suppress(CheckpointError):  # then improve says what to do
        rounds = one_more(read_rounds(folder), rounds)
    words: list[object] = ["--rounds", rounds.most, "--steps", rounds.steps]
    words += ["--model-updates", rounds.model_updates, "--settling", rounds.settling]
    return [*words, "--patience", rounds.patience, "--evaluation-episodes", rounds.episodes]


def _joint_words(card: JointCard, folder: Path) -> list[object]:
    """What to type for the same model and environments, and for one round more if it has rounds."""
    words = _settings({}, card.model_options, "model.")
    words += ["--num-envs", card.num_envs] if card.num_envs > 1 else []
    if card.rounds is not None:
        return words + _round_words(card.rounds, folder)
    words += ["--joint", *(["--frozen"] if card.frozen else [])]
    if card.making:  # else a checkpoint said what it is
        words += ["--preset", card.preset, *(["--kind", card.kind] if card.kind else [])]
        words += making_words(card.making)
    return words


def _settings(usual: Mapping[str, Any], found: Mapping[str, Any], prefix: str) -> list[object]:
    words: list[object] = []
    for name, value in found.items():
        words += (
            [] if value == usual.get(name) else ["--set", f"{prefix}{name}={json.dumps(value)}"]
        )
    return words
