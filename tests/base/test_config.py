"""Configurations refuse what they do not know, and name the nearest known."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from latentwrap.config import Config, load_yaml
from latentwrap.errors import ConfigError, did_you_mean


class Oven(Config):
    temperature: float = Field(180.0, gt=0)
    minutes: int = 30


def test_values_are_taken_and_defaults_kept() -> None:
    oven = Oven.parse({"temperature": 200})
    assert (oven.temperature, oven.minutes) == (200.0, 30)


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'temprature': did you mean 'temperature'"):
        Oven.parse({"temprature": 200})


@pytest.mark.parametrize("value", [0, -1, "hot", float("nan"), float("inf")])
def test_invalid_values_are_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(ConfigError, match="Oven got an invalid temperature") as caught:
        Oven.parse({"temperature": value})
    assert "\n" not in str(caught.value)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Oven().minutes = 3  # type: ignore[misc]


def test_replace_validates() -> None:
    assert Oven().replace(minutes=5).minutes == 5
    with pytest.raises(ConfigError):
        Oven().replace(temperature=-5)


def test_yaml_is_read_safely(tmp_path: Path) -> None:
    path = tmp_path / "oven.yaml"
    path.write_text("temperature: 210\nminutes: 4\n", encoding="utf-8")
    assert load_yaml(path) == {"temperature": 210, "minutes": 4}


@pytest.mark.parametrize(
    "text", ["- a list\n", "{unclosed", "!!python/object/apply:os.system ['true']"]
)
def test_other_yaml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_yaml(path)


def test_missing_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_yaml(tmp_path / "none.yaml")


def test_hint_without_a_near_word_lists_all() -> None:
    assert did_you_mean("xyz", ["paper", "fast"]) == "known are fast, paper."
