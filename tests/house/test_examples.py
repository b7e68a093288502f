"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import latentwrap

# Their library has an environment of its own, where their examples run: integrations/torchrl.
ELSEWHERE = {"latentwrap.integrations.torchrl", "latentwrap.integrations.torchrl_spaces"}


def modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(latentwrap.__path__, "latentwrap."):
        if not found.name.endswith("__main__") and found.name not in ELSEWHERE:
            yield found.name


@pytest.mark.parametrize("name", sorted(modules()))
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"latentwrap": latentwrap}).failed == 0
