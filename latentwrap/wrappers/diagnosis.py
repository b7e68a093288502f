"""How far the model foresaw what it saw: a sign that it is out of its depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentwrap.models import LatentModel
from latentwrap.types import BoolArray, FloatArray
from latentwrap.wrappers.streams import StreamInputs, rows_of, select_streams

INFO = "latentwrap"
"""Where an environment's info holds the diagnosis."""


@dataclass(frozen=True)
class Diagnosis:
    """What the latest frame of each stream told.

    All are NaN for a stream whose frame was dropped.

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
    previous: Diagnosis | None,
) -> Diagnosis:
    """Compare beliefs with the frames that they are of.

    Args:
        model: the model that filtered.
        before, after: beliefs of all streams before and after.
        inputs: what the model was given.
        begun: bool (num,); streams that began an episode.
        seen: bool (num,); streams that went on with a frame.
        previous: the one before, `None` at first.
    """
    errors = _reconstruction_error(model, after, inputs.frames)
    kl = np.full(len(begun), np.nan, np.float32)
    std = None if previous is None else np.full_like(previous.belief_std, np.nan)
    for mask, first in ((begun, True), (seen, False)):
        if not mask.any():
            continue
        rows = rows_of(mask, inputs.frames.device)
        part = inputs.select(rows)
        belief = None if first else select_streams(before, rows)
        action = None if first else part.actions
        found = model.innovation(belief, action, part.frames, **part.seen)
        kl[mask] = found.kl.cpu().numpy()
        if std is None:
            std = np.full((len(begun), found.std.shape[1]), np.nan, np.float32)
        std[mask] = found.std.cpu().numpy()
    errors[~(begun | seen)] = np.nan
    return Diagnosis(errors, kl, np.empty((len(begun), 0), np.float32) if std is None else std)


def _reconstruction_error(model: LatentModel, belief: Any, frames: Tensor) -> FloatArray:
    """mean (x̂ − x)² of the pixels, (num,)."""
    expected = model.decode(belief).float() / 255
    squares = (expected - frames.float() / 255).square()
    errors: FloatArray = squares.flatten(1).mean(dim=1).cpu().numpy()
    return errors
