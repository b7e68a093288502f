"""Processes that decode frames into memory that all of them share."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import weakref
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from latentwrap.datasets.frame_reader import FrameReader
from latentwrap.errors import DatasetError, LatentwrapError
from latentwrap.types import Frames, IntArray


class _Shared(NamedTuple):
    """Memory that all processes see.

    Attributes:
        pixels: bytes of P batches.
        rows: the first rows of the windows of each.
        shape: of a batch, (B, n, H, W, C).
    """

    pixels: Any
    rows: Any
    shape: tuple[int, ...]

    def frames(self) -> Frames:
        """All batches, uint8 (P, B, n, H, W, C)."""
        return np.frombuffer(self.pixels, np.uint8).reshape(-1, *self.shape)

    def starts(self) -> IntArray:
        """Of all batches, int64 (P, B)."""
        return np.frombuffer(self.rows, np.int64).reshape(-1, self.shape[0])

    def batch(self, place: int) -> Frames:
        """One batch, uint8 (B * n * H * W * C,), an array of its own."""
        size = int(np.prod(self.shape))
        return np.frombuffer(self.pixels, np.uint8, size, place * size)


class FrameWorkers:
    """Spawned processes, asked in turn; each answers in the order in which it was asked.

    Frames are handed out where the worker wrote them, without a copy: a place is used again once
    nobody holds its array any more. Where all places are held, this process reads by itself.

    Args:
        reader: opened by each process for itself.
        shape: of a batch of frames, (B, n, H, W, C).
        workers: how many processes.
        batches: places for batches, beside one that is being used.
    """

    def __init__(
        self, reader: FrameReader, shape: tuple[int, ...], *, workers: int, batches: int
    ) -> None:
        # A fork would copy torch's threads, of which only this one would run on.
        context = multiprocessing.get_context("spawn")
        self._reader, self._shape = reader, shape
        places = batches + 2
        self._shared = _Shared(
            context.RawArray("B", int(np.prod(shape)) * places),
            context.RawArray("q", shape[0] * places),
            shape,
        )
        self._free = deque(range(places))
        self._turn = 0
        self._processes, self._pipes = [], []
        for _ in range(workers):
            here, there = context.Pipe()
            arguments = (reader, self._shared, there)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            there.close()  # else this process would never learn that the other one ended
            self._processes.append(process)
            self._pipes.append(here)

    def submit(self, starts: IntArray) -> Callable[[], Frames]:
        """Begin to read the windows from some rows on, int64 (B,)."""
        if not self._free or len(starts) != self._shape[0]:
            return lambda: self._read_here(starts)
        place, pipe = self._free.popleft(), self._pipes[self._turn]
        self._turn = (self._turn + 1) % len(self._pipes)
        self._shared.starts()[place] = starts
        try:
            pipe.send_bytes(place.to_bytes(4, "little"))
        except OSError:
            raise _ended() from None
        return lambda: self._receive(pipe, place)

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)  # it ends by itself once its pipe is closed
            process.terminate()
            process.join()
            process.close()
        self._pipes, self._processes = [], []

    def _receive(self, pipe: Connection[Any, Any], place: int) -> Frames:
        try:
            error = pipe.recv_bytes().decode()
        except (EOFError, OSError):
            raise _ended() from None
        if error:
            self._free.append(place)
            raise DatasetError(error)
        held = self._shared.batch(place)
        # Views, and tensors made of them, keep `held` alive.
        weakref.finalize(held, self._free.append, place)
        return held.reshape(self._shape)

    def _read_here(self, starts: IntArray) -> Frames:
        out = np.empty((len(starts), *self._shape[1:]), np.uint8)
        self._reader.fill_windows(starts, out)
        return out


def _serve(reader: FrameReader, shared: _Shared, pipe: Connection[Any, Any]) -> None:
    """Read what is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    starts, frames = shared.starts(), shared.frames()
    with contextlib.suppress(EOFError, OSError):
        while True:
            place = int.from_bytes(pipe.recv_bytes(), "little")
            pipe.send_bytes(_fill(reader, starts[place], frames[place]).encode())


def _fill(reader: FrameReader, starts: IntArray, out: Frames) -> str:
    """The sentence that says what went wrong; empty if nothing did."""
    try:
        reader.fill_windows(starts, out)
    except LatentwrapError as error:
        return str(error)
    return ""


def _ended() -> DatasetError:
    return DatasetError(
        "A process that reads windows ended unexpectedly (killed, out of memory, or a script "
        "without if __name__ == '__main__'): see its own output, or use fewer workers."
    )
