"""Datasets of pixel experience: HDF5 files of layout version 1."""

if __name__ != "latentwrap.datasets":
    raise ImportError("Import this package as latentwrap.datasets.")

from latentwrap.datasets.collect import CollectResult, collect
from latentwrap.datasets.episodes import Episode, join_vectors
from latentwrap.datasets.importers.importing import ImportResult, import_dataset
from latentwrap.datasets.importers.source import ImportOptions
from latentwrap.datasets.joining import Source, find_files
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.loading.bench import LoadingSpeed, measure_loading
from latentwrap.datasets.loading.loader import WindowLoader
from latentwrap.datasets.loading.mixing import Mix, mix_files
from latentwrap.datasets.loading.sampler import EpisodeSplit, Windows, WindowSampler, split_episodes
from latentwrap.datasets.loading.window_dataset import WindowDataset
from latentwrap.datasets.policies import NoisePolicy, Policy, RandomPolicy
from latentwrap.datasets.reader import Dataset
from latentwrap.datasets.rechunk import RechunkResult, rechunk
from latentwrap.datasets.summary import DatasetSummary, contact_sheet, summarize
from latentwrap.datasets.wholeness.repair import RepairResult, repair
from latentwrap.datasets.wholeness.verify import Verification, verify
from latentwrap.datasets.writer import DatasetWriter

__all__ = [
    "CollectResult",
    "Dataset",
    "DatasetInfo",
    "DatasetSummary",
    "DatasetWriter",
    "Episode",
    "EpisodeSplit",
    "ImportOptions",
    "ImportResult",
    "LoadingSpeed",
    "Mix",
    "NoisePolicy",
    "Policy",
    "RandomPolicy",
    "RechunkResult",
    "RepairResult",
    "Source",
    "Verification",
    "WindowDataset",
    "WindowLoader",
    "WindowSampler",
    "Windows",
    "collect",
    "contact_sheet",
    "find_files",
    "import_dataset",
    "join_vectors",
    "measure_loading",
    "mix_files",
    "rechunk",
    "repair",
    "split_episodes",
    "summarize",
    "verify",
]
