"""The graphs of an exported model in onnxruntime: pure functions of arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentwrap.errors import CheckpointError, LatentwrapError
from latentwrap.extras import require
from latentwrap.filtering.card import (
    ACTION,
    FEATURES,
    FRAME,
    GRAPHS,
    LATENT,
    VECTORS,
    FilterCard,
    next_name,
    read_card,
    read_graph,
)
from latentwrap.types import AnyArray, FloatArray, Frames

Belief = dict[str, FloatArray]
"""The parts of the belief and the raw latent by name, each (n, ·). None is ever written to."""

_ERRORS = 3  # what onnxruntime calls the level of its log


class OnnxGraphs:
    """The graphs of a folder that `latentwrap export` wrote.

    They are opened again after a copy, an unpickling or a fork: sessions and their threads
    survive none of it.

    Args:
        folder: of the graphs.
        threads: of onnxruntime, for the encoder; the other graphs are too small for several.

    Attributes:
        card: what the model is.

    Raises:
        CheckpointError: the folder is missing, foreign, damaged, or cannot be run.
        MissingExtra: onnxruntime is not installed.
    """

    def __init__(self, folder: str | Path, *, threads: int = 1) -> None:
        if threads < 1:
            raise LatentwrapError(f"Graphs require threads of at least 1, got {threads}.")
        self._folder, self._threads = Path(folder).resolve(), threads
        self.card: FilterCard = read_card(self._folder)
        self._sizes = {**self.card.belief, LATENT: self.card.latent_size}
        self._outputs = [*map(next_name, self.card.belief), LATENT]
        self._sessions = self._open()
        self._inherited: list[Any] = []
        self._process: int | None = os.getpid()

    def see(self, frames: Frames, vectors: FloatArray | None = None) -> FloatArray:
        """Features of all that is seen at once.

        Args:
            frames: uint8 (n, H, W, C).
            vectors: standardised, float32 (n, V), where the model sees any.

        Returns:
            float32 (n, features).
        """
        feed: dict[str, AnyArray] = {FRAME: frames}
        if vectors is not None:
            feed[VECTORS] = vectors
        features: FloatArray = self._session("encoder").run([FEATURES], feed)[0]
        return features

    def first(self, features: FloatArray) -> Belief:
        """After the first frame of an episode, from its features (n, features)."""
        return self._believe("first", {FEATURES: features})

    def step(self, belief: Belief, actions: FloatArray, features: FloatArray) -> Belief:
        """After one more action, encoded (n, A), and the features of the frame that followed."""
        return self._believe("step", {FEATURES: features, ACTION: actions, **self._parts(belief)})

    def predict(self, belief: Belief, actions: FloatArray) -> Belief:
        """After one more action, encoded (n, A), without its frame."""
        return self._believe("predict", {ACTION: actions, **self._parts(belief)})

    def checked(self, belief: Mapping[str, AnyArray], num: int) -> Belief:
        """A belief of `num` streams that was saved, in arrays of its own.

        Raises:
            LatentwrapError: it is of another model or of another number of streams.
        """
        expected = {name: (num, size) for name, size in self._sizes.items()}
        found = {name: np.shape(part) for name, part in belief.items()}
        if found != expected:
            raise LatentwrapError(
                f"The belief of {num} streams of this model is arrays of shapes {expected}, got "
                f"{found}: restore one that the same model gave."
            )
        return {name: np.array(belief[name], np.float32) for name in expected}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sessions": {}, "_inherited": [], "_process": None}

    def _parts(self, belief: Belief) -> Belief:
        return {name: belief[name] for name in self.card.belief}

    def _believe(self, graph: str, feed: dict[str, FloatArray]) -> Belief:
        outputs = self._session(graph).run(self._outputs, feed)
        return dict(zip(self._sizes, outputs, strict=True))

    def _session(self, graph: str) -> Any:
        if self._process != os.getpid():
            # To close what a fork has copied would wait for threads that it has not.
            self._inherited.append(self._sessions)
            self._sessions, self._process = self._open(), os.getpid()
        return self._sessions[graph]

    def _open(self) -> dict[str, Any]:
        runtime = require("onnxruntime", extra="onnx", purpose="An exported filter")
        opened = {}
        for name in GRAPHS:
            content = read_graph(self._folder, name, self.card)
            options = runtime.SessionOptions()
            # The threads of a graph spin while they wait, in the way of the next one's.
            options.intra_op_num_threads = self._threads if name == "encoder" else 1
            options.inter_op_num_threads = 1
            options.log_severity_level = _ERRORS
            try:
                opened[name] = runtime.InferenceSession(
                    content, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # noqa: BLE001 - onnxruntime's have no base class but this
                reason = str(error).splitlines()[0].rstrip(".")
                raise CheckpointError(
                    f"onnxruntime {runtime.__version__} cannot open the graph {name!r} in "
                    f"{self._folder} ({reason}): upgrade it, or export the checkpoint anew."
                ) from None
        return opened
