"""Array types that everything shares. Shapes stand in the docstrings of those who use them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Frame: TypeAlias = NDArray[np.uint8]
"""One image, uint8 (H, W, C)."""

Frames: TypeAlias = NDArray[np.uint8]
"""Several images, uint8 (..., H, W, C)."""

FloatArray: TypeAlias = NDArray[np.float32]
"""float32 of any shape."""

BoolArray: TypeAlias = NDArray[np.bool_]
"""bool of any shape."""

IntArray: TypeAlias = NDArray[np.int64]
"""int64 of any shape."""

AnyArray: TypeAlias = NDArray[Any]
"""An array whose dtype depends on where it comes from (actions: float32 or int64)."""
