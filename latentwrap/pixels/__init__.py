"""Frames: the one place where images are checked, converted, resized and laid out."""

from latentwrap.pixels.frames import (
    DEFAULT_SIZE,
    FrameSpec,
    fit_frame,
    is_image_space,
    save_png,
    tile,
)

__all__ = ["DEFAULT_SIZE", "FrameSpec", "fit_frame", "is_image_space", "save_png", "tile"]
