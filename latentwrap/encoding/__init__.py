"""Datasets of latents, for offline RL."""

from latentwrap.encoding.encoding import FORMS, EncodeResult, encode
from latentwrap.encoding.episodes import LatentEpisode
from latentwrap.encoding.info import LatentInfo
from latentwrap.encoding.reader import LatentDataset

__all__ = ["FORMS", "EncodeResult", "LatentDataset", "LatentEpisode", "LatentInfo", "encode"]
