"""Errors that a user can mend.

Each message is one sentence: who requires what, what came instead, how to mend it.
The command line prints it and exits with code 2; Python callers catch `LatentwrapError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LatentwrapError(ValueError):
    """Base class of every error that latentwrap raises about its input."""


class ConfigError(LatentwrapError):
    """A hyperparameter or option that does not exist or has no valid value."""


class PixelError(LatentwrapError):
    """An image that cannot be turned into a frame."""


class EnvironmentMismatch(LatentwrapError):
    """An environment that cannot be used as asked: no images, another action space."""


class EnvironmentFailed(LatentwrapError):
    """An environment that raised an error of its own while it ran."""


class DatasetError(LatentwrapError):
    """A dataset file that is missing, foreign, damaged or too small."""


class CheckpointError(LatentwrapError):
    """A checkpoint file that is missing, foreign, damaged or does not fit."""


class OutputExists(LatentwrapError):
    """A file or folder that would have been overwritten."""


class OutputFailed(LatentwrapError, OSError):
    """A file that could not be written: a full disk, no permission, an impossible name."""


class MissingExtra(LatentwrapError, ImportError):
    """An optional dependency that is not installed."""


class TrainingDiverged(LatentwrapError):
    """A loss that became NaN or infinite."""


class FailedElsewhere(LatentwrapError):
    """An error of another process that trains the same model, where it is raised as what it is."""


class ProcessLost(LatentwrapError):
    """Another process that trains the same model ended, or never came."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint for an unknown word, ending its sentence: the nearest known one, else all.

    >>> did_you_mean("fasst", ["fast", "paper"])
    "did you mean 'fast'?"
    >>> did_you_mean("huge", ["fast", "paper"])
    'known are fast, paper.'
    """
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
