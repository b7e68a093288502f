"""Writing latents, each episode safe as soon as it is filtered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py

from latentwrap.datasets.guarding.opening import open_checked
from latentwrap.datasets.shard import damage_named
from latentwrap.datasets.writer import EpisodeWriter, Part
from latentwrap.encoding.episodes import Columns, LatentEpisode
from latentwrap.encoding.forms import Finished, Form, foreign_output
from latentwrap.encoding.info import LatentInfo, read_latent_info, write_latent_info
from latentwrap.encoding.reader import read_beside_latents
from latentwrap.types import AnyArray


class LatentWriter(EpisodeWriter[Columns, LatentInfo]):
    """Collects episodes of latents until they are published in some form.

    Args:
        path: what to write.
        info: what it is of.
        form: how to write it; `None` for our own layout.
        force: replace what is there (only when the new one is whole) and an old folder.
        resume: keep the episodes of an interrupted run, up to the first damaged or missing one.

    Raises:
        OutputExists: something is there, or an interrupted run, and neither `force` nor `resume`.
        DatasetError: the interrupted run was of something else, or the name has a wrong ending.
    """

    def __init__(
        self,
        path: Path,
        info: LatentInfo,
        form: Form | None = None,
        *,
        force: bool = False,
        resume: bool = False,
    ) -> None:
        self._output = form
        super().__init__(path, info, force=force, resume=resume, ordered=True)

    def _check_output(self, *, force: bool) -> None:
        if self._output is None:
            super()._check_output(force=force)
        else:
            self._output.check_output(self.path, force=force)

    def _columns(self, episode: Columns) -> dict[str, AnyArray]:
        return dict(episode)

    def _describe(self, file: h5py.File) -> None:
        write_latent_info(file, self._info)

    def _open(self, path: Path) -> Part[LatentInfo]:
        if self._is_foreign(path) and self._output is not None:
            done = self._output.read(path)
            return Part(self._of(done, path), done.episodes, done.transitions)
        # A finished file may be a stranger's; the pieces are our own.
        with open_checked(path, trusted=path != self.path) as file, damage_named(path):
            info = read_latent_info(file, path)
            columns = read_beside_latents(file, info, path)
        episodes = len(columns.lengths)
        return Part(info, episodes, len(columns.actions) - episodes)

    def _of(self, finished: Finished, path: Path) -> LatentInfo:
        try:
            return LatentInfo.from_json(finished.origin, self._info.data)
        except (KeyError, TypeError, ValueError):
            raise foreign_output(path) from None

    def _form_of(self, path: Path) -> dict[str, tuple[int, ...]]:
        # What is finished in another form is never gone on with: it holds all episodes.
        return self._form if self._is_foreign(path) else super()._form_of(path)

    def _is_foreign(self, path: Path) -> bool:
        return path == self.path and self._output is not None

    def _join(self, whole: Path) -> None:
        if self._output is None:
            super()._join(whole)
        else:
            self._output.write(whole, self._info, self._episodes())

    def _episodes(self) -> Iterator[LatentEpisode]:
        return (LatentEpisode.of(columns) for columns in self.stored())
