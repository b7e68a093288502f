"""Encoders and decoders against torch's own convolutions, for every size of frame."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentwrap.errors import ConfigError
from latentwrap.models import pixel_networks
from latentwrap.models.networks import initialize
from latentwrap.models.pixel_networks import PaperNetworks, PatchNetworks, PixelNetworks
from latentwrap.pixels import FrameSpec

SIZES = [(64, 64, 3), (16, 16, 1), (48, 48, 3), (84, 84, 1), (96, 128, 3), (21, 50, 3)]


def spec(size: tuple[int, int, int]) -> FrameSpec:
    return FrameSpec(height=size[0], width=size[1], channels=size[2])


def every_pair(
    size: tuple[int, int, int], *, standardize: bool = False, blurred_weight: float = 0.0
) -> list[PixelNetworks]:
    frame, generator = spec(size), torch.Generator().manual_seed(0)
    how: Any = {"standardize": standardize, "blurred_weight": blurred_weight}
    pairs: list[PixelNetworks] = [
        PaperNetworks(frame, 24, 10, **how),
        PatchNetworks(frame, 24, 10, widths=(4, 8, 8), patch=4, **how),
        PatchNetworks(frame, 24, 10, widths=(8, 4), patch=8, **how),
        PatchNetworks(frame, 24, 10, widths=(8,), patch=8, **how),
    ]
    for pair in pairs:
        initialize(pair, generator)
    return pairs


def random_frames(size: tuple[int, int, int], count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, *size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", SIZES)
def test_decoders_give_pixels_as_encoders_take_them(size: tuple[int, int, int]) -> None:
    frames = random_frames(size)
    for networks in every_pair(size):
        assert networks.encode(frames).shape == (3, 24)
        assert networks.decode(torch.rand(3, 10)).shape == networks.pixels(frames).shape


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("standardize", [False, True])
def test_pixels_are_the_frame_rearranged(size: tuple[int, int, int], *, standardize: bool) -> None:
    frames = random_frames(size)
    for networks in every_pair(size, standardize=standardize):
        networks.fit(frames)
        pixels = networks.pixels(frames)
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(networks.frames(pixels), frames)


def test_a_patch_is_a_square_of_the_frame() -> None:
    frames = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8, 1).repeat(1, 4, 4, 1)
    networks = PatchNetworks(spec((32, 32, 1)), 4, 4, widths=(4, 4), patch=4)
    patch = networks.pixels(frames)[0, :, 0, 1] * 255
    torch.testing.assert_close(patch, frames[0, 0:4, 4:8, 0].flatten().float())


def test_frames_are_continued_where_patches_reach_beyond_them() -> None:
    frames = random_frames((10, 9, 1))
    networks = PatchNetworks(spec((10, 9, 1)), 4, 4, widths=(4,), patch=8)
    pixels = (networks.pixels(frames) * 255).permute(0, 2, 3, 1).reshape(3, 2, 2, 8, 8)
    whole = pixels.transpose(2, 3).reshape(3, 16, 16)
    expected = F.pad(frames[..., 0].float()[:, None], (0, 7, 0, 6), mode="replicate")[:, 0]
    torch.testing.assert_close(whole, expected)


def test_standardised_pixels_have_no_mean_and_unit_spread() -> None:
    frames = random_frames((16, 16, 3), 40)
    frames[:, 4:8] = 200  # a background that never changes
    networks = PatchNetworks(spec((16, 16, 3)), 4, 4, widths=(4,), patch=4, standardize=True)
    networks.fit(frames)
    pixels = networks.pixels(frames)
    torch.testing.assert_close(pixels.mean(0), torch.zeros_like(pixels[0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels.square().mean(), torch.tensor(1.0), atol=1e-5, rtol=0)
    assert pixels[:, :, 1].abs().max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_paper_networks_are_the_published_convolutions(size: tuple[int, int, int]) -> None:
    networks = every_pair(size)[0].to(memory_format=torch.channels_last)
    frames = random_frames(size)
    # An odd frame is continued to an even one before the first convolution.
    image = F.pad(
        frames.permute(0, 3, 1, 2).float() / 255, (0, size[1] % 2, 0, size[0] % 2), mode="replicate"
    )
    features, pixels = image, torch.randn(3, 10)[:, :, None, None]
    latents = pixels.flatten(1)
    for layer in networks.encoder:
        convolution = isinstance(layer, nn.Conv2d)
        features = (
            nn.Conv2d.forward(layer, features) if convolution else F.leaky_relu(features, 0.2)
        )
    for layer in networks.decoder[1:]:
        convolution = isinstance(layer, nn.ConvTranspose2d)
        pixels = (
            nn.ConvTranspose2d.forward(layer, pixels) if convolution else F.leaky_relu(pixels, 0.2)
        )
    torch.testing.assert_close(networks.encode(frames), features.flatten(1), atol=1e-5, rtol=1e-4)
    mean = (pixels.clamp(0, 1) * 255)[:, :, : size[0], : size[1]]
    decoded = networks.frames(networks.decode(latents)).permute(0, 3, 1, 2)
    assert (decoded - mean).abs().max() < 0.51
    expected = (pixels - image).square().sum()
    torch.testing.assert_close(networks.reconstruction_error(latents, frames), expected)


@pytest.mark.parametrize("standardize", [False, True])
def test_reconstruction_error_is_that_of_pixels_in_the_unit_interval(*, standardize: bool) -> None:
    size = (16, 24, 3)
    frames, latents = random_frames(size), torch.randn(3, 10)
    for networks in every_pair(size, standardize=standardize):
        networks.fit(frames)
        mean, pixels = networks.decode(latents), networks.pixels(frames)
        scale = (frames.double() / 255 - (frames.double() / 255).mean(0)).square().mean().sqrt()
        unit = scale.float() if standardize else 1.0
        expected = ((mean - pixels) * unit).square().sum()
        torch.testing.assert_close(networks.reconstruction_error(latents, frames), expected)


@pytest.mark.parametrize("size", [(16, 24, 3), (21, 50, 3), (16, 16, 1)])
@pytest.mark.parametrize("standardize", [False, True])
def test_blurred_errors_are_those_of_sums_over_patches(
    size: tuple[int, int, int], *, standardize: bool
) -> None:
    weight, colours = 0.7, size[2]
    frames, latents = random_frames(size), torch.randn(3, 10)
    for networks in every_pair(size, standardize=standardize, blurred_weight=weight):
        networks.fit(frames)
        scale = networks.scale if standardize else torch.ones(())
        error = scale * (networks.decode(latents) - networks.pixels(frames)).detach()
        # The pixels of a patch are its channels, in the order (row, column, colour).
        patches = error.unflatten(1, (-1, colours))  # type: ignore[no-untyped-call]
        sums = patches.sum(dim=1) / patches.shape[1] ** 0.5
        expected = error.square().sum()
        for image in sums.flatten(0, 1).double().numpy():
            # OpenCV's kernel sums to 1; ours has squares that sum to 1, 2√π times that of a std
            # of 1.
            blurred = cv2.GaussianBlur(image, (13, 13), 1.0, borderType=cv2.BORDER_CONSTANT)
            blurred *= 2 * np.pi**0.5
            expected = expected + weight * float(np.square(blurred).sum())
        torch.testing.assert_close(networks.reconstruction_error(latents, frames), expected)


def test_a_blurred_frame_forgives_what_is_nearly_right() -> None:
    frames = torch.zeros(3, 64, 64, 1, dtype=torch.uint8)
    for count, column in enumerate((8, 16, 48)):
        frames[count, 24:32, column : column + 8] = 255
    errors = {}
    for weight in (0.0, 1.0):
        networks = PatchNetworks(
            spec((64, 64, 1)), 4, 4, widths=(4,), patch=8, blurred_weight=weight
        )
        networks.decoder = nn.Identity()
        first = networks.pixels(frames[:1])
        errors[weight] = [float(networks.reconstruction_error(first, f[None])) for f in frames[1:]]
    assert errors[0.0][0] == errors[0.0][1] == 128
    assert errors[1.0][0] < 0.7 * errors[1.0][1]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_blocks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch, weight: float) -> None:
    frames, latents = random_frames((16, 16, 3), 7), torch.randn(7, 10)
    for whole in every_pair((16, 16, 3), blurred_weight=weight):
        expected = (
            whole.encode(frames),
            whole.decode(latents),
            whole.reconstruction_error(latents, frames),
        )
        with monkeypatch.context() as patch:
            patch.setattr(pixel_networks, "_LARGEST_BLOCK", 4 * 8 * 8 * 32 * 3)
            blocks = every_pair((16, 16, 3))[0]
            assert blocks._frames_at_once < 7
        whole._frames_at_once = 3
        found = (
            whole.encode(frames),
            whole.decode(latents),
            whole.reconstruction_error(latents, frames),
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", [(7, 64, 3), (64, 4, 3)])
def test_a_frame_that_is_too_small_is_refused(size: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="at least 8x8"):
        every_pair(size)


def test_paper_networks_have_the_published_size() -> None:
    networks = PaperNetworks(FrameSpec(height=64, width=64), 256, 288)
    shapes = [tuple(p.shape) for p in networks.encoder.parameters() if p.ndim > 1]
    published = [(32, 3, 5, 5), (64, 32, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3), (256, 256, 4, 4)]
    assert shapes == published
    mirrored = [tuple(p.shape) for p in networks.decoder.parameters() if p.ndim > 1]
    assert mirrored == [(288, *published[-1][1:]), *published[-2::-1]]


def test_weights_have_the_names_that_older_checkpoints_give_them() -> None:
    frame = FrameSpec(height=64, width=64)
    paper = PaperNetworks(frame, 24, 10)
    patch = PatchNetworks(frame, 24, 10, widths=(4, 8, 8), patch=4, blurred_weight=1.0)
    expected = {
        paper: ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9]),
        patch: ([0, 2, 4, 7], [0, 3, 6, 9]),
    }
    for networks, (encoder, decoder) in expected.items():
        names = [f"encoder.{i}" for i in encoder] + [f"decoder.{i}" for i in decoder]
        stored = [f"{name}.{what}" for name in names for what in ("weight", "bias")]
        assert sorted(networks.state_dict()) == sorted(stored)
