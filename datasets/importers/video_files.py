"""Decoding videos: frame after frame, with the time at which each is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentwrap.errors import DatasetError
from latentwrap.extras import require
from latentwrap.types import Frame

MOST_PIXELS = 8192 * 8192
"""In one image; a header may say anything."""

_SIGNATURES = {
    ".mp4": (4, b"ftyp"),
    ".m4v": (4, b"ftyp"),
    ".mov": (4, b"ftyp"),
    ".mkv": (0, b"\x1aE\xdf\xa3"),
    ".webm": (0, b"\x1aE\xdf\xa3"),
    ".avi": (0, b"RIFF"),
    ".gif": (0, b"GIF8"),
}
"""By suffix, where in a file which bytes stand. FFmpeg looks at the content only, and there are
contents, such as playlists, that make it open other files."""

SUFFIXES = frozenset(_SIGNATURES)

_FAR = 10.0
"""Seconds up to which decoding is simpler than to look for a key frame."""


@dataclass(frozen=True)
class Shown:
    """One image of a video.

    Attributes:
        time: when it is shown, in seconds from the begin.
        image: uint8 (H, W, 3).
    """

    time: float
    image: Frame


class Video:
    """An opened video file.

    Args:
        path: the file; its suffix is one of `SUFFIXES`.

    Attributes:
        shape: of one image, (H, W, 3).
        codec: how it is compressed.

    Raises:
        DatasetError: missing, damaged, too large, or no video.
        MissingExtra: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._av = require("av", extra="import", purpose="Importing videos")
        _check_signature(path)
        with self._refusing():
            self._container = self._av.open(str(path))
        try:
            self._stream = self._only_stream()
            context = self._stream.codec_context
            height, width = context.height, context.width
            if not 0 < width * height <= MOST_PIXELS:
                raise DatasetError(
                    f"{path} says that its images are {width}×{height} pixels: get it anew."
                )
        except BaseException:
            self._container.close()
            raise
        self.shape = (height, width, 3)
        self.codec = str(context.codec.name)

    def shown(self) -> Iterator[Shown]:
        """The images that follow, in the order in which they are shown.

        Raises:
            DatasetError: the file is damaged.
        """
        with self._refusing():
            for number, frame in enumerate(self._container.decode(self._stream)):
                if (frame.height, frame.width) != self.shape[:2] or frame.is_corrupt:
                    raise DatasetError(f"{self._path} is damaged at image {number}: get it anew.")
                yield Shown(float(frame.time or 0.0), frame.to_ndarray(format="rgb24"))

    def seek(self, seconds: float) -> None:
        """Go on at the last key frame before a time."""
        with self._refusing():
            offset = int(seconds / float(self._stream.time_base))
            self._container.seek(max(offset - 1, 0), backward=True, stream=self._stream)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _only_stream(self) -> Any:
        """The first stream of pictures; a header may name a codec that nobody has."""
        for stream in self._container.streams.video:
            if stream.codec_context is not None and stream.time_base is not None:
                return stream
        raise DatasetError(
            f"{self._path} holds no pictures that PyAV can decode: name another video, or get it "
            "anew."
        )

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except DatasetError:
            raise
        except (self._av.error.FFmpegError, ValueError, MemoryError, OSError) as error:
            reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
            raise DatasetError(
                f"{self._path} is no whole video ({reason}): get it anew or leave it out."
            ) from None


class Film:
    """Picks images of a video by their times, which mostly rise, so that each is decoded once.

    Args:
        path: the file.
        tolerance: how far from a time an image may be shown, in seconds.

    Attributes:
        shape: of one image, (H, W, 3).

    Raises:
        DatasetError: as of `Video`.
    """

    def __init__(self, path: Path, tolerance: float) -> None:
        self.path = path
        self._tolerance = tolerance
        self._go_to(0.0)
        self.shape = self._video.shape

    def at(self, times: Iterable[float]) -> Iterator[Frame]:
        """The image that is nearest to each time, uint8 (H, W, 3).

        Args:
            times: in seconds, rising.

        Raises:
            DatasetError: there is none near one of them, or the file is damaged.
        """
        for time in times:
            now = self._now.time if self._now is not None else 0.0
            if not now - self._tolerance <= time <= now + _FAR:
                self._video.close()
                self._go_to(time)
            yield self._nearest(time).image

    def close(self) -> None:
        """Close the file."""
        self._video.close()

    def _go_to(self, time: float) -> None:
        self._video = Video(self.path)
        if time > 0:
            self._video.seek(time)
        self._rest = self._video.shown()
        self._now = next(self._rest, None)
        self._next = next(self._rest, None)

    def _nearest(self, time: float) -> Shown:
        while self._now is not None and self._next is not None:
            if abs(self._next.time - time) > abs(self._now.time - time):
                break
            self._now, self._next = self._next, next(self._rest, None)
        if self._now is None or abs(self._now.time - time) > self._tolerance:
            raise DatasetError(
                f"{self.path} has no image at {time:.3f} s, where an episode has a row: "
                "get it anew."
            )
        return self._now


def _check_signature(path: Path) -> None:
    if not path.is_file():
        raise DatasetError(f"{path} does not exist: get the dataset anew.")
    offset, expected = _SIGNATURES.get(path.suffix.lower(), (0, b""))
    with path.open("rb") as file:
        begin = file.read(offset + len(expected))[offset:]
    if not expected or begin != expected:
        raise DatasetError(
            f"{path} does not begin as a {path.suffix or 'video'} file does: get it anew, or "
            "leave it out."
        )
