"""How far the model foresaw what it saw: a sign that it is out of its depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentwrap.models import LatentModel
from latentwrap.types import BoolArray, FloatArray
from latentwrap.wrappers.streams import StreamInputs, select_streams

INFO = "latentwrap"
"""Where an environment's info holds the diagnosis."""


@dataclass(frozen=True)
class Diagnosis:
    """What the latest frame of each stream told.

    All are NaN for a stream whose latest frame was dropped.

    Attributes:
        reconstruction_error: mean squared error of the frame that the belief expects, pixels in
            [0, 1], float32 (num,).
        kl: KL(q(z_t|x_≤t, a_<t) ‖ p(z_t|x_<t, a_<t)) in nats, float32 (num,); 0 for a
            model without distributions.
        belief_std: standard deviation of each stochastic dimension of the posterior, float32
            (num, k).
    """

    reconstruction_error: FloatArray
    kl: FloatArray
    belief_std: FloatArray

    def info(self, stream: int) -> dict[str, Any]:
        """One stream's, as `info["latentwrap"]` holds it."""
        return {
            "reconstruction_error": float(self.reconstruction_error[stream]),
            "kl": float(self.kl[stream]),
            "belief_std": self.belief_std[stream].copy(),
        }


@torch.inference_mode()
def diagnose(
    model: LatentModel,
    before: Any,
    after: Any,
    inputs: StreamInputs,
    *,
    begun: BoolArray,
    seen: BoolArray,
    dropped: BoolArray,
    previous: Diagnosis | None,
) -> Diagnosis:
    """Compare beliefs with the frames that they are of.

    Args:
        model: the model that filtered.
        before, after: beliefs of all streams before and after.
        inputs: what the model was given.
        begun: bool (num,); streams that began an episode.
        seen: bool (num,); streams that went on with a frame.
        dropped: bool (num,); streams that went on without one.
        previous: what holds on for all other streams; `None` at first.
    """
    known, num = begun | seen, len(begun)
    told = _reconstruction_error(model, after, inputs.frames)
    errors = np.where(known, told, _kept(previous, "reconstruction_error", (num,), dropped))
    kl = _kept(previous, "kl", (num,), dropped)
    std: FloatArray | None = None
    for mask, first in ((begun, True), (seen, False)):
        if not mask.any():
            continue
        rows = np.flatnonzero(mask)
        part = inputs.select(rows)
        belief = None if first else select_streams(before, rows)
        action = None if first else part.actions
        found = model.innovation(belief, action, part.frames, **part.seen)
        kl[mask] = found.kl.cpu().numpy()
        if std is None:
            std = _kept(previous, "belief_std", (num, found.std.shape[1]), dropped)
        std[mask] = found.std.cpu().numpy()
    if std is None:
        std = _kept(previous, "belief_std", (num, 0), dropped)
    return Diagnosis(errors, kl, std)


def _kept(
    previous: Diagnosis | None, name: str, shape: tuple[int, ...], dropped: BoolArray
) -> FloatArray:
    """A new array of what was told before, NaN where nothing is known now."""
    if previous is None:
        return np.full(shape, np.nan, np.float32)
    kept: FloatArray = getattr(previous, name).copy()
    kept[dropped] = np.nan
    return kept


def _reconstruction_error(model: LatentModel, belief: Any, frames: Tensor) -> FloatArray:
    """mean (x̂ − x)² of the pixels, (num,)."""
    expected = model.decode(belief).float() / 255
    squares = (expected - frames.float() / 255).square()
    errors: FloatArray = squares.flatten(1).mean(dim=1).cpu().numpy()
    return errors
