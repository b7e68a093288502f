"""Pretraining: recipes, the training loop, its state, and the statistics of the latents."""

from latentwrap.training.memory import MemoryEstimate
from latentwrap.training.pretrain import PretrainResult, pretrain
from latentwrap.training.recipes import PRESETS, Recipe, TrainingConfig, make_recipe, recipe_words
from latentwrap.training.session import Loading

__all__ = [
    "PRESETS",
    "Loading",
    "MemoryEstimate",
    "PretrainResult",
    "Recipe",
    "TrainingConfig",
    "make_recipe",
    "pretrain",
    "recipe_words",
]
