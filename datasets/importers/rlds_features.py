"""What a stranger's `features.json` may name: TensorFlow Datasets imports whatever it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latentwrap.datasets.importers.meta_files import read_json
from latentwrap.errors import DatasetError

FEATURES = "features.json"

_KNOWN = re.compile(r"tensorflow_datasets\.core\.features\.(?!.*_test\b)[A-Za-z0-9_.]+")
"""Classes that TensorFlow Datasets itself writes."""

_CLASS_KEYS = re.compile(r"type|.*(class|module|cls)_?(name)?|.*(classname|modulename).*")
"""Keys, in small letters, whose words name a class: `type` in the old form of the file,
`pythonClassName` or `python_class_name` in the new one, and whatever might be added."""

_PROTO = re.compile(r"tensorflow_datasets\.[A-Za-z]+")
"""What the old form says under `proto_cls`; it is looked up and never imported."""


def read_features(folder: Path) -> dict[str, Any]:
    """The features of a folder, all of which TensorFlow Datasets has itself.

    Raises:
        DatasetError: the file is damaged, or names a class of another package.
    """
    document = read_json(folder / FEATURES)
    for name in _classes(document):
        if not _KNOWN.fullmatch(name):
            raise DatasetError(
                f"{folder / FEATURES} names the feature {name!r}, but import requires features of "
                "tensorflow_datasets itself: convert the dataset."
            )
    return document


def _classes(document: Any) -> Iterator[str]:
    """All that is named as a class, also in JSON that lies as text inside JSON."""
    waiting: list[Any] = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            waiting += _inside(part)
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            yield from _named(part)
            waiting += part.values()


def _named(part: Mapping[str, Any]) -> Iterator[str]:
    for key, value in part.items():
        # A feature may well be called `type`, but what it is stands inside a mapping.
        if not isinstance(value, str) or not _CLASS_KEYS.fullmatch(key.lower()):
            continue
        if not (key == "proto_cls" and _PROTO.fullmatch(value)):
            yield value


def _inside(text: str) -> list[Any]:
    """Content that is written as text, which TensorFlow Datasets reads as JSON once more."""
    if not text.lstrip().startswith(("{", "[")):
        return []
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError):
        return []
