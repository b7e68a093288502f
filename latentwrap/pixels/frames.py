"""From whatever an environment gives as an image to the frame that a model was made for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import Field

from latentwrap.config import Config
from latentwrap.errors import EnvironmentMismatch, PixelError
from latentwrap.files import written_whole
from latentwrap.types import Frame, Frames

DEFAULT_SIZE = 64
SMALLEST_SIDE = 8
"""Of a frame that the networks can see."""
_ASPECT_TOLERANCE = 0.02


class FrameSpec(Config):
    """How the frames of a dataset or model look, and what they were resized from.

    Attributes:
        height, width: size in pixels after resizing.
        channels: 3 for RGB, 1 for grey.
        source_channels: colours of the environment's own image; `None` if the same. Grey frames
            may be made from RGB.
        source_height, source_width: size of the environment's own image; `None` if unknown.
            A frame with another aspect ratio than the source would show a distorted world.
    """

    height: int = Field(DEFAULT_SIZE, ge=1)
    width: int = Field(DEFAULT_SIZE, ge=1)
    channels: int = Field(3)
    source_channels: int | None = None
    source_height: int | None = Field(None, ge=1)
    source_width: int | None = Field(None, ge=1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one frame, (height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def source_aspect(self) -> float | None:
        """Width over height of the images that the frames were made from."""
        if self.source_height is None or self.source_width is None:
            return None
        return self.source_width / self.source_height

    def check_source(self, shape: Sequence[int], *, stretch: bool = False) -> None:
        """Refuse images that these frames cannot be made from without distortion.

        Args:
            shape: shape of the environment's image, (H, W) or (H, W, C).
            stretch: accept another aspect ratio.

        Raises:
            EnvironmentMismatch: other channels, or another aspect ratio.
        """
        channels, needed = _colours(shape), self.source_channels or self.channels
        if channels != needed:
            raise EnvironmentMismatch(
                f"The checkpoint expects frames with {needed} channels, the environment's "
                f"image of shape {tuple(shape)} has {channels}: use a model trained on such images."
            )
        aspect = shape[1] / shape[0]
        expected = self.source_aspect
        if stretch or expected is None or abs(aspect / expected - 1) <= _ASPECT_TOLERANCE:
            return
        raise EnvironmentMismatch(
            f"The checkpoint expects images of aspect ratio {self.source_width}:"
            f"{self.source_height}, the environment gives {shape[1]}:{shape[0]}: "
            "pass stretch=True to distort them."
        )


def is_image_space(space: Any) -> bool:
    """Whether an observation space holds one image: uint8 (H, W) or (H, W, 1, 3 or 4).

    >>> import gymnasium, numpy
    >>> is_image_space(gymnasium.spaces.Box(0, 255, (96, 96, 3), numpy.uint8))
    True
    >>> is_image_space(gymnasium.spaces.Box(-1, 1, (3,)))
    False
    """
    shape = getattr(space, "shape", None)
    if shape is None or getattr(space, "dtype", None) != np.uint8:
        return False
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))


def source_spec(shape: Sequence[int], *, height: int, width: int, grey: bool = False) -> FrameSpec:
    """The frames of size (height, width), grey or as they are, made from images of `shape`."""
    channels = _colours(shape)
    return FrameSpec(
        height=height,
        width=width,
        channels=1 if grey else channels,
        source_channels=channels if grey and channels > 1 else None,
        source_height=shape[0],
        source_width=shape[1],
    )


def fit_frame(image: Any, spec: FrameSpec) -> Frame:
    """Convert and resize one image to the frame that `spec` describes.

    Args:
        image: uint8 or float in [0, 1]; (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), whose
            fourth channel (opacity) is dropped. Any height and width.

    Returns:
        A new contiguous uint8 array of shape `spec.shape`.

    Raises:
        PixelError: another dtype, range, shape or number of channels.
    """
    pixels = _as_bytes(np.asarray(image))
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise PixelError(
            "A frame requires an image of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"got {np.shape(image)}."
        )
    pixels = pixels[:, :, :3]
    if pixels.shape[2] == spec.source_channels and spec.channels == 1:
        grey: Any = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
        pixels = grey[:, :, None]
    if pixels.shape[2] != spec.channels:
        raise PixelError(
            f"The model requires {spec.channels} channels, got an image with {pixels.shape[2]}."
        )
    if pixels.shape[:2] == (spec.height, spec.width):
        return np.array(pixels, order="C")
    # Area averaging keeps small objects visible when shrinking, and has no ringing.
    resized = cv2.resize(
        np.ascontiguousarray(pixels), (spec.width, spec.height), interpolation=cv2.INTER_AREA
    )
    return np.ascontiguousarray(resized.reshape(spec.shape))


def tile(frames: Frames, *, columns: int, gap: int = 2) -> Frame:
    """Lay frames out on a white sheet, row by row.

    Args:
        frames: uint8 (N, H, W, C).
        columns: frames per row.
        gap: pixels between them.

    Returns:
        uint8 (height, width, C).
    """
    count, height, width, channels = frames.shape
    rows = -(-count // columns)
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8
    )
    for index, frame in enumerate(frames):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return sheet


def save_png(path: str | Path, image: Frame) -> None:
    """Write one uint8 image (H, W, C) as a PNG file, whole or not at all."""
    channels = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".png", channels)[1]
    with written_whole(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _as_bytes(image: np.ndarray[Any, Any]) -> Frame:
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise PixelError(
            f"A frame requires uint8 pixels or floats in [0, 1], got dtype {image.dtype}."
        )
    low, high = float(image.min(initial=0)), float(image.max(initial=0))
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise PixelError(
            f"A frame of floats requires values in [0, 1], got [{low:.3g}, {high:.3g}]."
        )
    scaled: Frame = np.rint(image * 255).astype(np.uint8)
    return scaled


def _colours(shape: Sequence[int]) -> int:
    """Channels that remain once opacity is dropped."""
    return min(shape[2], 3) if len(shape) == 3 else 1
