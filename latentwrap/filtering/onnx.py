"""The filter on numpy and onnxruntime, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from latentwrap.actions import ActionSpec
from latentwrap.filtering.advancing import advance_streams
from latentwrap.filtering.card import LATENT, FilterCard
from latentwrap.filtering.graphs import Belief, OnnxGraphs
from latentwrap.filtering.streaming import StreamFilter
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames, IntArray


class _Inputs(NamedTuple):
    """What the graphs get for each stream, as `StreamInputs` of `latentwrap.wrappers`.

    Attributes:
        frames: uint8 (n, H, W, C).
        actions: encoded, float32 (n, A).
        vectors: standardised, float32 (n, V), or `None` where the model sees none.
    """

    frames: Frames
    actions: FloatArray
    vectors: FloatArray | None

    def select(self, rows: IntArray) -> _Inputs:
        """Those of some streams."""
        vectors = None if self.vectors is None else self.vectors[rows]
        return _Inputs(self.frames[rows], self.actions[rows], vectors)


class OnnxFilter(StreamFilter):
    """Turns frames and actions into filtered latents as `LatentFilter` does, without torch.

    It runs what `latentwrap export model.safetensors --onnx` wrote. Frames, actions, vectors and
    dropped frames are as of `LatentFilter`; latents are the means of the belief, not samples.

    Args:
        folder: that `latentwrap export` wrote.
        num: independent streams, each with its own belief.
        normalize: standardise with the pretraining statistics and clip to ±10.
        stretch: accept images of another aspect ratio than the pretraining data's.
        threads: of onnxruntime; one is fastest for small models and few streams.

    Attributes:
        card: what the model is: its frames, actions, vectors and statistics.
        frames: what the model saw last of each stream, uint8 (num, H, W, C).

    Raises:
        CheckpointError: the folder is missing, foreign or damaged.
        MissingExtra: onnxruntime is not installed.

    Example:
        >>> latents = OnnxFilter("arm.onnx")  # doctest: +SKIP
        >>> z = latents.reset(camera.read())  # doctest: +SKIP
        >>> while True:  # doctest: +SKIP
        ...     action = policy(z)
        ...     robot.send(action)
        ...     z = latents.step(action, camera.read())
    """

    def __init__(
        self,
        folder: str | Path,
        num: int = 1,
        *,
        normalize: bool = True,
        stretch: bool = False,
        threads: int = 1,
    ) -> None:
        self._graphs = OnnxGraphs(folder, threads=threads)
        super().__init__(num, self.card.frame_spec, normalize=normalize, stretch=stretch)

    @property
    def card(self) -> FilterCard:
        """What the model is."""
        return self._graphs.card

    @property
    def latent_size(self) -> int:
        """Dimensions d of a latent."""
        return self.card.latent_size

    @property
    def belief(self) -> Belief | None:
        """The belief of all streams, to save and restore; `None` before the first reset.

        Float32 arrays (num, ·) by name: the parts of the belief and the raw `latent`.
        """
        belief: Belief | None = self._belief
        return belief

    @belief.setter
    def belief(self, belief: Mapping[str, AnyArray] | None) -> None:
        self._belief = None if belief is None else self._graphs.checked(belief, self.num)

    def advance(
        self,
        action: Any,
        frame: Any,
        vectors: AnyArray | None,
        *,
        begun: BoolArray,
        stepped: BoolArray,
    ) -> FloatArray:
        """Begin some streams and step some; those in neither mask stay as they are."""
        frames, seen, single = self.fitter.fit(frame)
        self._check_begun(begun, seen)
        actions = self._encoded([action] if single else action, stepped)
        inputs = _Inputs(frames, actions, self._vectors(vectors))
        steps = (begun, self._first), (stepped & seen, self._step), (stepped & ~seen, self._predict)
        self._belief = advance_streams(self._belief, inputs, *steps, select=_select, put=_put)
        self._keep(frames, (begun | stepped) & seen)
        latents = self._hand_out(self._belief)
        return latents[0] if single else latents

    @property
    def _action_spec(self) -> ActionSpec:
        return self.card.action_spec

    def _foresight(self) -> Callable[[Belief, FloatArray], Belief]:
        return self._graphs.predict

    def _first(self, before: Belief, inputs: _Inputs) -> Belief:  # noqa: ARG002
        graphs = self._graphs
        return graphs.first(graphs.see(inputs.frames, inputs.vectors))

    def _step(self, before: Belief, inputs: _Inputs) -> Belief:
        graphs = self._graphs
        features = graphs.see(inputs.frames, inputs.vectors)
        return graphs.step(before, inputs.actions, features)

    def _predict(self, before: Belief, inputs: _Inputs) -> Belief:
        return self._graphs.predict(before, inputs.actions)

    def _vectors(self, vectors: AnyArray | None) -> FloatArray | None:
        """Standardised vectors (num, V), where the model sees any."""
        card = self.card
        if not card.sees_vectors or card.vector_normalizer is None:
            return None
        raw = self._checked_vectors(card.vector_spec, vectors)
        return card.vector_normalizer.normalize(raw)

    def _hand_out(self, belief: Belief) -> FloatArray:
        raw = belief[LATENT]
        # The belief may be saved and restored, so what is handed out is no part of it.
        return self.card.normalizer.normalize(raw) if self.normalize else raw.copy()


def _select(belief: Belief, rows: IntArray) -> Belief:
    return {name: part[rows] for name, part in belief.items()}


def _put(belief: Belief, rows: IntArray, some: Belief) -> Belief:
    whole = {name: part.copy() for name, part in belief.items()}
    for name, part in some.items():
        whole[name][rows] = part
    return whole
