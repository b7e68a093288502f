"""Shapes, spread and refusals of the networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from latentwrap.errors import ConfigError
from latentwrap.models.networks import (
    GaussianHead,
    PaperDecoder,
    PaperEncoder,
    PatchDecoder,
    PatchEncoder,
    grid,
    initialize,
    mlp,
)
from latentwrap.pixels import FrameSpec

SIZES = [(64, 64, 3), (16, 16, 1), (48, 96, 3)]


@pytest.mark.parametrize("size", SIZES)
def test_encoders_and_decoders_mirror_each_other(size: tuple[int, int, int]) -> None:
    frame = FrameSpec(height=size[0], width=size[1], channels=size[2])
    images = torch.rand(2, size[2], size[0], size[1])
    widths = (4, 8, 8)
    for encoder in (PaperEncoder(frame, 24), PatchEncoder(frame, 24, widths)):
        assert encoder(images).shape == (2, 24)
    for decoder in (PaperDecoder(24, frame), PatchDecoder(24, frame, widths)):
        assert decoder(torch.rand(2, 24)).shape == images.shape


@pytest.mark.parametrize("size", [(60, 64), (64, 20), (8, 8)])
def test_a_size_that_is_no_multiple_of_16_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"multiples of 16, got {size[0]}x{size[1]}"):
        grid(FrameSpec(height=size[0], width=size[1]))


def test_paper_networks_have_the_published_size() -> None:
    # Counted by hand from the paper's table: weights + biases of each convolution.
    shapes = [(3, 32, 25), (32, 64, 9), (64, 128, 9), (128, 256, 9), (256, 256, 16)]
    expected = sum(i * o * k + o for i, o, k in shapes)
    encoder = PaperEncoder(FrameSpec(), 256)
    assert sum(p.numel() for p in encoder.parameters()) == expected


def test_head_computes_softplus_of_its_second_half() -> None:
    head = GaussianHead(5, 3, (8,), min_std=0.5)
    initialize(head, torch.Generator().manual_seed(0))
    a, b = torch.randn(2, 3), torch.randn(2, 2)
    mean, raw = head.net(torch.cat([a, b], 1)).chunk(2, dim=1)
    gaussian = head(a, b)
    torch.testing.assert_close(gaussian.mean, mean)
    torch.testing.assert_close(gaussian.std, F.softplus(raw) + 0.5)
    assert (gaussian.std >= 0.5).all()


def test_mlp_has_leaky_relu_between_but_not_after() -> None:
    kinds = [type(layer) for layer in mlp(2, 3, (4, 5))]
    assert kinds == [nn.Linear, nn.LeakyReLU, nn.Linear, nn.LeakyReLU, nn.Linear]


def test_initialisation_depends_on_the_generator_alone() -> None:
    def weights(seed: int, global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        net = mlp(4, 4, (4,))
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
