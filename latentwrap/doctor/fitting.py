"""What needs an environment or a checkpoint beside a picture: fit, autoreset, memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentwrap.doctor.findings import Finding, Status, gibibytes
from latentwrap.doctor.isolated import Answer

TRANSITIONS = 1_000_000
STACK = 3
"""Frames that a policy on pixels sees at once."""
_FLOAT_BYTES = 4
_OBSERVATIONS = 2
"""Of a stored transition: the one before it and the one after it."""
DEFAULT_LATENT = 160
"""Dimensions of the default preset's latents."""
_NEXT_STEP = "NEXT_STEP"


@dataclass(frozen=True)
class ReplaySize:
    """Bytes of a replay's observations; the formula is in the properties.

    Attributes:
        shapes: of the environment's images, (H, W, C) each.
        latent_size: dimensions of a latent.
        transitions: how many are held.

    Example:
        >>> size = ReplaySize([(64, 64, 3)], 160)
        >>> size.pixels, size.latents
        (73728000000, 1280000000)
    """

    shapes: Sequence[Sequence[int]]
    latent_size: int
    transitions: int = TRANSITIONS

    @property
    def pixels(self) -> int:
        """Three stacked uint8 frames before and after each transition, as in SB3's buffer."""
        image = sum(math.prod(shape) for shape in self.shapes)
        return image * STACK * _OBSERVATIONS * self.transitions

    @property
    def latents(self) -> int:
        """A float32 latent before and after each transition."""
        return self.latent_size * _FLOAT_BYTES * _OBSERVATIONS * self.transitions


def check_replay(size: ReplaySize, memory: int | None) -> Finding:
    """Memory of a replay in pixels against latents.

    Args:
        size: of both.
        memory: of this machine in bytes; `None` if unknown.
    """
    shapes = " + ".join("×".join(map(str, shape)) for shape in size.shapes)
    shapes = f"({shapes})" if len(size.shapes) > 1 else shapes
    formula = f"{shapes} × {STACK} stacked × {_OBSERVATIONS}"
    said = (
        f"{size.transitions:,} transitions take {gibibytes(size.pixels)} in pixels ({formula}), "
        f"{gibibytes(size.latents)} in latents ({size.latent_size} × "
        f"{_FLOAT_BYTES} bytes × {_OBSERVATIONS})"
    )
    if memory is not None and size.latents > memory / 2:
        fits = max(1, int(size.transitions * memory / 2 / size.latents))
        said += f", more than half of the {gibibytes(memory)} here"
        mend = f"latentwrap train … --set buffer_size={fits}"
        return Finding("replay", Status.WARNING, said, mend=mend)
    here = "" if memory is None else f"; {gibibytes(memory)} here"
    return Finding("replay", Status.OK, f"{said}{here}")


def check_autoreset(answer: Answer) -> Finding:
    """When the vector form of the environment resets, and what this Gymnasium offers.

    Args:
        answer: of the task `vector`.
    """
    facts = answer.facts
    offered = facts.get("offered") or [_NEXT_STEP]
    has = f"Gymnasium {facts.get('gymnasium', '')} has {', '.join(offered)}"
    if answer.trouble:
        said = f"gymnasium.make_vec fails: {answer.trouble}; {has}"
        mend = "gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(...)] * n)"
        return Finding("autoreset", Status.WARNING, said, mend=mend)
    if facts["mode"] is None and facts["offered"]:
        said = f"its {facts['kind']} names no mode and is taken for {_NEXT_STEP}; {has}"
        mend = "set metadata['autoreset_mode'] in the vector environment"
        return Finding("autoreset", Status.WARNING, said, mend=mend)
    mode = facts["mode"] or _NEXT_STEP
    return Finding("autoreset", Status.OK, f"{mode} of its {facts['kind']}; {has}")


def check_fit(answer: Answer | None, *, with_environment: bool, env_id: str) -> Finding:
    """Whether a checkpoint loads and fits the environment, and how fast it filters.

    Args:
        answer: of the task `fit`; `None` if no checkpoint was named.
        with_environment: whether there was an environment to fit it to.
        env_id: the environment's id.
    """
    if answer is None:
        return Finding("checkpoint", Status.SKIPPED, "none was named: --ckpt model.safetensors")
    facts = answer.facts
    stage = facts.get("stage")
    if answer.trouble and stage == "load":
        mend = "name a file that latentwrap pretrain wrote"
        return Finding("checkpoint", Status.ERROR, answer.trouble, mend=mend)
    if answer.trouble:
        mend = f"pretrain one for it: latentwrap collect {env_id} -o data.h5"
        return Finding("checkpoint", Status.ERROR, answer.trouble, mend=mend)
    size = "×".join(map(str, facts["frame"]))
    said = f"{facts['kind']} with {facts['size']} latent dimensions from frames of {size}"
    if not with_environment:
        return Finding("checkpoint", Status.WARNING, f"{said}; no environment to fit it to")
    if not facts["finite"]:
        mend = "pretrain it again: its weights or statistics are not sound"
        return Finding("checkpoint", Status.ERROR, f"{said} gives NaN or infinity", mend=mend)
    milliseconds = 1000 * facts["seconds"]
    said = f"{said} fits {env_id}; {milliseconds:.1f} ms a step to filter on {facts['device']}"
    return Finding("checkpoint", Status.OK, said)
