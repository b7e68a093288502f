"""Presets, kinds and sizes, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from latentwrap.errors import ConfigError
from latentwrap.models import KINDS
from latentwrap.training import PRESETS, make_recipe, recipe_words


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
        ({"overrides": {"hidden": [-3]}}, "invalid hidden"),
        ({"overrides": {"widths": [0, 4]}}, "invalid widths"),
        ({"overrides": {"classes": 1}}, "invalid classes"),
        (
            {"overrides": {"precision": "float16"}},
            "invalid precision: .*, got 'float16'",
        ),
        ({"overrides": {"memory": 64}, "latent": 32}, "requires memory = 16, got 64"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        make_recipe(**{"preset": "fast", "overrides": {}, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("size", "kind"), [(3, "slac"), (15, "slac"), (16, "rssm"), (64, "rssm")])
def test_a_latent_too_small_for_a_memory_is_one_of_slac(size: int, kind: str) -> None:
    assert make_recipe("fast", {}, latent=size).kind == kind
    assert make_recipe("fast", {}, latent=size, kind="rssm").kind == "rssm"


def test_the_words_of_a_recipe_give_it_again() -> None:
    overrides = {"window": 5, "hidden": [7, 8], "rewards": False, "steps": 9}
    overrides["precision"] = "bfloat16"
    for preset, kind, latent in (
        ("fast", "rssm", 32),
        ("fast", "slac", 3),
        ("paper", "slac", None),
    ):
        recipe = make_recipe(preset, overrides, kind=kind, latent=latent)
        words = recipe_words(recipe.model_dump(mode="json"))
        named = dict(zip(words[:4:2], words[1:4:2], strict=True))
        settings = (word.partition("=") for word in words[5::2])
        options = {name: yaml.safe_load(value) for name, _, value in settings}
        again = make_recipe(named["--preset"], {**options, "steps": 9}, kind=named["--kind"])
        assert again == recipe
