"""The verdict in words: pure functions from numbers to sentences, each with its rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from latentwrap.evaluation.drift import DriftResult
from latentwrap.evaluation.information import ACTIVE, InformationResult
from latentwrap.evaluation.openloop import OpenLoopResult

SEEN_GOOD = 6.0
"""Decibels by which the reconstruction of what moves must beat the mean frame to be good."""

SEEN_POOR = 3.0
"""Below this many decibels the moving object counts as missed."""

FORESEEN = 0.5
"""Decibels by which a prediction must beat both baselines to count."""

FORESEEN_GOOD = 0.8
"""Share of the horizon over which it must do so to be good."""

KNOWN_GOOD, KNOWN_POOR = 0.9, 0.5
"""R² of the better probe from which on a state is known, below which it is not."""

PLAIN = 0.1
"""R² that the MLP may gain over the linear probe before a state counts as entangled."""

REMEMBERED = 0.05
"""R² that the filter must gain over, or may lose against, a rival that has no filter."""

DRIFT_FAIR, DRIFT_POOR = 0.05, 0.2
"""R² that may be lost from the first to the last third of long episodes."""

COLLAPSED = 0.5
"""Nats a step in all below which the posterior has collapsed."""

FEW_ACTIVE = 0.2
"""Share of dimensions that should carry information."""

OVERFIT = 1.0
"""Decibels by which prediction may be better on training episodes than on held-out ones."""


DATA = "amount of data"
"""The topic that asks for more data, not for more training."""


class Level(str, Enum):
    """How good something is."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"


@dataclass(frozen=True)
class Finding:
    """One thing that the report found out.

    Attributes:
        topic: what it is about.
        level: how good it is.
        sentence: what was found, with its numbers.
        advice: what to try; empty where nothing is amiss.
        rule: how the level follows from the numbers.
    """

    topic: str
    level: Level
    sentence: str
    advice: str
    rule: str


@dataclass(frozen=True)
class Verdict:
    """All findings and their summary.

    Attributes:
        level: the worst of the findings.
        headline: one sentence.
        findings: in the order of the page.
    """

    level: Level
    headline: str
    findings: tuple[Finding, ...]


def sum_up(findings: Sequence[Finding | None]) -> Verdict:
    """The verdict over all findings that could be made.

    >>> sum_up([None]).headline
    'Nothing could be judged: the episodes are too few or too short.'
    """
    made = tuple(finding for finding in findings if finding is not None)
    by_level = {level: [f.topic for f in made if f.level is level] for level in Level}
    if not made:
        level, words = Level.FAIR, "Nothing could be judged: the episodes are too few or too short"
    elif by_level[Level.POOR]:
        level, words = Level.POOR, f"Look at {_listed(by_level[Level.POOR])} before you rely on it"
    elif by_level[Level.FAIR]:
        level, words = Level.FAIR, f"Usable; {_listed(by_level[Level.FAIR])} could be better"
    else:
        level, words = Level.GOOD, "Good: nothing stands out"
    return Verdict(level, f"{words}.", made)


def judge_moving_object(result: OpenLoopResult) -> Finding | None:
    """Whether what moves is in the reconstruction; `None` if nothing moves."""
    model, mean = result.moving["model"][0], result.moving["mean"][0]
    gain = model - mean
    if math.isnan(gain):
        return None
    level = _level(gain, good=SEEN_GOOD, poor=SEEN_POOR)
    words = {
        Level.GOOD: "What moves is seen",
        Level.FAIR: "What moves is seen, but blurred",
        Level.POOR: "A moving object is missed",
    }[level]
    return _finding(
        topic="moving objects",
        level=level,
        sentence=f"{words}: its reconstruction is {gain:.1f} dB better than the mean frame.",
        advice="Train for longer, give the pixels more weight (--set image_weight=3), or collect "
        "larger frames (--size) if the object is only a few pixels wide.",
        rule=f"Reconstruction minus mean frame in the moving region: good from {SEEN_GOOD:g} dB, "
        f"poor below {SEEN_POOR:g} dB.",
    )


def judge_prediction(result: OpenLoopResult) -> Finding | None:
    """How many steps ahead prediction beats both baselines; `None` if nothing moves."""
    steps = steps_foreseen(result)
    if math.isnan(result.moving["model"][-1]):
        return None
    share = steps / result.horizon
    level = Level.FAIR if steps else Level.POOR
    level = Level.GOOD if share >= FORESEEN_GOOD else level
    return _finding(
        topic="prediction",
        level=level,
        sentence=f"Without seeing frames, the model beats both the last frame and the mean frame "
        f"for {steps} of {result.horizon} steps.",
        advice="Train for longer or on longer windows (--window); if only planning needs "
        "prediction and the states below are known, it may be left as it is.",
        rule=f"Steps in a row, from the first, at which the PSNR in the moving region is "
        f"{FORESEEN:g} dB above both: good from {FORESEEN_GOOD:.0%} of the horizon, poor if "
        "not even the first.",
    )


def steps_foreseen(result: OpenLoopResult) -> int:
    """Steps in a row, from the first, that the model predicts better than both baselines."""
    count = 0
    for model, copy, mean in zip(*(result.moving[n][1:] for n in result.moving), strict=True):
        if not model >= max(copy, mean) + FORESEEN:
            break
        count += 1
    return count


def judge_states(linear: Mapping[str, float], mlp: Mapping[str, float]) -> Finding | None:
    """Whether every state is in the latents; `None` if none could be probed.

    Args:
        linear, mlp: R² of probes of the latents by state dimension.
    """
    best = _known({name: max(score, linear[name]) for name, score in mlp.items()})
    if not best:
        return None
    level = _level(min(best.values()), good=KNOWN_GOOD, poor=KNOWN_POOR)
    weak = {name: score for name, score in best.items() if score < KNOWN_GOOD}
    words = (
        f"Weak in the latents (R²): {_scores(weak)}" if weak else "Every state is in the latents"
    )
    return _finding(
        topic="states",
        level=level,
        sentence=f"{words}; the lowest R² of {len(best)} is {min(best.values()):.3f}.",
        advice="If the state is the position of something small, see moving objects; otherwise "
        "collect more data, above all where that state varies, and train for longer.",
        rule=f"R² of the better of linear and MLP probe, lowest of all states: good from "
        f"{KNOWN_GOOD:g}, poor below {KNOWN_POOR:g}.",
    )


def judge_memory(
    latent: Mapping[str, float], single: Mapping[str, float], stack: Mapping[str, float]
) -> Finding | None:
    """Whether the filter adds what one frame hides; `None` if one frame hides nothing.

    Args:
        latent, single, stack: R² of MLP probes of the latents, of single-frame latents and of
            the principal components of stacked frames.
    """
    hidden = [n for n, score in _known(single).items() if score < KNOWN_GOOD]
    hidden = [n for n in hidden if math.isfinite(latent[n]) and math.isfinite(stack[n])]
    if not hidden:
        return None
    unused = [n for n in hidden if latent[n] < single[n] + REMEMBERED]
    behind = [n for n in hidden if latent[n] < stack[n] - REMEMBERED]
    level = Level.POOR if unused else Level.FAIR if behind else Level.GOOD
    shown = {n: latent[n] for n in unused or behind or hidden}
    words = {
        Level.GOOD: "The filter remembers what one frame does not show",
        Level.FAIR: f"A stack of frames ({_scores({n: stack[n] for n in behind})}) tells more "
        "than the filter",
        Level.POOR: "The filter adds nothing to single frames",
    }[level]
    return _finding(
        topic="memory",
        level=level,
        sentence=f"{words}: R² {_scores(shown)} from latents, "
        f"{_scores({n: single[n] for n in shown})} from single frames.",
        advice="Use longer windows (--window), train for longer, and see that the actions in "
        "the dataset are those that were really taken.",
        rule=f"Over states that one frame shows with R² < {KNOWN_GOOD:g}, MLP probes: poor where "
        f"latents gain less than {REMEMBERED:g} over single frames, fair where they lose more "
        f"than {REMEMBERED:g} against stacked frames.",
    )


def judge_plainness(linear: Mapping[str, float], mlp: Mapping[str, float]) -> Finding | None:
    """Whether a line reads the states as well as an MLP; `None` if none could be probed."""
    gaps = _known({name: mlp[name] - score for name, score in linear.items()})
    if not gaps:
        return None
    name = max(gaps, key=lambda each: gaps[each])
    level = Level.FAIR if gaps[name] > PLAIN else Level.GOOD
    return _finding(
        topic="plainness",
        level=level,
        sentence=f"An MLP reads {name} better than a linear probe by {gaps[name]:.3f} R², more "
        "than any other state.",
        advice="An agent with an MLP copes with this; a linear controller may do better on "
        "another kind of model (--kind).",
        rule=f"R² of the MLP minus R² of the linear probe, largest of all states: fair above "
        f"{PLAIN:g}.",
    )


def judge_drift(result: DriftResult | None) -> Finding | None:
    """Whether beliefs stay right in long episodes; `None` if there are none."""
    drops = {} if result is None else _known(result.drop)
    if result is None or not drops:
        return None
    name = max(drops, key=lambda each: drops[each])
    level = _level(-drops[name], good=-DRIFT_FAIR, poor=-DRIFT_POOR)
    words = "Beliefs stay right" if level is Level.GOOD else "Beliefs drift away"
    return _finding(
        topic="drift",
        level=level,
        sentence=f"{words} over {result.edges[-1]} frames: the largest loss of R² from the first "
        f"to the last third of the steps is {max(drops[name], 0):.3f} ({name}).",
        advice="Use longer windows (--window), or collect episodes that are as long as those "
        "that the agent will live through.",
        rule=f"Fall of R² from the first to the last third of the steps after the warm-up: fair "
        f"above {DRIFT_FAIR:g}, poor above {DRIFT_POOR:g}.",
    )


def judge_information(result: InformationResult) -> Finding | None:
    """Whether the posterior has collapsed; `None` for kinds without a KL."""
    if not result.kl:
        return None
    share = result.active / len(result.kl)
    level = Level.FAIR if share < FEW_ACTIVE else Level.GOOD
    level = Level.POOR if result.total < COLLAPSED else level
    words = {
        Level.GOOD: "Frames inform the latents",
        Level.FAIR: "Few latent dimensions are used",
        Level.POOR: "The posterior has collapsed onto the prior",
    }[level]
    return _finding(
        topic="information",
        level=level,
        sentence=f"{words}: {result.total:.2f} nats a step in {result.active} of "
        f"{len(result.kl)} stochastic dimensions.",
        advice="Lower the weight of the KL (--set kl_weight=0.1); few used dimensions alone only "
        "cost time.",
        rule=f"KL a step: poor below {COLLAPSED:g} nats in all, fair if less than "
        f"{FEW_ACTIVE:.0%} of the dimensions have more than {ACTIVE:g} nats.",
    )


def judge_data(heldout: OpenLoopResult, trained: OpenLoopResult | None) -> Finding | None:
    """Whether more data would help; `None` where no training episodes are known."""
    if trained is None or heldout.horizon != trained.horizon:
        return None
    gap = _mean(trained.moving["model"]) - _mean(heldout.moving["model"])
    if math.isnan(gap):
        return None
    level = Level.FAIR if gap > OVERFIT else Level.GOOD
    words = "New episodes are" if level is Level.FAIR else "New episodes are hardly"
    return _finding(
        topic=DATA,
        level=level,
        sentence=f"{words} harder than those of training: prediction is {abs(gap):.2f} dB "
        f"{'worse' if gap > 0 else 'better'} on them.",
        advice="Collect more data (collect --steps), or train for fewer updates.",
        rule=f"Mean PSNR of the moving region over the horizon, training minus held-out "
        f"episodes: fair above {OVERFIT:g} dB.",
    )


def _finding(topic: str, level: Level, sentence: str, advice: str, rule: str) -> Finding:
    """A finding, with advice only where there is something to mend."""
    return Finding(topic, level, sentence, "" if level is Level.GOOD else advice, rule)


def _level(value: float, *, good: float, poor: float) -> Level:
    if value >= good:
        return Level.GOOD
    return Level.POOR if value < poor else Level.FAIR


def _known(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if math.isfinite(score)}


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {score:.3f}" for name, score in scores.items()).replace("-", "−")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _listed(topics: Sequence[str]) -> str:
    if len(topics) == 1:
        return topics[0]
    return f"{', '.join(topics[:-1])} and {topics[-1]}"
