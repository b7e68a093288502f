"""Windows by number, as torch's DataLoader takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latentwrap.datasets.loading.sampler import Windows, WindowSampler
from latentwrap.datasets.reader import Dataset
from latentwrap.types import AnyArray, IntArray


class WindowDataset:
    """Every window of some episodes, for a training loop of your own.

    It is what `torch.utils.data.DataLoader` calls a map-style dataset, with any number of forked
    or spawned workers: each opens the files for itself. `latentwrap pretrain` reads faster, with
    `WindowLoader`.

    Args:
        dataset: where the episodes are.
        episodes: their numbers, int64 (E,); `None` takes all.
        length: actions in a window, L.

    Raises:
        DatasetError: every episode is shorter than a window.

    Example:
        >>> import tempfile
        >>> from torch.utils.data import DataLoader
        >>> from latentwrap.datasets import Dataset, WindowDataset, collect
        >>> path = tempfile.mkdtemp() + "/pendulum.h5"
        >>> _ = collect("latentwrap/PixelPendulum-v0", path, steps=250)
        >>> windows = WindowDataset(Dataset(path), length=8)
        >>> batch = next(iter(DataLoader(windows, batch_size=32, shuffle=True)))
        >>> batch["frames"].shape, batch["actions"].shape
        (torch.Size([32, 9, 64, 64, 3]), torch.Size([32, 8, 1]))
    """

    def __init__(self, dataset: Dataset, episodes: IntArray | None = None, *, length: int) -> None:
        chosen = np.arange(dataset.num_episodes) if episodes is None else episodes
        # Its generator is never used: whoever asks for windows chooses them.
        self._sampler = WindowSampler(
            dataset, chosen, length=length, batch_size=1, generator=np.random.default_rng(0)
        )

    def __len__(self) -> int:
        return self._sampler.num_windows

    def __getitem__(self, number: int) -> dict[str, AnyArray]:
        """The arrays of `Windows` that there are, without the first axis."""
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, AnyArray]]:
        """Several windows, read together."""
        if any(not 0 <= number < len(self) for number in numbers):
            raise IndexError(f"There are {len(self)} windows, got the numbers {list(numbers)}.")
        windows = self._sampler.gather(self._sampler.starts[np.array(numbers)])
        columns = _present(windows)
        return [{name: column[i] for name, column in columns.items()} for i in range(len(numbers))]


def _present(windows: Windows) -> dict[str, AnyArray]:
    columns: dict[str, AnyArray | None] = {
        "frames": windows.frames,
        "actions": windows.actions,
        "rewards": windows.rewards,
        "terminations": windows.terminations,
        "vectors": windows.vectors,
    }
    return {name: column for name, column in columns.items() if column is not None}
