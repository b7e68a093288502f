"""From a latent model to ONNX graphs, whatever its kind."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentwrap.errors import LatentwrapError
from latentwrap.extras import require
from latentwrap.filtering.card import ACTION, FEATURES, FRAME, LATENT, VECTORS, next_name
from latentwrap.models import LatentModel
from latentwrap.models.pixel_networks import PixelNetworks

OPSET = 18
"""What torch's exporter writes without a conversion."""

_BATCH = {0: "n"}
_EXAMPLES = 2  # a single one would be taken for a constant


class Traced(NamedTuple):
    """A function of tensors, and what its inputs and outputs are called.

    Attributes:
        function: of the inputs, a tuple of the outputs.
        inputs: an example of each, batch-first, by name.
        outputs: their names.
    """

    function: Callable[..., tuple[Tensor, ...]]
    inputs: dict[str, Tensor]
    outputs: list[str]


class _Module(nn.Module):
    """Shows the exporter a function, and whose weights it uses."""

    def __init__(self, model: LatentModel, traced: Traced) -> None:
        super().__init__()
        self.model, self._traced = model, traced

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._traced.function(*inputs)


@torch.no_grad()
def describe_graphs(model: LatentModel) -> dict[str, Traced]:
    """The functions that a filter consists of, by the names of their graphs."""
    for part in model.modules():
        if isinstance(part, PixelNetworks):
            part.keep_batches_whole()
    seen = _example_of_seen(model)
    features = model.see(*seen.values())
    belief = model.believe_first(features)
    parts, action = belief._asdict(), torch.zeros(_EXAMPLES, model.action_spec.size)
    outputs = [*map(next_name, parts), LATENT]

    def handed(belief: Any) -> tuple[Tensor, ...]:
        return (*belief, model.latent(belief))

    def step(features: Tensor, action: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        return handed(model.believe_next(type(belief)(*before), action, features))

    def predict(action: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        return handed(model.predict(type(belief)(*before), action))

    return {
        "encoder": Traced(lambda *inputs: (model.see(*inputs),), seen, [FEATURES]),
        "first": Traced(
            lambda features: handed(model.believe_first(features)), {FEATURES: features}, outputs
        ),
        "step": Traced(step, {FEATURES: features, ACTION: action, **parts}, outputs),
        "predict": Traced(predict, {ACTION: action, **parts}, outputs),
    }


def to_onnx(model: LatentModel, traced: Traced) -> bytes:
    """One graph, checked, as the content of a file.

    Raises:
        LatentwrapError: torch cannot write it.
        MissingExtra: the exporter is not installed.
    """
    onnx = require("onnx", extra="onnx", purpose="An export to ONNX")
    try:
        with _quiet_exporter():
            program = torch.onnx.export(
                _Module(model, traced).eval(),
                tuple(traced.inputs.values()),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(traced.inputs),
                output_names=traced.outputs,
                dynamic_shapes=(tuple(_BATCH for _ in traced.inputs),),
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise LatentwrapError(
            f"torch {torch.__version__} cannot export this model ({reason}): install the versions "
            "that latentwrap is tested with, pip install -c constraints.txt 'latentwrap[onnx]'."
        ) from error
    assert program is not None  # noqa: S101 - dynamo=True always gives one
    proto = program.model_proto
    _forget_the_code(proto)
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _example_of_seen(model: LatentModel) -> dict[str, Tensor]:
    frames = torch.zeros(_EXAMPLES, *model.frame_spec.shape, dtype=torch.uint8)
    if not model.sees_vectors:
        return {FRAME: frames}
    return {FRAME: frames, VECTORS: torch.zeros(_EXAMPLES, model.vector_spec.size)}


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep from users what torch's exporter says to its developers.

    Nothing of ours warns meanwhile: what runs is the exporter, and the model on examples.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _forget_the_code(proto: Any) -> None:
    """Drop what the exporter noted of the Python code: most of it paths of this machine."""
    for place in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info):
        place.ClearField("metadata_props")
        place.ClearField("doc_string")
    for place in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        place.ClearField("metadata_props")
        place.ClearField("doc_string")
