"""Decoding single images that lie as PNG or JPEG bytes in a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from latentwrap.errors import DatasetError
from latentwrap.types import Frame

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_image(data: Any, height: int, width: int, path: Path) -> Frame:
    """The image in some bytes, whose size is known: what says otherwise is never unpacked.

    Args:
        data: of a PNG or JPEG file.
        height, width: as the source says elsewhere.
        path: where it lies, for messages.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        DatasetError: damaged, of another format or of another size.
    """
    found = size_of(data) if isinstance(data, bytes) else None
    if found != (height, width):
        said = "no PNG or JPEG" if found is None else f"one of {found[1]}×{found[0]} pixels"
        raise DatasetError(
            f"{path} requires images of {width}×{height} pixels, got {said}: get it anew."
        )
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape != (height, width, 3):
        raise DatasetError(f"{path} holds a damaged image: get it anew.")
    return np.ascontiguousarray(image[:, :, ::-1])


def size_of(data: bytes) -> tuple[int, int] | None:
    """Height and width in the header of a PNG or JPEG file; `None` where there is none."""
    if data.startswith(_PNG) and len(data) >= 24:
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    return _jpeg_size(data) if data.startswith(_JPEG) else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Go from segment to segment until one tells the size."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _SIZE_MARKERS:
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(
                data[at + 7 : at + 9], "big"
            )
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
