"""Shapes, spread and refusals of the networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from latentwrap.errors import ConfigError
from latentwrap.models.networks import (
    GaussianHead,
    PaperNetworks,
    PatchNetworks,
    PixelNetworks,
    grid,
    initialize,
    mlp,
)
from latentwrap.pixels import FrameSpec

SIZES = [(64, 64, 3), (16, 16, 1), (48, 96, 3)]


def both(size: tuple[int, int, int]) -> list[PixelNetworks]:
    frame = FrameSpec(height=size[0], width=size[1], channels=size[2])
    return [PaperNetworks(frame, 24, 10), PatchNetworks(frame, 24, 10, (4, 8, 8))]


@pytest.mark.parametrize("size", SIZES)
def test_decoders_give_pixels_as_encoders_take_them(size: tuple[int, int, int]) -> None:
    frames = torch.randint(0, 256, (2, *size), dtype=torch.uint8)
    for networks in both(size):
        pixels = networks.pixels(frames)
        assert networks.encode(pixels).shape == (2, 24)
        assert networks.decode(torch.rand(2, 10)).shape == pixels.shape


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_the_frame_rearranged(size: tuple[int, int, int]) -> None:
    frames = torch.randint(0, 256, (2, *size), dtype=torch.uint8)
    for networks in both(size):
        pixels = networks.pixels(frames)
        assert pixels.numel() == frames.numel()
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(networks.frames(pixels), frames)


def test_patches_hold_four_by_four_pixels() -> None:
    frames = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8, 1).repeat(1, 4, 4, 1)
    networks = PatchNetworks(FrameSpec(height=32, width=32, channels=1), 4, 4, (4, 4, 4))
    patch = networks.pixels(frames)[0, :, 0, 1] * 255
    expected = frames[0, 0:4, 4:8, 0].flatten()
    torch.testing.assert_close(patch, expected.float())


def test_decoded_values_outside_the_unit_interval_are_clipped() -> None:
    networks = PaperNetworks(FrameSpec(height=16, width=16), 4, 4)
    pixels = torch.tensor([-0.5, 0.5, 1.5]).reshape(1, 3, 1, 1).expand(1, 3, 16, 16)
    assert networks.frames(pixels)[0, 0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("size", [(60, 64), (64, 20), (8, 8)])
def test_a_size_that_is_no_multiple_of_16_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"multiples of 16, got {size[0]}x{size[1]}"):
        grid(FrameSpec(height=size[0], width=size[1]))


def test_paper_networks_have_the_published_size() -> None:
    # Counted by hand from the paper's table: weights + biases of each convolution.
    shapes = [(3, 32, 25), (32, 64, 9), (64, 128, 9), (128, 256, 9), (256, 256, 16)]
    expected = sum(i * o * k + o for i, o, k in shapes)
    networks = PaperNetworks(FrameSpec(), 256, 288)
    assert sum(p.numel() for p in networks.encoder.parameters()) == expected


def test_head_computes_softplus_of_its_second_half() -> None:
    head = GaussianHead(5, 3, (8,), min_std=0.5)
    initialize(head, torch.Generator().manual_seed(0))
    a, b = torch.randn(2, 3), torch.randn(2, 2)
    mean, raw = head.net(torch.cat([a, b], 1)).chunk(2, dim=1)
    gaussian = head(a, b)
    torch.testing.assert_close(gaussian.mean, mean)
    torch.testing.assert_close(gaussian.std, F.softplus(raw) + 0.5)
    assert (gaussian.std >= 0.5).all()


def test_mlp_has_its_activation_between_but_not_after() -> None:
    for name, between in (("leaky_relu", nn.LeakyReLU), ("elu", nn.ELU)):
        kinds = [type(layer) for layer in mlp(2, 3, (4, 5), name)]
        assert kinds == [nn.Linear, between, nn.Linear, between, nn.Linear]


def test_initialisation_depends_on_the_generator_alone() -> None:
    def weights(seed: int, global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        net = mlp(4, 4, (4,), "elu")
        initialize(net, torch.Generator().manual_seed(seed))
        return torch.cat([p.flatten() for p in net.parameters()])

    torch.testing.assert_close(weights(1, 2), weights(1, 3), rtol=0, atol=0)
    assert not torch.equal(weights(1, 2), weights(2, 2))


def test_initialisation_is_xavier_uniform_with_zero_biases() -> None:
    layer = nn.Linear(300, 500)
    initialize(layer, torch.Generator().manual_seed(0))
    bound = (6 / 800) ** 0.5
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert not layer.bias.any()
