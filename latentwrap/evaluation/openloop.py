"""Open-loop prediction: how far ahead a model sees without being shown any frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from latentwrap.datasets import Dataset
from latentwrap.devices import to_device
from latentwrap.errors import DatasetError
from latentwrap.evaluation.stretches import (
    Stretches,
    choose_episodes,
    read_stretches,
)
from latentwrap.models import LatentModel, map_belief
from latentwrap.training.statistics import check_dataset, filter_beliefs
from latentwrap.types import AnyArray, BoolArray, Frame, Frames, IntArray

PREDICTORS = ("model", "copy", "mean")
"""The model, the last frame it saw, and the mean frame of the dataset."""

NO_ERROR = 100.0
"""PSNR in dB that stands for no error at all: more is not told apart."""

MOVED = 20
"""Levels of 255 by which a pixel differs that counts as moving."""

_CONTEXT = 8
_LONGEST = 500
_ROWS = 10_000
_REFERENCES = 256
_GROWTH = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class OpenLoopResult:
    """Errors of open-loop prediction by horizon.

    Every list has `horizon` + 1 numbers, PSNR in dB: entry k compares frame t+k with what was
    expected of it after frame t, so entry 0 is the filtered reconstruction. A PSNR is
    10 log10(255² / MSE), the MSE taken over all windows, at most `NO_ERROR`; NaN where no pixel
    moves.

    Attributes:
        horizon: steps ahead, k at most.
        windows: starting points t, over all episodes.
        whole: over all pixels, by predictor (`PREDICTORS`).
        moving: over the moving region alone, by predictor.
        moving_share: share of the pixels that lie in the moving region.
    """

    horizon: int
    windows: int
    whole: dict[str, list[float]]
    moving: dict[str, list[float]]
    moving_share: float


@torch.inference_mode()
def open_loop(
    model: LatentModel,
    dataset: Dataset,
    episodes: IntArray,
    *,
    generator: np.random.Generator,
    horizon: int = 15,
    windows: int = 200,
) -> OpenLoopResult:
    """Filter up to a frame, predict on with the actions alone, and compare.

    The belief is filtered from the first frame of the episode to frame t, then `predict` takes
    the actions that were taken. There are several t in each episode, after 8 frames or more
    where the episode is long enough.

    The moving region of frame t+k are the pixels that differ by more than `MOVED` levels in any
    channel from the median frame of the dataset or from frame t, grown by one pixel to all
    sides. It holds what moves where it is, and where it was when last seen.

    Args:
        model: any kind.
        dataset: that fits the model.
        episodes: their numbers, int64.
        generator: draws episodes and starting points.
        horizon: steps ahead; fewer where half of the episodes are shorter.
        windows: starting points at most, about.

    Raises:
        DatasetError: the dataset does not fit the model, or there are no episodes.
    """
    check_dataset(model, dataset)
    if not len(episodes):
        raise DatasetError("Open-loop prediction requires at least one episode, got none.")
    steps = dataset.lengths[episodes] - 1
    horizon = max(1, min(horizon, int(np.median(steps))))
    usable = episodes[steps >= horizon]
    if not len(usable):
        raise DatasetError("Open-loop prediction requires an episode of one transition, got none.")
    chosen = choose_episodes(dataset, usable, rows=_ROWS, longest=_LONGEST, generator=generator)[
        :windows
    ]
    errors = _Errors(Reference.of(dataset), horizon)
    per_episode = -(-windows // len(chosen))
    for stretches in read_stretches(model, dataset, chosen, longest=_LONGEST):
        starts = [_starts(int(n) - 1, horizon, per_episode, generator) for n in stretches.lengths]
        _measure(model, stretches, starts, errors)
    return errors.result()


@dataclass(frozen=True)
class Reference:
    """What a dataset looks like on average.

    Attributes:
        mean: of each pixel, rounded, uint8 (H, W, C).
        median: likewise; the background, where the camera stands still.
    """

    mean: Frame
    median: Frame

    @classmethod
    def of(cls, dataset: Dataset) -> Reference:
        """Over frames spread evenly over a dataset."""
        frames = dataset.spread_frames(np.arange(dataset.num_episodes), _REFERENCES)
        mean = np.rint(frames.mean(axis=0, dtype=np.float32)).astype(np.uint8)
        return cls(mean, np.median(frames, axis=0).astype(np.uint8))


def moving_region(frame: Frame, *stills: Frame) -> BoolArray:
    """Pixels that differ from any of the still frames, grown by one pixel; bool (H, W).

    >>> frame = np.zeros((5, 5, 1), np.uint8)
    >>> frame[0, 0] = 255
    >>> int(moving_region(frame, np.zeros_like(frame)).sum())
    4
    """
    moved = np.zeros(frame.shape[:2], np.uint8)
    for still in stills:
        moved |= (cv2.absdiff(frame, still).reshape(frame.shape) > MOVED).any(axis=2)
    grown: BoolArray = cv2.dilate(moved, _GROWTH).astype(bool)
    return grown


def psnr(mean_squared_error: float) -> float:
    """10 log10(255² / MSE) in dB, at most `NO_ERROR`; NaN of NaN.

    >>> psnr(255**2 / 100)
    20.0
    """
    if mean_squared_error <= 255**2 / 10 ** (NO_ERROR / 10):
        return NO_ERROR
    return float(10 * np.log10(255**2 / mean_squared_error))


class _Errors:
    """Sums of squared errors of every predictor and horizon."""

    def __init__(self, reference: Reference, horizon: int) -> None:
        self._reference, self.horizon = reference, horizon
        shape = (horizon + 1, len(PREDICTORS))
        self._whole, self._moving = np.zeros(shape), np.zeros(shape)
        self._pixels, self._moving_pixels = np.zeros(horizon + 1), np.zeros(horizon + 1)
        self._windows = 0

    def add(self, k: int, predicted: Frames, truth: Frames, last: Frames) -> None:
        """Compare frames t+k with what was expected; each uint8 (B, H, W, C)."""
        self._windows += len(truth) if k == 0 else 0
        for expected, frame, seen in zip(predicted, truth, last, strict=True):
            region = moving_region(frame, seen, self._reference.median)
            self._pixels[k] += frame.size
            self._moving_pixels[k] += region.sum() * frame.shape[2]
            for index, guess in enumerate((expected, seen, self._reference.mean)):
                squares = np.square(guess.astype(np.float32) - frame)
                self._whole[k, index] += squares.sum()
                self._moving[k, index] += squares[region].sum()

    def result(self) -> OpenLoopResult:
        """PSNR of all that was added."""
        return OpenLoopResult(
            horizon=self.horizon,
            windows=self._windows,
            whole=_decibels(self._whole, self._pixels),
            moving=_decibels(self._moving, self._moving_pixels),
            moving_share=float(self._moving_pixels.sum() / self._pixels.sum()),
        )


def _decibels(sums: AnyArray, counts: AnyArray) -> dict[str, list[float]]:
    with np.errstate(invalid="ignore"):
        errors = sums / counts[:, None]
    return {
        name: [psnr(float(error)) for error in errors[:, index]]
        for index, name in enumerate(PREDICTORS)
    }


def _starts(steps: int, horizon: int, count: int, generator: np.random.Generator) -> IntArray:
    """Frames t of an episode of `steps` transitions to predict from, ascending."""
    last = steps - horizon
    possible = np.arange(min(_CONTEXT, last), last + 1)
    return np.sort(generator.permutation(possible)[:count])


def _measure(
    model: LatentModel, stretches: Stretches, starts: list[IntArray], errors: _Errors
) -> None:
    """Add the errors of all windows of a batch of episodes."""
    who, when, belief = _beliefs_at(model, stretches, starts)
    frames, last = stretches.frames, stretches.frames[who, when].numpy()
    errors.add(0, model.decode(belief).cpu().numpy(), last, last)
    for k in range(1, errors.horizon + 1):
        actions = to_device(stretches.actions[who, when + k - 1], model.device)
        belief = model.predict(belief, actions)
        predicted = model.decode(belief).cpu().numpy()
        errors.add(k, predicted, frames[who, when + k].numpy(), last)


def _beliefs_at(
    model: LatentModel, stretches: Stretches, starts: list[IntArray]
) -> tuple[IntArray, IntArray, Any]:
    """Episode and frame of every window, and the belief there; ordered by frame."""
    who = np.repeat(np.arange(len(starts)), [len(each) for each in starts])
    when = np.concatenate(starts)
    order = np.argsort(when, kind="stable")
    who, when = who[order], when[order]
    steps = int(when[-1])
    kept = []
    vectors = None if stretches.vectors is None else stretches.vectors[:, : steps + 1]
    beliefs = filter_beliefs(
        model, stretches.frames[:, : steps + 1], stretches.actions[:, :steps], vectors
    )
    for t, belief in enumerate(beliefs):
        chosen = to_device(who[when == t], model.device)
        if len(chosen):
            kept.append(map_belief(lambda each, chosen=chosen: each[chosen], belief))
    return who, when, map_belief(lambda *each: torch.cat(each), *kept)
