"""Frames: conversion and resizing against hand-computed cases and plain averages."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from latentwrap.errors import EnvironmentMismatch, PixelError
from latentwrap.pixels import FrameSpec, fit_frame, is_image_space, tile
from latentwrap.pixels.frames import source_spec

RGB8 = FrameSpec(height=8, width=8)


def noise_image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_shrinking_by_a_whole_factor_averages_blocks(factor: int) -> None:
    image = noise_image(8 * factor, 8 * factor, 3)
    blocks = image.reshape(8, factor, 8, factor, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(fit_frame(image, RGB8) - blocks).max() <= 0.5 + 1e-6


def test_a_frame_of_the_right_size_is_copied_not_shared() -> None:
    image = noise_image(8, 8, 3)
    frame = fit_frame(image, RGB8)
    np.testing.assert_array_equal(frame, image)
    image[:] = 0
    assert frame.any()
    assert frame.flags.c_contiguous


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))
def test_any_size_fits(height: int, width: int, channels: int) -> None:
    spec = FrameSpec(height=16, width=12, channels=channels)
    frame = fit_frame(np.full((height, width, channels), 77, np.uint8), spec)
    assert frame.shape == spec.shape
    assert (frame == 77).all()


def test_floats_are_scaled_and_rounded() -> None:
    image = np.zeros((8, 8, 3))
    image[0, 0] = [0.0, 0.5, 1.0]
    assert fit_frame(image, RGB8)[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [-0.1, 1.1, 255.0, np.nan])
def test_floats_outside_the_unit_interval_are_refused(value: float) -> None:
    with pytest.raises(PixelError, match=r"values in \[0, 1\]"):
        fit_frame(np.full((8, 8, 3), value), RGB8)


def test_opacity_is_dropped() -> None:
    image = noise_image(8, 8, 4)
    np.testing.assert_array_equal(fit_frame(image, RGB8), image[:, :, :3])


def test_grey_without_a_channel_axis_gets_one() -> None:
    image = noise_image(8, 8)
    frame = fit_frame(image, FrameSpec(height=8, width=8, channels=1))
    np.testing.assert_array_equal(frame[:, :, 0], image)


@pytest.mark.parametrize(
    "image",
    [np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 5), np.uint8), np.zeros(8, np.uint8)],
    ids=lambda image: str(image.shape),
)
def test_other_shapes_are_refused(image: np.ndarray) -> None:
    with pytest.raises(PixelError, match="requires an image of shape"):
        fit_frame(image, RGB8)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(PixelError, match="got dtype int64"):
        fit_frame(np.zeros((8, 8, 3), np.int64), RGB8)


def test_grey_for_an_rgb_model_is_refused() -> None:
    with pytest.raises(PixelError, match="requires 3 channels, got an image with 1"):
        fit_frame(noise_image(8, 8), RGB8)


def test_image_spaces() -> None:
    def box(shape: tuple[int, ...], dtype: type = np.uint8) -> spaces.Box:
        return spaces.Box(0, 255, shape, dtype)

    plain = [(9, 9), (9, 9, 1), (9, 9, 3), (9, 9, 4), (3, 9, 9), (4, 9, 9), (2, 9, 9, 3)]
    assert all(is_image_space(box(s)) for s in plain)
    assert not any(is_image_space(box(s)) for s in [(9,), (9, 9, 9), (2, 9, 9, 9)])
    assert not is_image_space(box((9, 9, 3), np.float32))
    assert not is_image_space(spaces.Discrete(3))


def test_source_is_checked_by_aspect_and_channels() -> None:
    spec = source_spec([(400, 600, 3)], height=64, width=64)
    assert spec.source_aspect == 1.5
    spec.check_source((200, 300, 4))
    with pytest.raises(EnvironmentMismatch, match="600:400, the environment gives 96:96"):
        spec.check_source((96, 96, 3))
    spec.check_source((96, 96, 3), stretch=True)
    with pytest.raises(EnvironmentMismatch, match="3 channels"):
        spec.check_source((400, 600))


def test_an_unknown_source_accepts_any_aspect() -> None:
    FrameSpec().check_source((10, 500, 3))


def test_tile_lays_frames_out_row_by_row() -> None:
    frames = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)])
    sheet = tile(frames, columns=2, gap=1)
    assert sheet.shape == (5, 7, 3)
    assert (sheet[:2, :3] == 10).all()
    assert (sheet[:2, 4:] == 20).all()
    assert (sheet[3:, :3] == 30).all()
    assert (sheet[3:, 4:] == 255).all()
    assert (sheet[2] == 255).all()


def test_grey_frames_are_made_of_coloured_images() -> None:
    spec = source_spec([(20, 20, 3)], height=10, width=10, grey=True)
    assert (spec.shape, spec.source_channels) == ((10, 10, 1), 3)
    image = np.zeros((20, 20, 3), np.uint8)
    image[...] = (200, 100, 50)
    # Rec. 601: 0.299 R + 0.587 G + 0.114 B
    expected = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert np.unique(fit_frame(image, spec)).tolist() == [expected]
    grey = np.full((20, 20), 77, np.uint8)
    assert np.unique(fit_frame(grey, spec)).tolist() == [77]
    spec.check_source((20, 20, 3))
    with pytest.raises(EnvironmentMismatch, match="3 channels"):
        spec.check_source((20, 20, 1))


def test_grey_images_have_no_colours_to_lose() -> None:
    spec = source_spec([(20, 20)], height=10, width=10, grey=True)
    assert (spec.channels, spec.source_channels) == (1, None)
