"""Which episodes a report measures on: such that the model has not seen, wherever there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentwrap.datasets import Dataset
from latentwrap.models import LatentModel
from latentwrap.types import IntArray


@dataclass(frozen=True)
class ReportSplit:
    """Episodes by what they are used for.

    Attributes:
        fit: those that probes are fitted on, ascending, int64; may be empty.
        test: those that everything is measured on, ascending, int64; never empty.
        trained_on: whether the model was trained on the episodes in `fit`.
        unseen: whether the model was not trained on those in `test`.
        note: the same in a sentence.
    """

    fit: IntArray
    test: IntArray
    trained_on: bool
    unseen: bool
    note: str


def split_for_report(
    model: LatentModel, dataset: Dataset, generator: np.random.Generator
) -> ReportSplit:
    """Held-out episodes of the model's own data, or one half of any other.

    A dataset is the model's own if its fingerprint is in the checkpoint. If nothing was held
    out, or an agent learned from all of it while the model went on learning, halves of what it was
    trained on have to do, and the note says so.

    Args:
        model: the record of its training is read from its checkpoint.
        dataset: with one episode or more; of a single one nothing is left to fit probes on.
        generator: draws the halves.
    """
    record = {} if model.checkpoint is None else model.checkpoint.document.get("training", {})
    fingerprint, everything = dataset.fingerprint(), np.arange(dataset.num_episodes)
    if fingerprint in record.get("also_trained_on", []):
        return _halves(everything, generator, seen=True)
    own = record.get("dataset") == fingerprint
    if not own:
        return _halves(everything, generator, seen=False)
    heldout = np.intersect1d(everything, np.array(record.get("heldout_episodes", []), np.int64))
    fit = np.setdiff1d(everything, heldout)
    if not len(heldout) or not len(fit):
        return _halves(everything, generator, seen=True)
    held = "1 episode that was" if len(heldout) == 1 else f"{len(heldout)} episodes that were"
    note = (
        f"This is the data that the model was trained on: everything is measured on the {held} "
        f"held out, and probes are fitted on the rest, {len(fit)}."
    )
    return ReportSplit(fit, heldout, trained_on=True, unseen=True, note=note)


def _halves(everything: IntArray, generator: np.random.Generator, *, seen: bool) -> ReportSplit:
    shuffled = generator.permutation(everything)
    half = len(everything) // 2
    fit, test = np.sort(shuffled[:half]), np.sort(shuffled[half:])
    where = (
        "The model was trained on all of these episodes, none was held out: the numbers are "
        "better than on new ones"
        if seen
        else "This is not the file that the model was trained on"
    )
    use = (
        f"everything is measured on {len(test)} of the {len(everything)} episodes, and probes are "
        "fitted on the rest"
        if half
        else "everything is measured on its single episode, and no probe can be fitted"
    )
    return ReportSplit(fit, test, trained_on=False, unseen=not seen, note=f"{where}; {use}.")
