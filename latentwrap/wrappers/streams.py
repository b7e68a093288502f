"""Beliefs and inputs of independent streams, as tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from latentwrap.devices import to_device
from latentwrap.models import map_belief
from latentwrap.types import IntArray


class StreamInputs(NamedTuple):
    """What the model gets for each stream.

    Attributes:
        frames: uint8 (num, H, W, C).
        actions: encoded, float32 (num, A).
        noise: standard normal (num, k), or `None` for means.
        vectors: standardised, float32 (num, V), or `None` where the model sees none.
    """

    frames: Tensor
    actions: Tensor
    noise: Tensor | None
    vectors: Tensor | None

    def select(self, rows: IntArray) -> StreamInputs:
        """The inputs of some streams."""
        chosen = _on(self.frames, rows)
        return StreamInputs(
            frames=self.frames[chosen],
            actions=self.actions[chosen],
            noise=None if self.noise is None else self.noise[chosen],
            vectors=None if self.vectors is None else self.vectors[chosen],
        )

    @property
    def seen(self) -> dict[str, Tensor]:
        """Arguments that only a model which sees vectors takes."""
        return {} if self.vectors is None else {"vectors": self.vectors}


def select_streams(belief: Any, rows: IntArray) -> Any:
    """The belief of some streams."""
    chosen = _on(belief[0], rows)
    return map_belief(lambda tensor: tensor[chosen], belief)


def put_streams(belief: Any, rows: IntArray, some: Any) -> Any:
    """A new belief, with that of some streams in place of theirs."""
    chosen = _on(belief[0], rows)
    return map_belief(lambda whole, part: whole.index_copy(0, chosen, part), belief, some)


def _on(tensor: Tensor, rows: IntArray) -> Tensor:
    """Indices where the tensor is."""
    return to_device(rows, tensor.device)
