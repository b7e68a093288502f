"""The networks that a latent model is built from.

Only this file and `latentwrap.pixels` know the size of frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentwrap.errors import ConfigError
from latentwrap.models.distributions import Gaussian
from latentwrap.pixels import FrameSpec

Activation: TypeAlias = Literal["leaky_relu", "elu"]

_SLOPE = 0.2
_STRIDE = 16  # of every encoder here, and of every decoder back
_PATCH = 4


class GaussianHead(nn.Module):
    """An MLP that gives a diagonal Gaussian; std = softplus(·) + `min_std`.

    Args:
        inputs: size of the inputs together.
        outputs: size of the Gaussian.
        hidden: sizes of the hidden layers.
        activation: after each hidden layer, `leaky_relu` (slope 0.2) or `elu`.
        min_std: smallest standard deviation.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        *,
        activation: Activation = "leaky_relu",
        min_std: float = 1e-5,
    ) -> None:
        super().__init__()
        self.net = mlp(inputs, 2 * outputs, hidden, activation)
        self.min_std = min_std

    def forward(self, *inputs: Tensor) -> Gaussian:
        """The Gaussian given the concatenated `inputs`, each (..., d)."""
        joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1)
        mean, raw = self.net(joined).chunk(2, dim=-1)
        return Gaussian(mean, F.softplus(raw) + self.min_std)


class PixelNetworks(nn.Module, ABC):
    """Encoder and decoder, and the form in which they hold pixels.

    That form is any rearrangement of the frame's pixels as floats in [0, 1]; likelihoods are
    computed in it, since a sum over pixels does not depend on their order.
    """

    encoder: nn.Module
    decoder: nn.Module

    @abstractmethod
    def pixels(self, frames: Tensor) -> Tensor:
        """uint8 frames (N, H, W, C) to float32 pixels."""

    @abstractmethod
    def frames(self, pixels: Tensor) -> Tensor:
        """Float pixels to uint8 frames (N, H, W, C); values outside [0, 1] are clipped."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Features, float32 (N, features)."""
        features: Tensor = self.encoder(pixels)
        return features

    def decode(self, latents: Tensor) -> Tensor:
        """Mean pixels given latents (N, d)."""
        pixels: Tensor = self.decoder(latents)
        return pixels


class PaperNetworks(PixelNetworks):
    """SLAC's convolutions; LeakyReLU after every layer, the last ones included.

    Pixels are (N, C, H, W).

    Args:
        frame: what the frames look like.
        features: size of the encoder's output.
        latent: size of the decoder's input.
    """

    def __init__(self, frame: FrameSpec, features: int, latent: int) -> None:
        super().__init__()
        height, width = grid(frame)
        self.encoder = nn.Sequential(
            nn.Conv2d(frame.channels, 32, 5, 2, 2),  # (32, H/2, W/2)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(32, 64, 3, 2, 1),  # (64, H/4, W/4)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(64, 128, 3, 2, 1),  # (128, H/8, W/8)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(128, 256, 3, 2, 1),  # (256, H/16, W/16)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(256, features, (height, width)),  # (features, 1, 1)
            nn.LeakyReLU(_SLOPE),
            nn.Flatten(),
        )
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (latent, 1, 1)),
            nn.ConvTranspose2d(latent, 256, (height, width)),  # (256, H/16, W/16)
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

    def pixels(self, frames: Tensor) -> Tensor:
        """(N, C, H, W); the memory stays in H, W, C order, which convolutions are fastest in."""
        return _unit_floats(frames.permute(0, 3, 1, 2))

    def frames(self, pixels: Tensor) -> Tensor:
        """(N, H, W, C)."""
        return _bytes(pixels.permute(0, 2, 3, 1))


class PatchNetworks(PixelNetworks):
    """Cheap networks on 4×4 patches: no convolution ever sees the full resolution.

    Pixels are (N, 16 C, H/4, W/4), a patch's pixels as channels. Rearranging the frames as
    bytes, once, spares the networks all traffic of full-size feature maps.

    Args:
        frame: what the frames look like.
        features: size of the encoder's output.
        latent: size of the decoder's input.
        widths: channels at 1/4, 1/8 and 1/16 of the resolution.
    """

    def __init__(self, frame: FrameSpec, features: int, latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        height, width = grid(frame)
        first, second, third = widths
        patch = _PATCH * _PATCH * frame.channels
        self._channels = frame.channels
        self.encoder = nn.Sequential(
            nn.Conv2d(patch, first, 1),  # (first, H/4, W/4)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(first, second, 3, 2, 1),  # (second, H/8, W/8)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(second, third, 3, 2, 1),  # (third, H/16, W/16)
            nn.LeakyReLU(_SLOPE),
            nn.Flatten(),
            nn.Linear(third * height * width, features),
            nn.LeakyReLU(_SLOPE),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, third * height * width),
            nn.Unflatten(1, (third, height, width)),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(third, 4 * second, 3, 1, 1),
            nn.PixelShuffle(2),  # (second, H/8, W/8)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(second, 4 * first, 3, 1, 1),
            nn.PixelShuffle(2),  # (first, H/4, W/4)
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(first, patch, 1),  # (16 C, H/4, W/4)
        )

    def pixels(self, frames: Tensor) -> Tensor:
        """(N, 16 C, H/4, W/4), channels last in memory."""
        count, height, width, channels = frames.shape
        split = frames.reshape(count, height // _PATCH, _PATCH, width // _PATCH, _PATCH, channels)
        patches = split.transpose(2, 3).flatten(3)  # (N, H/4, W/4, 16 C), a copy of bytes
        return _unit_floats(patches.permute(0, 3, 1, 2))

    def frames(self, pixels: Tensor) -> Tensor:
        """(N, H, W, C)."""
        patches = _bytes(pixels.permute(0, 2, 3, 1))
        count, height, width, _ = patches.shape
        split = patches.reshape(count, height, width, _PATCH, _PATCH, self._channels)
        return split.transpose(2, 3).reshape(count, _PATCH * height, _PATCH * width, -1)


def mlp(inputs: int, outputs: int, hidden: Sequence[int], activation: Activation) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for size in hidden:
        between = nn.ELU() if activation == "elu" else nn.LeakyReLU(_SLOPE)
        layers += [nn.Linear(inputs, size), between]
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


def _unit_floats(pixels: Tensor) -> Tensor:
    return pixels.float().div_(255)


def _bytes(pixels: Tensor) -> Tensor:
    return pixels.clamp(0, 1).mul(255).round().to(torch.uint8).contiguous()
