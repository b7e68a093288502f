"""Presets, kinds and sizes, and what is refused."""

from __future__ import annotations

import pytest

from latentwrap.errors import ConfigError
from latentwrap.models import KINDS
from latentwrap.training import PRESETS, make_recipe


def test_every_kind_has_a_fast_preset_and_the_first_is_meant() -> None:
    assert set(PRESETS["fast"]) == set(KINDS)
    assert make_recipe("fast", {}).kind == "rssm"
    assert make_recipe("paper", {}).kind == "slac"


@pytest.mark.parametrize("kind", KINDS)
def test_options_reach_model_and_training(kind: str) -> None:
    recipe = make_recipe("fast", {"features": 7, "window": 5}, kind=kind, latent=6)
    assert (recipe.kind, recipe.model.features, recipe.training.window) == (kind, 7, 5)
    assert recipe.model.latent_options(6).items() <= recipe.model.model_dump().items()


def test_a_recipe_survives_json() -> None:
    for preset in PRESETS:
        for kind in PRESETS[preset]:
            recipe = make_recipe(preset, {}, kind=kind)
            document = recipe.model_dump(mode="json")
            assert type(recipe.model).parse(document["model"]) == recipe.model


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"preset": "fats"}, "did you mean 'fast'"),
        ({"kind": "rsm"}, "did you mean 'rssm'"),
        ({"preset": "paper", "kind": "rssm"}, "requires the kind slac, got 'rssm'"),
        ({"overrides": {"windows": 3}}, "did you mean 'window'"),
        ({"overrides": {"z1": 3}}, "a rssm model has no option 'z1'"),
        ({"overrides": {"memory": 0}}, "invalid memory"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        make_recipe(**{"preset": "fast", "overrides": {}, **arguments})
    assert "\n" not in str(error.value)
