"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from latentwrap.errors import MissingExtra, OutputExists, OutputFailed
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


def make_folder(path: Path, word: str) -> None:
    path.mkdir()
    for name in ("a", "b"):
        (path / name).write_text(word, encoding="utf-8")


def words_in(folder: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())]


def test_a_folder_is_replaced_and_one_is_whole_whenever_this_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "graphs.onnx"
    make_folder(path, "old")
    found: list[dict[str, list[str]]] = []

    def looking(change: Any) -> Any:
        """See what a process leaves that is killed before a change."""

        def changed(*args: Any, **kwargs: Any) -> Any:
            found.append({each.name: words_in(each) for each in tmp_path.iterdir()})
            return change(*args, **kwargs)

        return changed

    with monkeypatch.context() as patched:
        for owner, name in ((os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir")):
            patched.setattr(owner, name, looking(getattr(owner, name)))
        with written_whole(path) as temporary:
            make_folder(temporary, "new")
    assert len(found) >= 4  # two names, and what is in the old one
    old, new = ["old"] * 2, ["new"] * 2
    assert all(each.get(path.name) == new or old in each.values() for each in found)
    assert words_in(path) == new
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "denied"), KeyboardInterrupt()])
def test_a_folder_whose_successor_gets_no_name_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "graphs.onnx"
    make_folder(path, "old")
    replace = Path.replace

    def fail(source: Path, target: Path) -> Path:
        if ".tmp." in source.name:
            raise error
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", fail)
    raised = OutputFailed if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(raised), written_whole(path) as temporary:
        make_folder(temporary, "new")
    assert words_in(path) == ["old"] * 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "graphs.onnx"
    make_folder(path, "old")
    with pytest.raises(OutputFailed), written_whole(path) as temporary:
        temporary.touch()
    assert words_in(path) == ["old"] * 2


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
