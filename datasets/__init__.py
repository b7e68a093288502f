"""Datasets of pixel experience: HDF5 files of layout version 1."""

if __name__ != "latentwrap.datasets":
    raise ImportError("Import this package as latentwrap.datasets.")

from latentwrap.datasets.collect import CollectResult, collect
from latentwrap.datasets.episodes import Episode, join_vectors
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.policies import NoisePolicy, Policy, RandomPolicy
from latentwrap.datasets.reader import Dataset
from latentwrap.datasets.sampler import EpisodeSplit, Windows, WindowSampler, split_episodes
from latentwrap.datasets.summary import DatasetSummary, contact_sheet, summarize
from latentwrap.datasets.writer import DatasetWriter

__all__ = [
    "CollectResult",
    "Dataset",
    "DatasetInfo",
    "DatasetSummary",
    "DatasetWriter",
    "Episode",
    "EpisodeSplit",
    "NoisePolicy",
    "Policy",
    "RandomPolicy",
    "WindowSampler",
    "Windows",
    "collect",
    "contact_sheet",
    "join_vectors",
    "split_episodes",
    "summarize",
]
