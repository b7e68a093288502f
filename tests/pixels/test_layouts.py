"""Where height, width, colours and time stand in an image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwrap.errors import PixelError
from latentwrap.pixels import LAYOUTS, guess_layout, newest_image, newest_shape

SIZES = {"H": 9, "W": 11, "C": 3, "T": 4}


def stack(layout: str) -> np.ndarray:
    """An array in some layout whose values are 1000 t + 100 c + 10 h + w, made axis by axis."""
    axes = layout.replace("(TC)", "S")
    shape = [12 if axis == "S" else SIZES[axis] for axis in axes]
    array = np.zeros(shape, int)
    for index in np.ndindex(*shape):
        at = dict(zip(axes, index, strict=True))
        if "S" in at:
            at["T"], at["C"] = divmod(at["S"], 3)
        time = at.get("T", 3)
        array[index] = 1000 * time + 100 * at.get("C", 0) + 10 * at["H"] + at["W"]
    return array


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_newest_image_comes_out_as_height_width_colours(layout: str) -> None:
    image = newest_image(stack(layout), layout)
    colours = range(3) if "C" in layout else [None]
    for h, w in [(0, 0), (8, 10), (3, 7)]:
        for c in colours:
            value = image[h, w] if c is None else image[h, w, c]
            assert value == 3000 + 100 * (c or 0) + 10 * h + w
    assert newest_shape(stack(layout).shape, layout) == image.shape


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((64, 64), "HW"),
        ((64, 64, 1), "HWC"),
        ((64, 64, 4), "HWC"),
        ((3, 64, 64), "CHW"),
        ((1, 64, 64), "CHW"),
        ((4, 84, 84), "THW"),
        ((4, 64, 64, 3), "THWC"),
        ((4, 3, 64, 64), "TCHW"),
        ((64, 64, 9), None),
        ((9, 64, 64), None),
        ((7,), None),
    ],
)
def test_what_a_shape_says(shape: tuple[int, ...], layout: str | None) -> None:
    assert guess_layout(shape) == layout


@given(st.sampled_from(sorted(LAYOUTS)), st.lists(st.integers(1, 12), min_size=1, max_size=5))
def test_a_layout_fits_or_is_refused_in_a_sentence(layout: str, shape: list[int]) -> None:
    fits = len(shape) == LAYOUTS[layout]
    if layout == "HW(TC)":
        fits = fits and shape[-1] % 3 == 0
    if layout == "(TC)HW":
        fits = fits and shape[0] % 3 == 0
    if fits:
        assert len(newest_shape(shape, layout)) in (2, 3)
    else:
        with pytest.raises(PixelError, match="does not fit"):
            newest_shape(shape, layout)


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(PixelError, match=r"no image layout 'WHC': known are HW, HWC"):
        newest_image(np.zeros((4, 4, 3)), "WHC")
