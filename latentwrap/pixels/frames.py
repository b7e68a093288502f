"""From whatever an environment gives as an image to the frame that a model was made for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import Field, model_validator

from latentwrap.config import Config
from latentwrap.errors import EnvironmentMismatch, PixelError
from latentwrap.files import written_whole
from latentwrap.pixels.layouts import guess_layout
from latentwrap.types import AnyArray, Frame, Frames

DEFAULT_SIZE = 64
SMALLEST_SIDE = 8
"""Of a frame that the networks can see."""
_ASPECT_TOLERANCE = 0.02


class Camera(Config):
    """One of the cameras whose images lie side by side in a frame.

    Attributes:
        name: its key in the environment's Dict observation; `a.b` is key `b` in the Dict `a`.
        source_height, source_width: size of its own image; `None` if unknown.
    """

    name: str
    source_height: int | None = Field(None, ge=1)
    source_width: int | None = Field(None, ge=1)


class FrameSpec(Config):
    """How the frames of a dataset or model look, and what they were resized from.

    Attributes:
        height, width: size in pixels after resizing; with cameras, of all side by side.
        channels: 3 for RGB, 1 for grey.
        source_channels: colours of the environment's own image; `None` if the same. Grey frames
            may be made from RGB.
        source_height, source_width: size of the environment's own image; `None` if unknown.
            A frame with another aspect ratio than the source would show a distorted world.
        cameras: whose images lie side by side in a frame, from left to right, equally wide;
            empty for the one image that an environment observes or renders.
        layout: of the environment's images, where it had to be named; one of `LAYOUTS`.
        rendering: how MuJoCo draws them, `fast` or `full`, at the size of the source; then
            `cameras` are MuJoCo's. `None` for what an environment observes or renders by itself.
    """

    height: int = Field(DEFAULT_SIZE, ge=1)
    width: int = Field(DEFAULT_SIZE, ge=1)
    channels: int = Field(3)
    source_channels: int | None = None
    source_height: int | None = Field(None, ge=1)
    source_width: int | None = Field(None, ge=1)
    cameras: tuple[Camera, ...] = ()
    layout: str | None = None
    rendering: Literal["fast", "full"] | None = None

    @model_validator(mode="after")
    def _divide(self) -> FrameSpec:
        if self.width % max(len(self.cameras), 1):
            raise ValueError(
                f"{len(self.cameras)} cameras must be equally wide, got a width of {self.width}"
            )
        return self

    @property
    def panels(self) -> tuple[FrameSpec, ...]:
        """The frame of each camera; the frame itself where there is one image."""
        return tuple(
            FrameSpec(
                height=self.height,
                width=self.width // len(self.cameras),
                channels=self.channels,
                source_channels=self.source_channels,
                source_height=camera.source_height,
                source_width=camera.source_width,
            )
            for camera in self.cameras
        ) or (self,)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the cameras, from left to right."""
        return tuple(camera.name for camera in self.cameras)

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
    """Whether an observation space holds uint8 images whose layout is plain from their shape.

    >>> import gymnasium, numpy
    >>> is_image_space(gymnasium.spaces.Box(0, 255, (96, 96, 3), numpy.uint8))
    True
    >>> is_image_space(gymnasium.spaces.Box(-1, 1, (3,)))
    False
    """
    shape = getattr(space, "shape", None)
    if shape is None or getattr(space, "dtype", None) != np.uint8:
        return False
    return guess_layout(shape) is not None


def is_dropped(image: Any) -> bool:
    """Whether a camera gave no image: `None`, or floats that are all NaN."""
    if image is None:
        return True
    array: AnyArray = np.asarray(image)
    # The first value tells most images apart, cheaply.
    return array.dtype.kind == "f" and bool(np.isnan(array.flat[0]) and np.isnan(array).all())


def source_spec(
    shapes: Sequence[Sequence[int]],
    *,
    height: int,
    width: int,
    grey: bool = False,
    cameras: Sequence[str] = (),
    layout: str | None = None,
    rendering: Literal["fast", "full"] | None = None,
) -> FrameSpec:
    """Frames of size (height, width), grey or as they are, made from images of some shapes.

    Args:
        shapes: of the images, (H, W) or (H, W, C); one, or one for each camera.
        height, width: of the frame of each image.
        grey: make grey frames of coloured images.
        cameras: their names; none for an image that is the whole observation or rendered.
        layout: as it was named.
        rendering: how MuJoCo drew them, if it did.

    Raises:
        EnvironmentMismatch: cameras with different numbers of colours.
    """
    colours = {_colours(shape) for shape in shapes}
    if len(colours) > 1:
        raise EnvironmentMismatch(
            f"Cameras require images with equally many channels, got {tuple(map(tuple, shapes))}: "
            "make frames of them one by one, or all grey in a wrapper."
        )
    channels = colours.pop()
    return FrameSpec(
        height=height,
        width=width * len(shapes),
        channels=1 if grey else channels,
        source_channels=channels if grey and channels > 1 else None,
        source_height=None if cameras else shapes[0][0],
        source_width=None if cameras else shapes[0][1],
        cameras=tuple(
            Camera(name=name, source_height=shape[0], source_width=shape[1])
            for name, shape in zip(cameras, shapes, strict=True)
        )
        if cameras
        else (),
        layout=layout,
        rendering=rendering,
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


def fit_images(images: Sequence[Any], spec: FrameSpec) -> Frame:
    """Convert and resize the images of all cameras, and lay them side by side.

    Args:
        images: one for each of `spec.panels`, as `fit_frame` takes them.

    Returns:
        A new contiguous uint8 array of shape `spec.shape`.

    Raises:
        PixelError: as of `fit_frame`, or another number of images.
    """
    panels = spec.panels
    if len(images) != len(panels):
        raise PixelError(f"The model requires {len(panels)} images, got {len(images)}.")
    fitted = [fit_frame(image, panel) for image, panel in zip(images, panels, strict=True)]
    return fitted[0] if len(fitted) == 1 else np.concatenate(fitted, axis=1)


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
