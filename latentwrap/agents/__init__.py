"""The bundled agent: soft actor-critic, its callbacks, and how it is evaluated."""

from latentwrap.agents.callbacks import (
    Callback,
    EpisodeStats,
    EvaluateEvery,
    LogMetrics,
    SaveEvery,
)
from latentwrap.agents.config import SACConfig
from latentwrap.agents.evaluate import EvaluationResult, Predictor, RandomAgent, evaluate_policy
from latentwrap.agents.online import OnlineAgent
from latentwrap.agents.policy import Policy
from latentwrap.agents.sac import SAC

__all__ = [
    "SAC",
    "Callback",
    "EpisodeStats",
    "EvaluateEvery",
    "EvaluationResult",
    "LogMetrics",
    "OnlineAgent",
    "Policy",
    "Predictor",
    "RandomAgent",
    "SACConfig",
    "SaveEvery",
    "evaluate_policy",
]
