"""Opening HDF5 files from strangers.

The HDF5 library follows links and references out of a file, loads plugins by name and can crash
on damaged input. So a file is examined by another process first (`guarding.probe`), and opened here
only if nothing in it leads out and everything could be read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import h5py

from latentwrap.datasets.guarding.probe import prober
from latentwrap.errors import DatasetError


@dataclass(frozen=True)
class FileIdentity:
    """What tells a file from another one, or from itself after a change."""

    path: str
    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> FileIdentity:
        """The identity of the file at a path.

        Args:
            path: where it lies.
            status: from `os.stat` or `os.fstat`.
        """
        real = os.path.realpath(path)
        return cls(real, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def open_checked(path: str | Path, *, trusted: bool = False, rules: str = "layout") -> h5py.File:
    """Open an HDF5 file for reading, after another process has read it safely.

    A file that passed is not examined again by this process as long as it does not change.

    Args:
        path: the file.
        trusted: this process has just written it, so it is opened as it is.
        rules: "layout" for a dataset of ours, "foreign" for what an importer reads.

    Raises:
        DatasetError: missing, not HDF5, damaged, or with anything that leads out of the file,
            cannot be read safely or is out of proportion.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/linked.h5"
        >>> with h5py.File(path, "w") as file:
        ...     file["frames"] = h5py.ExternalLink("/etc/passwd", "/")
        >>> open_checked(path)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        latentwrap.errors.DatasetError: ...linked.h5 has an external link at /frames, which ...
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"The dataset {path} does not exist or is no file.")
    before = FileIdentity.of(path, path.stat())
    if not trusted:
        prober().examine(path, before, rules)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} is no whole HDF5 file ({error}): get it anew.") from None
    if FileIdentity.of(path, path.stat()) != before:
        file.close()
        raise DatasetError(f"{path} changed while it was opened: wait until it is written.")
    return file
