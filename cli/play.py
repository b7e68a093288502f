"""`latentwrap play`."""

from __future__ import annotations

from pathlib import Path

import click

from latentwrap.cli.common import (
    Report,
    Verb,
    device_option,
    output_option,
    path_argument,
    seed_option,
    verb_options,
)


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
@output_option("The video, .mp4 or .gif.  [default: RUN/play.mp4]", required=False)
@click.option("--force", is_flag=True, help="Replace the video.")
@seed_option
@device_option
@verb_options
def command(
    *,
    run: Path,
    episodes: int,
    video_episodes: int,
    output: Path | None,
    force: bool,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    r"""Evaluate the agent in the folder RUN and record a video.

    The video shows the frame on the left and what the model believes it sees on the right.

    \b
    Example:
      latentwrap play runs/car --episodes 20
    """
    from latentwrap.agents.evaluate import evaluate_policy
    from latentwrap.agents.runs import AgentRun
    from latentwrap.evaluation.video import record_video
    from latentwrap.files import refuse_existing

    report = Report(as_json=as_json)
    video = output or run / "play.mp4"
    if video_episodes:
        refuse_existing(video, force=force or output is None)
    agent_run = AgentRun(run)
    env = agent_run.make_env(device=device)
    agent = agent_run.load_agent(env, device=device)
    result = evaluate_policy(agent, env, episodes, seed=seed, show_progress=True)
    report.say(f"Return {result.mean:.1f} ± {result.std:.1f} over {episodes} episodes.")
    if video_episodes:
        record_video(video, agent, env, episodes=video_episodes, seed=seed, show_progress=True)
        report.say(f"Frame and reconstruction side by side: {video}")
    card = agent_run.read_card()
    report.next(
        f"latentwrap train {card.env_id} --model {card.model} -o {run} "
        f"--steps {2 * agent.num_timesteps} --resume"
    )
    report.result(
        return_mean=result.mean,
        return_std=result.std,
        returns=list(result.returns),
        video=video if video_episodes else None,
    )
