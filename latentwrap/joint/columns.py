"""What the model made of every row of the replay, on its device where there is room."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentwrap.devices import to_device
from latentwrap.models import map_belief
from latentwrap.types import IntArray


class BeliefColumns:
    """Features and beliefs beside rows of the replay.

    They lie where the model is if they take less than half of the memory that is free there, and
    else on the CPU. What is handed out is where the model is.

    Args:
        rows: of the replay.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._columns: tuple[Tensor, ...] = ()
        self._beliefs: Any = None
        self._device = torch.device("cpu")

    def keep(self, rows: IntArray, features: Tensor, beliefs: Any) -> None:
        """Keep features (N, F) and beliefs of N beside rows (N,); of a row named twice the last."""
        rows, latest = np.unique(rows[::-1], return_index=True)
        last = to_device(len(features) - 1 - latest, features.device)
        if self._beliefs is None:
            self._claim(features, beliefs)
        index = torch.from_numpy(rows)
        for column, values in zip(self._columns, (features, *beliefs), strict=True):
            column[to_device(index, column.device)] = values[last].to(column.device)

    def features(self, rows: IntArray) -> Tensor:
        """Of rows (...), float32 (..., F)."""
        return self._at(self._columns[0], rows)

    def beliefs(self, rows: IntArray) -> Any:
        """Of rows (N,)."""
        return map_belief(lambda column: self._at(column, rows), self._beliefs)

    def _claim(self, features: Tensor, beliefs: Any) -> None:
        self._device = features.device
        numbers = sum(values[0].numel() for values in (features, *beliefs))
        place = _roomy(self._device, 4 * self._rows * numbers)

        def column(values: Tensor) -> Tensor:
            return torch.zeros(self._rows, *values.shape[1:], device=place)

        self._beliefs = map_belief(column, beliefs)
        self._columns = (column(features), *self._beliefs)

    def _at(self, column: Tensor, rows: IntArray) -> Tensor:
        index = to_device(rows, column.device)
        return to_device(column[index], self._device)


def _roomy(device: torch.device, needed: int) -> torch.device:
    """The device, or the CPU where so many bytes would crowd it."""
    if device.type != "cuda" or needed < torch.cuda.mem_get_info(device)[0] / 2:
        return device
    return torch.device("cpu")
