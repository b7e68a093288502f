"""Windows read ahead, while the model learns from those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from latentwrap.datasets.loading.sampler import Windows, WindowSampler
from latentwrap.datasets.loading.workers import FrameWorkers
from latentwrap.errors import ConfigError, LatentwrapError
from latentwrap.types import Frames, IntArray


class _Readers(Protocol):
    """Who reads frames while others work."""

    def submit(self, starts: IntArray) -> Callable[[], Frames]:
        """Begin to read the windows from some rows on; the function waits for them."""

    def close(self) -> None:
        """End, whatever is still being read."""


class _Ahead(NamedTuple):
    """A batch that is being read.

    Attributes:
        state: of the sampler before the batch was drawn.
        starts: its rows.
        wait: gives its frames.
    """

    state: dict[str, Any]
    starts: IntArray
    wait: Callable[[], Frames]


class WindowLoader:
    """Gives the batches of a sampler, in its order, and reads the next ones meanwhile.

    The batches are the same with any number of workers. Drawing stays here, so that the state of
    the generator is that of the batches that were handed out, not of those read ahead.

    Args:
        sampler: draws the batches.
        workers: processes that decode frames; 0 leaves it to one thread of this process, which
            is enough for a model that takes 20 ms an update. With workers, a script needs
            Python's `if __name__ == "__main__":` around what it runs.
        ahead: batches to read ahead.

    Raises:
        ConfigError: a negative number.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from latentwrap.datasets import Dataset, WindowLoader, WindowSampler, collect
        >>> path = tempfile.mkdtemp() + "/pendulum.h5"
        >>> _ = collect("latentwrap/PixelPendulum-v0", path, steps=450)
        >>> data, generator = Dataset(path), np.random.default_rng(0)
        >>> sampler = WindowSampler(
        ...     data, np.arange(3), length=8, batch_size=32, generator=generator
        ... )
        >>> with WindowLoader(sampler) as loader:
        ...     loader.sample().frames.shape
        (32, 9, 64, 64, 3)
    """

    def __init__(self, sampler: WindowSampler, *, workers: int = 0, ahead: int = 2) -> None:
        if workers < 0 or ahead < 1:
            raise ConfigError(
                "Loading requires workers of at least 0 and at least 1 batch ahead, got "
                f"{workers} and {ahead}."
            )
        self._sampler = sampler
        self._count = max(ahead, 2 * workers)
        self._workers = workers
        self._readers = self._new_readers()
        self._ahead: deque[_Ahead] = deque()

    def sample(self) -> Windows:
        """The next batch.

        Raises:
            DatasetError: a file is damaged, or a worker ended.
        """
        self._read_ahead()
        try:
            frames = self._ahead[0].wait()
        except LatentwrapError:
            self._ahead.popleft()
            raise
        except BaseException:
            self._begin_anew()  # whether the answer came before Ctrl-C did, nobody can say
            raise
        windows = self._sampler.gather(self._ahead.popleft().starts, frames)
        self._read_ahead()
        return windows

    def fixed(self, count: int) -> Iterator[Windows]:
        """As of the sampler."""
        return self._sampler.fixed(count)

    def state(self) -> dict[str, Any]:
        """Of the sampler before the next batch, JSON-serialisable."""
        return self._ahead[0].state if self._ahead else self._sampler.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`; what was read ahead is dropped."""
        while self._ahead:
            self._ahead[0].wait()
            self._ahead.popleft()
        self._sampler.restore(state)

    def close(self) -> None:
        """End the workers."""
        self._ahead.clear()
        self._readers.close()

    def __enter__(self) -> WindowLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin_anew(self) -> None:
        """Draw again what was read ahead, with other readers."""
        state = self.state()
        self.close()
        self._sampler.restore(state)
        self._readers = self._new_readers()

    def _new_readers(self) -> _Readers:
        if self._workers:
            return _processes(self._sampler, self._workers, batches=self._count)
        return _Thread(self._sampler)

    def _read_ahead(self) -> None:
        while len(self._ahead) < self._count:
            state, starts = self._sampler.state(), self._sampler.draw()
            self._ahead.append(_Ahead(state, starts, self._readers.submit(starts)))


class _Thread:
    """One thread: decoding holds no lock of Python's."""

    def __init__(self, sampler: WindowSampler) -> None:
        self._dataset, self._length = sampler.dataset, sampler.length + 1
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="latentwrap-windows")

    def submit(self, starts: IntArray) -> Callable[[], Frames]:
        return self._pool.submit(self._dataset.windows, starts, self._length).result

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _processes(sampler: WindowSampler, workers: int, *, batches: int) -> FrameWorkers:
    reader = sampler.dataset.frame_reader
    shape = (sampler.share_size, sampler.length + 1, *reader.shape)
    return FrameWorkers(reader, shape, workers=workers, batches=batches)
