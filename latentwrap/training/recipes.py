"""Recipes: a model kind with its hyperparameters and how it is trained, by preset name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, SerializeAsAny

from latentwrap.config import Config
from latentwrap.errors import ConfigError, did_you_mean
from latentwrap.models import KINDS, DeterministicConfig, ObservationConfig, RSSMConfig, SLACConfig
from latentwrap.precision import Precision


class TrainingConfig(Config):
    """How a model is trained.

    Attributes:
        steps: updates in total; `None` goes on until the time is up.
        batch_size: windows in one update.
        window: actions in a window; it has one frame more.
        learning_rate: of Adam.
        max_grad_norm: gradients are scaled down to this norm; `None` leaves them.
        precision: of an update: `float32`; `tf32`, which rounds what enters products and
            convolutions on CUDA and is float32 elsewhere; or `bfloat16`, in which encoder and
            decoder are run. Weights and all else are float32, and so is what is held out.
        heldout_fraction: share of the episodes that are only used to measure the loss.
        heldout_windows: windows in that measurement.
        evaluate_every: updates between measurements, after which the state is saved.
        log_every: updates that one row of the log averages over.
    """

    steps: int | None = Field(2000, ge=1)
    batch_size: int = Field(32, ge=1)
    window: int = Field(8, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    max_grad_norm: float | None = Field(None, gt=0)
    precision: Precision = "float32"
    heldout_fraction: float = Field(0.1, ge=0, lt=1)
    heldout_windows: int = Field(64, ge=1)
    evaluate_every: int = Field(250, ge=1)
    log_every: int = Field(25, ge=1)


class Recipe(Config):
    """Everything that decides a training run except data and seed."""

    preset: str
    kind: str
    model: SerializeAsAny[ObservationConfig]
    training: TrainingConfig


_SMALL = 16

_CHEAP: dict[str, Any] = {
    "network": "patch",
    "patch": 8,
    "widths": (32, 64),
    "features": 128,
    "hidden": (256,),
    "activation": "elu",
    "standardize_frames": True,
    "decoder_var": 1.0,
    "decoded_fraction": 0.25,
    "standardize_rewards": True,
    "min_reward_std": 0.1,
}
_FAST_TRAINING = TrainingConfig(steps=3000, batch_size=8, window=31, learning_rate=6e-4)

PRESETS: dict[str, dict[str, Recipe]] = {
    "fast": {
        "rssm": Recipe(
            preset="fast", kind="rssm", model=RSSMConfig(**_CHEAP), training=_FAST_TRAINING
        ),
        "slac": Recipe(
            preset="fast",
            kind="slac",
            # A KL of all its z1 at the weight that helps rssm leaves nothing in them.
            model=SLACConfig(**{**_CHEAP, "decoder_var": 0.1}, z1=16, z2=64, shared_first=True),
            training=_FAST_TRAINING,
        ),
        "deterministic": Recipe(
            preset="fast",
            kind="deterministic",
            model=DeterministicConfig(**_CHEAP),
            training=_FAST_TRAINING,
        ),
    },
    # As published, but for the number of updates: 100,000 before the agent starts.
    "paper": {
        "slac": Recipe(
            preset="paper",
            kind="slac",
            model=SLACConfig(),
            training=TrainingConfig(steps=100_000, evaluate_every=1000),
        ),
    },
}
"""Recipes by preset and kind; the first kind of each preset is the one that it means."""


def make_recipe(
    preset: str,
    overrides: Mapping[str, Any],
    *,
    kind: str | None = None,
    latent: int | None = None,
) -> Recipe:
    """The preset with some options changed.

    Args:
        preset: a key of `PRESETS`.
        overrides: option names of the model or of `TrainingConfig`, in one flat mapping.
        kind: one of `KINDS`; `None` takes the preset's own, or slac for a latent of less than 16
            dimensions, in which a memory and a state have no room beside each other.
        latent: dimensions of the latent to hand out; `None` leaves the preset's.

    Raises:
        ConfigError: unknown preset or kind, unknown option (the nearest known is named), bad
            value, or an option that contradicts `latent`.

    Example:
        >>> make_recipe("fast", {"window": 16}, kind="slac", latent=3).model.z2
        3
    """
    if kind is None and latent is not None and latent < _SMALL:
        kind = "slac"
    recipe = _find(preset, kind)
    model_options = set(type(recipe.model).model_fields)
    training_options = set(TrainingConfig.model_fields)
    for name in overrides:
        if name not in model_options | training_options:
            hint = did_you_mean(str(name), model_options | training_options)
            raise ConfigError(f"Pretraining a {recipe.kind} model has no option {name!r}: {hint}")

    def chosen(names: set[str]) -> dict[str, Any]:
        return {name: value for name, value in overrides.items() if name in names}

    sizes = {} if latent is None else recipe.model.latent_options(latent)
    for name, value in sizes.items():
        if overrides.get(name, value) != value:
            raise ConfigError(
                f"A latent of {latent} dimensions requires {name} = {value}, got "
                f"{overrides[name]}: leave one of them out."
            )
    return Recipe(
        preset=preset,
        kind=recipe.kind,
        model=recipe.model.replace(**{**sizes, **chosen(model_options)}),
        training=recipe.training.replace(**chosen(training_options)),
    )


def stored_recipe(document: Mapping[str, Any]) -> Recipe:
    """The recipe that a checkpoint or a state holds as JSON.

    Raises:
        ConfigError: it has no preset, kind or option of this version.
        KeyError: it is no recipe.
    """
    options = {**document["model"], **document["training"]}
    return make_recipe(str(document["preset"]), options, kind=str(document["kind"]))


def recipe_words(recipe: Mapping[str, Any]) -> list[str]:
    """What to type after `latentwrap pretrain` for a stored recipe, but for its steps.

    Args:
        recipe: as a checkpoint's document holds it.

    Raises:
        ConfigError: it has no preset or kind of this version.
    """
    preset, kind = str(recipe["preset"]), str(recipe["kind"])
    usual = _find(preset, kind).model_dump(mode="json")
    words = ["--preset", preset, "--kind", kind]
    for part in ("model", "training"):
        for name, value in recipe[part].items():
            if name != "steps" and value != usual[part].get(name):
                words += ["--set", f"{name}={json.dumps(value)}"]
    return words


def _find(preset: str, kind: str | None) -> Recipe:
    if preset not in PRESETS:
        raise ConfigError(f"There is no preset {preset!r}: {did_you_mean(preset, PRESETS)}")
    recipes = PRESETS[preset]
    if kind is None:
        return next(iter(recipes.values()))
    if kind not in KINDS:
        raise ConfigError(f"There is no model kind {kind!r}: {did_you_mean(kind, KINDS)}")
    if kind not in recipes:
        raise ConfigError(
            f"The preset {preset!r} requires the kind {' or '.join(recipes)}, got {kind!r}: "
            "use the preset 'fast'."
        )
    return recipes[kind]
