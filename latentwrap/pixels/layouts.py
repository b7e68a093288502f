"""Where height, width, colours and time stand in what an environment calls an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latentwrap.errors import PixelError
from latentwrap.types import AnyArray

LAYOUTS = {
    "HW": 2,
    "HWC": 3,
    "CHW": 3,
    "THW": 3,
    "HWT": 3,
    "HW(TC)": 3,
    "(TC)HW": 3,
    "THWC": 4,
    "TCHW": 4,
}
"""Layouts and how many axes each has. T are stacked frames, the newest last; (TC) are colours of
stacked RGB frames in one axis."""

_COLOURS = (1, 3, 4)
_RGB = 3


def guess_layout(shape: Sequence[int]) -> str | None:
    """The layout that an image of this shape has; `None` where it is no image or undecided.

    >>> guess_layout((64, 64, 3)), guess_layout((3, 64, 64)), guess_layout((4, 84, 84))
    ('HWC', 'CHW', 'THW')
    >>> guess_layout((84, 84, 9)) is None  # nine grey frames, or three of three colours?
    True
    """
    if len(shape) == 2:
        return "HW"
    if len(shape) == 3:
        if shape[2] in _COLOURS:
            return "HWC"
        if shape[0] in (1, _RGB):
            return "CHW"
        return "THW" if shape[0] in (2, 4, 5) else None
    if len(shape) == 4:
        if shape[3] in _COLOURS:
            return "THWC"
        return "TCHW" if shape[1] in (1, _RGB) else None
    return None


def check_layout(layout: str, shape: Sequence[int]) -> None:
    """Refuse a layout that does not exist, or that an image of this shape cannot have.

    Raises:
        PixelError: it does not exist, has another number of axes, or stacks no whole frames.
    """
    if layout not in LAYOUTS:
        raise PixelError(f"There is no image layout {layout!r}: known are {', '.join(LAYOUTS)}.")
    stacked = {"HW(TC)": -1, "(TC)HW": 0}.get(layout)
    if len(shape) != LAYOUTS[layout] or (stacked is not None and shape[stacked] % _RGB):
        raise PixelError(
            f"The image layout {layout} does not fit an image of shape {tuple(shape)}: name the "
            f"one that does, of {', '.join(LAYOUTS)}."
        )


def newest_image(array: AnyArray, layout: str) -> AnyArray:
    """The newest image in `array`, (H, W) or (H, W, C); a view.

    The filter remembers what older frames showed, so of a stack it needs the newest alone.

    >>> import numpy
    >>> newest_image(numpy.zeros((4, 84, 96)), "THW").shape
    (84, 96)
    >>> newest_image(numpy.zeros((9, 84, 96)), "(TC)HW").shape
    (84, 96, 3)
    """
    check_layout(layout, array.shape)
    if layout in ("THW", "THWC", "TCHW"):
        return newest_image(array[-1], layout[1:])
    if layout == "HWT":
        return array[:, :, -1]
    if layout == "HW(TC)":
        return array[:, :, -_RGB:]
    if layout == "(TC)HW":
        return newest_image(array[-_RGB:], "CHW")
    return array.transpose(1, 2, 0) if layout == "CHW" else array


def newest_shape(shape: Sequence[int], layout: str) -> tuple[int, ...]:
    """The shape of `newest_image`."""
    # A view of one byte: a shape costs nothing.
    return newest_image(np.broadcast_to(np.uint8(0), tuple(shape)), layout).shape
