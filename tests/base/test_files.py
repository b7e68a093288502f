"""Files are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentwrap.errors import MissingExtra, OutputExists
from latentwrap.extras import require
from latentwrap.files import refuse_existing, remove, written_whole


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), written_whole(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with written_whole(path) as temporary:
        temporary.write_text("whole", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "whole"


def test_existing_outputs_are_refused_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    refuse_existing(path, force=False)
    path.touch()
    with pytest.raises(OutputExists, match=r"a\.txt exists already.*--force"):
        refuse_existing(path, force=False)
    refuse_existing(path, force=True)


def test_remove_takes_files_folders_and_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").touch()
    remove(folder)
    remove(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_remove_does_not_follow_links(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "a").touch()
    link = tmp_path / "link"
    link.symlink_to(kept)
    remove(link)
    assert (kept / "a").exists()
    assert not link.exists()


def test_a_missing_extra_names_the_pip_line() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'latentwrap\[report\]'"):
        require("no_such_module_xyz", extra="report", purpose="The picture")
