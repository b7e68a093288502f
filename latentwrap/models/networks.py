"""The networks that a latent model is built from.

Frames are float32 (N, C, H, W) in [0, 1] here; only this file and `latentwrap.pixels` know
their size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentwrap.errors import ConfigError
from latentwrap.models.distributions import Gaussian
from latentwrap.pixels import FrameSpec

_SLOPE = 0.2
_STRIDE = 16  # of every encoder here, and of every decoder back


class GaussianHead(nn.Module):
    """An MLP that gives a diagonal Gaussian; std = softplus(·) + `min_std`.

    Args:
        inputs: size of the inputs together.
        outputs: size of the Gaussian.
        hidden: sizes of the hidden layers, LeakyReLU(0.2) after each.
        min_std: smallest standard deviation.
    """

    def __init__(
        self, inputs: int, outputs: int, hidden: Sequence[int], *, min_std: float = 1e-5
    ) -> None:
        super().__init__()
        self.net = mlp(inputs, 2 * outputs, hidden)
        self.min_std = min_std

    def forward(self, *inputs: Tensor) -> Gaussian:
        """The Gaussian given the concatenated `inputs`, each (..., d)."""
        joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1)
        mean, raw = self.net(joined).chunk(2, dim=-1)
        return Gaussian(mean, F.softplus(raw) + self.min_std)


class PaperEncoder(nn.Module):
    """SLAC's encoder: five convolutions, LeakyReLU after each; (N, C, H, W) to (N, outputs)."""

    def __init__(self, frame: FrameSpec, outputs: int) -> None:
        super().__init__()
        height, width = grid(frame)
        self.net = nn.Sequential(
            nn.Conv2d(frame.channels, 32, 5, 2, 2),  # (32, H/2, W/2)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(32, 64, 3, 2, 1),  # (64, H/4, W/4)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(64, 128, 3, 2, 1),  # (128, H/8, W/8)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(128, 256, 3, 2, 1),  # (256, H/16, W/16)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(256, outputs, (height, width)),  # (outputs, 1, 1)
            nn.LeakyReLU(_SLOPE),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Features, (N, outputs)."""
        features: Tensor = self.net(frames).flatten(1)
        return features


class PaperDecoder(nn.Module):
    """SLAC's decoder, the encoder's mirror, LeakyReLU after the last layer too."""

    def __init__(self, inputs: int, frame: FrameSpec) -> None:
        super().__init__()
        height, width = grid(frame)
        self.net = nn.Sequential(
            nn.ConvTranspose2d(inputs, 256, (height, width)),  # (256, H/16, W/16)
            nn.LeakyReLU(_SLOPE),
            nn.ConvTranspose2d(256, 128, 3, 2, 1, 1),  # (128, H/8, W/8)
            nn.LeakyReLU(_SLOPE),
            nn.ConvTranspose2d(128, 64, 3, 2, 1, 1),  # (64, H/4, W/4)
            nn.LeakyReLU(_SLOPE),
            nn.ConvTranspose2d(64, 32, 3, 2, 1, 1),  # (32, H/2, W/2)
            nn.LeakyReLU(_SLOPE),
            nn.ConvTranspose2d(32, frame.channels, 5, 2, 2, 1),  # (C, H, W)
            nn.LeakyReLU(_SLOPE),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Mean frames, (N, C, H, W), from latents (N, inputs)."""
        frames: Tensor = self.net(latents[:, :, None, None])
        return frames


class PatchEncoder(nn.Module):
    """A cheap encoder: 4×4 patches, two convolutions, one linear layer."""

    def __init__(self, frame: FrameSpec, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        height, width = grid(frame)
        first, second, third = widths
        self.net = nn.Sequential(
            nn.Conv2d(frame.channels, first, 4, 4),  # (first, H/4, W/4)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(first, second, 3, 2, 1),  # (second, H/8, W/8)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(second, third, 3, 2, 1),  # (third, H/16, W/16)
            nn.LeakyReLU(_SLOPE),
            nn.Flatten(),
            nn.Linear(third * height * width, outputs),
            nn.LeakyReLU(_SLOPE),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Features, (N, outputs)."""
        features: Tensor = self.net(frames)
        return features


class PatchDecoder(nn.Module):
    """A cheap decoder: convolutions on small maps, whose channels are then laid out as pixels."""

    def __init__(self, inputs: int, frame: FrameSpec, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third = widths
        self._grid = grid(frame)
        self.stem = nn.Linear(inputs, third * self._grid[0] * self._grid[1])
        self.net = nn.Sequential(
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(third, 4 * second, 3, 1, 1),
            nn.PixelShuffle(2),  # (second, H/8, W/8)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(second, 4 * first, 3, 1, 1),
            nn.PixelShuffle(2),  # (first, H/4, W/4)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(first, 16 * frame.channels, 1),
            nn.PixelShuffle(4),  # (C, H, W)
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Mean frames, (N, C, H, W), from latents (N, inputs)."""
        frames: Tensor = self.net(self.stem(latents).unflatten(1, (-1, *self._grid)))
        return frames


def mlp(inputs: int, outputs: int, hidden: Sequence[int]) -> nn.Sequential:
    """Linear layers with LeakyReLU(0.2) between them."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(inputs, size), nn.LeakyReLU(_SLOPE)]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def grid(frame: FrameSpec) -> tuple[int, int]:
    """Height and width of the smallest feature map.

    Raises:
        ConfigError: the frame's size is no multiple of 16.
    """
    if frame.height % _STRIDE or frame.width % _STRIDE:
        raise ConfigError(
            f"The networks require frames whose height and width are multiples of {_STRIDE}, "
            f"got {frame.height}x{frame.width}."
        )
    return frame.height // _STRIDE, frame.width // _STRIDE


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Xavier-uniform weights and zero biases for every linear and convolutional layer."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
