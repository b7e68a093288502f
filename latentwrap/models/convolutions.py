"""Layers of the pixel networks: the published convolutions on patches, and changes of size."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FirstConv(nn.Conv2d):
    """A 5×5 convolution of stride 2 on frames, computed on their 2×2 patches.

    y[i] = Σ_k w[k] x[2i + k − 2], and the pixel 2i + k − 2 is pixel a of patch i + u − 1 where
    k = 2u + a: a 3×3 convolution of stride 1 over four times the channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 5, 2, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels in 2×2 patches (N, 4 C, H/2, W/2) to maps (N, outputs, H/2, W/2)."""
        outputs, inputs = self.weight.shape[:2]
        taps = F.pad(self.weight, (0, 1, 0, 1)).view(outputs, inputs, 3, 2, 3, 2)
        kernel = taps.permute(0, 3, 5, 1, 2, 4).reshape(outputs, 4 * inputs, 3, 3)
        return F.conv2d(pixels, kernel, self.bias, padding=1)


class LastConv(nn.ConvTranspose2d):
    """A 5×5 transposed convolution of stride 2 whose output is in 2×2 patches.

    y[2i + a] = Σ_u w[4 − 2u + a] x[i + u − 1]: a 3×3 convolution with four times the outputs.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 5, 2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Maps (N, inputs, H/2, W/2) to pixels in 2×2 patches (N, 4 C, H/2, W/2)."""
        inputs, outputs = self.weight.shape[:2]
        taps = F.pad(self.weight, (0, 1, 0, 1)).view(inputs, outputs, 3, 2, 3, 2)
        kernel = taps.flip(2, 4).permute(3, 5, 1, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)
        bias = None if self.bias is None else self.bias.repeat(4)
        return F.conv2d(x, kernel, bias, padding=1)


class ToVector(nn.Conv2d):
    """A convolution as large as its input: one product of matrices."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int]) -> None:
        super().__init__(inputs, outputs, size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) to vectors (N, outputs)."""
        return F.linear(x.permute(0, 2, 3, 1).flatten(1), _rows(self.weight), self.bias)


class FromVector(nn.ConvTranspose2d):
    """A transposed convolution of a single place: one product of matrices."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int]) -> None:
        super().__init__(inputs, outputs, size)

    def forward(self, z: Tensor) -> Tensor:  # type: ignore[override]
        """Vectors (N, inputs) to maps (N, outputs, H, W)."""
        height, width = self.weight.shape[2:]
        maps = F.linear(z, _rows(self.weight).T).view(len(z), height, width, -1)
        if self.bias is not None:
            maps = maps + self.bias
        return maps.permute(0, 3, 1, 2)


class Doubled(nn.PixelShuffle):
    """Four channels become one of twice the size, less the row or column that an odd one adds."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(2)
        self._height, self._width = size

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Maps (N, 4 C, H, W) to maps (N, C, 2 H, 2 W), or a row or column less."""
        return super().forward(input)[:, :, : self._height, : self._width]


def doubling(
    inputs: int, outputs: int, before: tuple[int, int], after: tuple[int, int]
) -> nn.ConvTranspose2d:
    """The mirror of a 3×3 convolution of stride 2 that made `before` out of `after`."""
    extra = (after[0] - 2 * before[0] + 1, after[1] - 2 * before[1] + 1)
    return nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, extra)


def halved(size: tuple[int, int]) -> tuple[int, int]:
    """What a convolution of stride 2 makes of a size."""
    return -(-size[0] // 2), -(-size[1] // 2)


def _rows(weight: Tensor) -> Tensor:
    """(I, O, H, W) to (I, H W O), a view where the memory has channels last."""
    return weight.permute(0, 2, 3, 1).flatten(1)
