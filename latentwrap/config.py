"""The base of every configuration: frozen, validated, and strict about unknown keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from latentwrap.errors import ConfigError, did_you_mean

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """A frozen set of hyperparameters of one component.

    The same class is filled from Python arguments, command-line options, a YAML file and
    the metadata of a checkpoint, so that a value is checked in one place only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls: type[C], values: Mapping[str, Any]) -> C:
        """Build the configuration from a mapping.

        Raises:
            ConfigError: an unknown key (the nearest known one is named) or an invalid value.
        """
        for key in values:
            if key not in cls.model_fields:
                hint = did_you_mean(str(key), cls.model_fields)
                raise ConfigError(f"{cls.__name__} has no option {key!r}: {hint}")
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(_first_problem(cls.__name__, error)) from None

    def replace(self: C, **changes: Any) -> C:
        """A validated copy with some values changed."""
        return self.parse({**self.model_dump(), **changes})


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of options; one flat mapping of option names to values.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"The configuration {path} cannot be read as YAML: {reason}.") from None
    if not isinstance(document, dict):
        raise ConfigError(
            f"The configuration {path} must be a mapping of option names to values, "
            f"got {type(document).__name__}."
        )
    return {str(name): value for name, value in document.items()}


def _first_problem(name: str, error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]) or "value"
    return f"{name} got an invalid {where}: {problem['msg']}, got {problem['input']!r}."
