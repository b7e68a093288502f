"""Encoders and decoders. Only they, their layers and `latentwrap.pixels` know sizes of frames."""

from __future__ import annotations

import math
import sys
from abc import ABC
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentwrap.errors import ConfigError
from latentwrap.models.convolutions import (
    Doubled,
    FirstConv,
    FromVector,
    LastConv,
    ToVector,
    doubling,
    halved,
)
from latentwrap.pixels import FrameSpec
from latentwrap.pixels.frames import SMALLEST_SIDE
from latentwrap.precision import reduced

_SLOPE = 0.2
_SMALLEST_SCALE = 0.05  # of a scene in which little moves, or nothing
# glibc gives blocks above 32 MB back to the system as soon as they are freed, and the system
# takes as long to hand the pages out again as a convolution takes to fill them.
_LARGEST_BLOCK = 16 * 1024**2


class PixelNetworks(nn.Module, ABC):
    """Encoder and decoder, and the form in which they hold pixels: square patches.

    Pixels are float32 (N, patch² C, rows, columns), a patch's pixels as channels and channels
    last in memory: rearranging bytes, once, spares the networks all traffic of full-size feature
    maps. Likelihoods are computed in this form, since a sum over pixels does not depend on their
    order. Frames whose sides are no multiples of the patch are continued at the right and at the
    bottom.

    Pixels are in [0, 1], or standardised: minus the mean frame, over the standard deviation of
    all pixels. A small thing that moves is then most of what the networks see, and a background
    that never changes is none of it.

    Args:
        frame: what the frames look like.
        patch: side of a patch in pixels.
        widest: channels of the largest feature map, which has a place for every patch.
        standardize: hold standardised pixels; `fit` sets mean and scale.
        blurred_weight: what errors of blurred frames count beside those of the pixels.

    Raises:
        ConfigError: the frame is too small.
    """

    encoder: nn.Module
    decoder: nn.Module
    mean: Tensor
    scale: Tensor
    blur_rows: Tensor
    blur_columns: Tensor

    def __init__(
        self,
        frame: FrameSpec,
        patch: int,
        *,
        widest: int,
        standardize: bool,
        blurred_weight: float,
    ) -> None:
        super().__init__()
        if min(frame.height, frame.width) < SMALLEST_SIDE:
            raise ConfigError(
                f"The networks require frames of at least {SMALLEST_SIDE}x{SMALLEST_SIDE}, "
                f"got {frame.height}x{frame.width}: collect larger ones."
            )
        self._frame, self._patch, self._standardize = frame, patch, standardize
        self._blurred_weight = blurred_weight
        self.rows, self.columns = -(-frame.height // patch), -(-frame.width // patch)
        depth = max(widest, self.pixel_depth)
        self._frames_at_once = max(1, _LARGEST_BLOCK // (4 * depth * self.rows * self.columns))
        if blurred_weight:
            self.register_buffer("blur_rows", _gaussian(self.rows), persistent=False)
            self.register_buffer("blur_columns", _gaussian(self.columns), persistent=False)
        if standardize:
            self.register_buffer("mean", torch.zeros(self.rows, self.columns, self.pixel_depth))
            self.register_buffer("scale", torch.ones(()))

    def fit(self, frames: Tensor) -> None:
        """Take mean and scale, where pixels are standardised, from uint8 frames (N, H, W, C)."""
        if self._standardize:
            blocks = torch.split(frames, self._frames_at_once)
            total = torch.stack([self._patches(block).float().sum(dim=0) for block in blocks])
            self.mean = total.sum(dim=0) / (255 * len(frames))
            squares = [
                (self._patches(block).float() / 255 - self.mean).square().mean() * len(block)
                for block in blocks
            ]
            spread = (torch.stack(squares).sum() / len(frames)).sqrt()
            self.scale = spread.clamp(min=_SMALLEST_SCALE)

    @property
    def pixel_depth(self) -> int:
        """Channels of the pixels, patch² C."""
        return self._patch**2 * self._frame.channels

    def pixels(self, frames: Tensor) -> Tensor:
        """uint8 frames (N, H, W, C) to float32 pixels."""
        pixels = self._patches(frames).float()
        if self._standardize:
            pixels.div_(255 * self.scale).sub_(self.mean / self.scale)
        else:
            pixels.div_(255)
        return pixels.permute(0, 3, 1, 2)

    def frames(self, pixels: Tensor) -> Tensor:
        """Float pixels to uint8 frames (N, H, W, C); values outside [0, 1] are clipped."""
        patches = pixels.permute(0, 2, 3, 1)
        if self._standardize:
            patches = patches * self.scale + self.mean
        patches = patches.clamp(0, 1).mul(255).round().to(torch.uint8)
        patch, frame = self._patch, self._frame
        split = patches.reshape(-1, self.rows, self.columns, patch, patch, frame.channels)
        whole = split.transpose(2, 3).reshape(
            len(pixels), self.rows * patch, self.columns * patch, frame.channels
        )
        return whole[:, : frame.height, : frame.width].contiguous()

    def keep_batches_whole(self) -> None:
        """Never split a batch: what is traced with one size of it serves all sizes."""
        self._frames_at_once = sys.maxsize

    def encode(self, frames: Tensor) -> Tensor:
        """Features of uint8 frames (N, H, W, C); float32 (N, features)."""
        return self._in_blocks(lambda block: reduced(self.encoder, self.pixels(block)), frames)

    def decode(self, latents: Tensor) -> Tensor:
        """Mean pixels given latents (N, d)."""
        return self._in_blocks(partial(reduced, self.decoder), latents)

    def reconstruction_error(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Σ (mean − x)² over the pixels in [0, 1] of uint8 frames given latents; a scalar.

        To it comes `blurred_weight` times the squared error of blurred frames: sums over the
        patches, blurred by a Gaussian whose standard deviation is a patch. To the pixels, an
        object that is expected beside its place is as wrong as one that is expected far away;
        to the blurred frames it is less so, and latents learn where things are close together.
        """
        size = self._block_size(len(latents), latents.device)
        errors = [
            self._reconstruction_error(reduced(self.decoder, z), self.pixels(x))
            for z, x in zip(torch.split(latents, size), torch.split(frames, size), strict=True)
        ]
        error = torch.stack(errors).sum()
        return error * self.scale.square() if self._standardize else error

    def _reconstruction_error(self, mean: Tensor, pixels: Tensor) -> Tensor:
        if not self._blurred_weight:
            return F.mse_loss(mean, pixels, reduction="sum")
        difference = mean - pixels
        by_colour = difference.view(
            len(mean), self._patch**2, self._frame.channels, self.rows, self.columns
        )
        # Over the patch's side: noise of all its pixels keeps its variance.
        sums = by_colour.sum(dim=1) / self._patch
        blurred: Tensor = self.blur_rows @ sums @ self.blur_columns
        return difference.square().sum() + self._blurred_weight * blurred.square().sum()

    def _patches(self, frames: Tensor) -> Tensor:
        """uint8 (N, rows, columns, patch² C)."""
        count, height, width, channels = frames.shape
        patch = self._patch
        if height % patch or width % patch:
            frames = _continue(frames, -height % patch, -width % patch)
        split = frames.reshape(count, self.rows, patch, self.columns, patch, channels)
        return split.transpose(2, 3).flatten(3)

    def _in_blocks(self, function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        size = self._block_size(len(inputs), inputs.device)
        if size == len(inputs):
            return function(inputs)
        return torch.cat([function(block) for block in torch.split(inputs, size)])

    def _block_size(self, count: int, device: torch.device) -> int:
        if device.type != "cpu" or count <= self._frames_at_once:
            return max(count, 1)
        return -(-count // -(-count // self._frames_at_once))  # blocks of even size


class PaperNetworks(PixelNetworks):
    """SLAC's convolutions; LeakyReLU after every layer, the last ones included.

    Args:
        frame: what the frames look like.
        features: size of the encoder's output.
        latent: size of the decoder's input.
        standardize, blurred_weight: as of `PixelNetworks`.
    """

    def __init__(
        self,
        frame: FrameSpec,
        features: int,
        latent: int,
        *,
        standardize: bool = False,
        blurred_weight: float = 0.0,
    ) -> None:
        super().__init__(
            frame, 2, widest=32, standardize=standardize, blurred_weight=blurred_weight
        )
        half = (self.rows, self.columns)  # (H/2, W/2)
        quarter = halved(half)
        eighth = halved(quarter)
        sixteenth = halved(eighth)
        self.encoder = nn.Sequential(
            FirstConv(frame.channels, 32),  # (32, H/2, W/2)
            _activation(),
            nn.Conv2d(32, 64, 3, 2, 1),  # (64, H/4, W/4)
            _activation(),
            nn.Conv2d(64, 128, 3, 2, 1),  # (128, H/8, W/8)
            _activation(),
            nn.Conv2d(128, 256, 3, 2, 1),  # (256, H/16, W/16)
            _activation(),
            ToVector(256, features, sixteenth),  # (features,)
            _activation(),
        )
        self.decoder = nn.Sequential(
            nn.Identity(),  # the names of the weights are those of older checkpoints
            FromVector(latent, 256, sixteenth),  # (256, H/16, W/16)
            _activation(),
            doubling(256, 128, sixteenth, eighth),  # (128, H/8, W/8)
            _activation(),
            doubling(128, 64, eighth, quarter),  # (64, H/4, W/4)
            _activation(),
            doubling(64, 32, quarter, half),  # (32, H/2, W/2)
            _activation(),
            LastConv(32, frame.channels),  # (C, H, W), in patches of 2×2
            _activation(),
        )


class PatchNetworks(PixelNetworks):
    """Cheap networks: no convolution ever sees more than one place for each patch.

    Args:
        frame: what the frames look like.
        features: size of the encoder's output.
        latent: size of the decoder's input.
        widths: channels on the grid of patches and on each grid of half its size.
        patch: side of a patch in pixels.
        standardize, blurred_weight: as of `PixelNetworks`.
    """

    def __init__(
        self,
        frame: FrameSpec,
        features: int,
        latent: int,
        *,
        widths: Sequence[int],
        patch: int,
        standardize: bool = False,
        blurred_weight: float = 0.0,
    ) -> None:
        super().__init__(
            frame,
            patch,
            widest=widths[0],
            standardize=standardize,
            blurred_weight=blurred_weight,
        )
        sizes = [(self.rows, self.columns)]
        for _ in widths[1:]:
            sizes.append(halved(sizes[-1]))
        smallest = (widths[-1], *sizes[-1])
        encoder: list[nn.Module] = [nn.Conv2d(self.pixel_depth, widths[0], 1), _activation()]
        for before, after in pairwise(widths):
            encoder += [nn.Conv2d(before, after, 3, 2, 1), _activation()]
        encoder += [nn.Flatten(), nn.Linear(math.prod(smallest), features), _activation()]
        decoder: list[nn.Module] = [
            nn.Linear(latent, math.prod(smallest)),
            nn.Unflatten(1, smallest),
            _activation(),
        ]
        for (before, after), size in zip(pairwise(widths[::-1]), sizes[-2::-1], strict=True):
            decoder += [nn.Conv2d(before, 4 * after, 3, 1, 1), Doubled(size), _activation()]
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.Sequential(*decoder, nn.Conv2d(widths[0], self.pixel_depth, 1))


def _activation() -> nn.Module:
    return nn.LeakyReLU(_SLOPE, inplace=True)


def _gaussian(count: int) -> Tensor:
    """Blurs `count` numbers by a Gaussian of std 1; far from the ends its squares sum to 1."""
    places = torch.arange(count, dtype=torch.float32)
    # ∫ exp(−d²) dd = √π
    kernel: Tensor = (-0.5 * (places[:, None] - places).square()).exp() / math.pi**0.25
    return kernel


def _continue(frames: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column of uint8 frames (N, H, W, C)."""
    taller = torch.cat([frames, frames[:, -1:].expand(-1, rows, -1, -1)], dim=1)
    return torch.cat([taller, taller[:, :, -1:].expand(-1, -1, columns, -1)], dim=2)
