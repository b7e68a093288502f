"""Pictures of what a model sees and how an agent learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from latentwrap.datasets import Episode, join_vectors
from latentwrap.extras import require
from latentwrap.models import LatentModel
from latentwrap.pixels import tile
from latentwrap.training.statistics import filter_beliefs
from latentwrap.types import Frame, Frames


@torch.inference_mode()
def reconstruct_episode(model: LatentModel, episode: Episode) -> Frames:
    """What the filtered beliefs of an episode expect to see, uint8 (T+1, H, W, C)."""
    frames = torch.from_numpy(episode.frames)[None]
    actions = torch.from_numpy(model.action_spec.encode(episode.actions))[None]
    prepared = model.prepare_vectors(join_vectors(episode, model.vector_spec))
    vectors = None if prepared is None else prepared[None]
    beliefs = filter_beliefs(model, frames, actions, vectors)
    decoded = [model.decode(belief) for belief in beliefs]
    reconstruction: Frames = torch.cat(decoded).cpu().numpy()
    return reconstruction


def reconstruction_strip(model: LatentModel, episode: Episode, *, count: int = 12) -> Frame:
    """Frames of an episode above their reconstructions, as one picture.

    Args:
        model: the model.
        episode: an episode with frames of the model's size.
        count: evenly spaced frames to show.
    """
    shown = np.unique(np.linspace(0, len(episode.frames) - 1, count).astype(int))
    reconstruction = reconstruct_episode(model, episode)
    pictures = np.concatenate([episode.frames[shown], reconstruction[shown]])
    return tile(pictures, columns=len(shown))


def draw_return_curve(
    path: Path,
    steps: Sequence[float],
    returns: Sequence[float],
    *,
    title: str,
    baseline: float | None = None,
) -> None:
    """Draw returns over environment steps into a PNG.

    Args:
        path: the file to write.
        steps, returns: one point each.
        title: above the picture.
        baseline: return of a random policy, drawn as a dashed line.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require("matplotlib", extra="report", purpose="The return curve")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, returns, marker="o", markersize=3, color="tab:blue", label="SAC on latents")
    if baseline is not None:
        axes.axhline(baseline, linestyle="--", color="tab:gray", label="random policy")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("episode return")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path)
