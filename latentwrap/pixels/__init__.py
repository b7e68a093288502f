"""Frames: the one place where images are checked, converted, resized and laid out."""

from latentwrap.pixels.frames import (
    DEFAULT_SIZE,
    Camera,
    FrameSpec,
    fit_frame,
    fit_images,
    is_dropped,
    is_image_space,
    save_png,
    tile,
)
from latentwrap.pixels.layouts import LAYOUTS, guess_layout, newest_image, newest_shape

__all__ = [
    "DEFAULT_SIZE",
    "LAYOUTS",
    "Camera",
    "FrameSpec",
    "fit_frame",
    "fit_images",
    "guess_layout",
    "is_dropped",
    "is_image_space",
    "newest_image",
    "newest_shape",
    "save_png",
    "tile",
]
