"""From what environments and cameras give to batches of the frames that a model sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from latentwrap.errors import EnvironmentMismatch, LatentwrapError
from latentwrap.pixels import FrameSpec, fit_frame, fit_images, is_dropped
from latentwrap.types import BoolArray, Frame, Frames


class FittedFrames(NamedTuple):
    """One frame for each stream.

    Attributes:
        frames: uint8 (num, H, W, C); zeros where none was seen.
        seen: bool (num,); false where the camera gave none.
        single: whether it was one frame that came, not a batch of one.
    """

    frames: Frames
    seen: BoolArray
    single: bool


class FrameFitter:
    """Fits images to the frames of a model, and refuses those that would show another world.

    Args:
        spec: the frames of the model.
        num: streams.
        stretch: accept images of another aspect ratio.
    """

    def __init__(self, spec: FrameSpec, num: int, *, stretch: bool) -> None:
        self._spec, self._num, self._stretch = spec, num, stretch
        self._panels, self._shape = spec.panels, (num, *spec.shape)
        self._whole = FrameSpec(height=spec.height, width=spec.width, channels=spec.channels)
        self._checked: set[tuple[tuple[int, ...], ...]] = set()

    def fit(self, frame: Any) -> FittedFrames:
        """Fit a frame for each stream.

        Args:
            frame: uint8 or float in [0, 1], (num, H, W, C), of any size or fitted already; or a
                list with one image, a tuple or mapping of the cameras' images, or `None` for
                each stream. Where num is 1, also that of the one stream.

        Raises:
            LatentwrapError: another number of frames, or one that does not fit.
        """
        if isinstance(frame, np.ndarray) and frame.dtype == np.uint8:
            if frame.shape == self._shape:
                return FittedFrames(frame.copy(), np.ones(self._num, bool), single=False)
            if self._num == 1 and frame.shape == self._spec.shape:
                return FittedFrames(frame[None].copy(), np.ones(1, bool), single=True)
        batched = self._is_batch(frame)
        single = self._num == 1 and not batched
        rows = [frame] if single else list(frame) if batched else []
        if len(rows) != self._num:
            raise LatentwrapError(
                f"The filter requires one frame {self._spec.shape} for each of {self._num} "
                f"streams, got {_described(frame)}."
            )
        fitted = [self._fit_one(row) for row in rows]
        nothing = np.zeros(self._spec.shape, np.uint8)
        frames = np.stack([nothing if each is None else each for each in fitted])
        return FittedFrames(frames, np.array([each is not None for each in fitted]), single)

    def check(self, shapes: Sequence[Sequence[int]]) -> None:
        """Refuse images of some shapes, one for each camera.

        Raises:
            EnvironmentMismatch: other channels, or another aspect ratio.
            LatentwrapError: another number of cameras.
        """
        key = tuple(tuple(shape) for shape in shapes)
        if key in self._checked:
            return
        if len(key) != len(self._panels):
            names = ", ".join(self._spec.names) or "one image"
            raise LatentwrapError(
                f"The checkpoint expects the images of {names}, got {len(key)} images: name them "
                "in this order as image_keys."
            )
        for shape, panel in zip(key, self._panels, strict=True):
            panel.check_source(shape, stretch=self._stretch)
        self._checked.add(key)

    def _is_batch(self, frame: Any) -> bool:
        if isinstance(frame, np.ndarray):
            return self._num > 1 or frame.ndim >= 4
        return isinstance(frame, list)

    def _fit_one(self, image: Any) -> Frame | None:
        images = self._cameras(image)
        if any(is_dropped(each) for each in images):
            return None
        if isinstance(image, np.ndarray) and image.shape == self._spec.shape:
            return fit_frame(image, self._whole)  # fitted already, all cameras side by side
        arrays = [np.asarray(each) for each in images]
        self.check([array.shape for array in arrays])
        return fit_images(arrays, self._spec)

    def _cameras(self, image: Any) -> tuple[Any, ...]:
        if isinstance(image, Mapping):
            missing = [name for name in self._spec.names if name not in image]
            if missing or not self._spec.names:
                raise LatentwrapError(
                    f"The filter requires images of {', '.join(self._spec.names) or 'no name'}, "
                    f"got {', '.join(image)}: one that was dropped is None."
                )
            return tuple(image[name] for name in self._spec.names)
        return image if isinstance(image, tuple) else (image,)


def _described(frame: Any) -> str:
    if isinstance(frame, np.ndarray):
        return f"an array of shape {frame.shape}"
    return f"{len(frame)} frames" if isinstance(frame, Sequence) else repr(frame)


def check_made(made: FrameSpec, trained: FrameSpec, fitter: FrameFitter) -> None:
    """Refuse frames that `RenderFrame` makes otherwise than those that a model was trained on.

    Raises:
        EnvironmentMismatch: of other images, or rendered otherwise.
    """
    _check_rendering(made, trained)
    fitter.check(_source_shapes(made))


def _check_rendering(made: FrameSpec, trained: FrameSpec) -> None:
    """Without shadows the world looks otherwise; images that are observed are as they are."""
    if made.rendering is not None and made.rendering != trained.rendering:
        expected = trained.rendering or "full"
        raise EnvironmentMismatch(
            f"The checkpoint expects frames of {expected} rendering, RenderFrame makes them "
            f"{made.rendering}: pass it rendering={expected!r}."
        )


def _source_shapes(spec: FrameSpec) -> list[tuple[int, ...]]:
    """Shapes of the images that fitted frames were made from."""
    channels = spec.source_channels or spec.channels
    return [
        (panel.source_height or panel.height, panel.source_width or panel.width, channels)
        for panel in spec.panels
    ]
