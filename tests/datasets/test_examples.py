"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import latentwrap.datasets

MODULES = [module.name for module in pkgutil.iter_modules(latentwrap.datasets.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(f"latentwrap.datasets.{name}")
    assert doctest.testmod(module).failed == 0
