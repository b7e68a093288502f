"""The processes that train one model together: usually one alone, else those of torchrun.

Whoever trains asks the same questions either way; a process that is alone answers them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from latentwrap.errors import ConfigError, FailedElsewhere, LatentwrapError, ProcessLost
from latentwrap.launch import Launch
from latentwrap.models import LatentModel, LossTerms, WindowTensors
from latentwrap.types import AnyArray

T = TypeVar("T")
LossFunction = Callable[[WindowTensors, Tensor], LossTerms]
"""As `LatentModel.loss`."""


class Share(NamedTuple):
    """The windows of a batch that one process works on.

    Attributes:
        first, last: where they begin and end.
        total: windows in the batch.
    """

    first: int
    last: int
    total: int

    @property
    def rows(self) -> slice:
        """Takes them out of the batch."""
        return slice(self.first, self.last)

    @property
    def size(self) -> int:
        """How many they are."""
        return self.last - self.first

    @property
    def part(self) -> float:
        """What their mean counts in the mean over the batch."""
        return self.size / self.total


class Processes:
    """One process that trains alone, and what is the same for several.

    All of them must call each method in the same order, as they wait in it for each other.

    Args:
        launch: which of how many this is.
    """

    def __init__(self, launch: Launch | None = None) -> None:
        self.launch = launch or Launch()

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self.launch.rank

    @property
    def count(self) -> int:
        """How many there are."""
        return self.launch.count

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.launch.first

    def share(self, total: int) -> Share:
        """The windows of this process in a batch of `total`.

        Raises:
            ConfigError: there are not enough for all.
        """
        if total < self.count:
            raise ConfigError(
                f"Training in {self.count} processes requires a batch_size of at least "
                f"{self.count}, got {total}: raise it, or start fewer processes."
            )
        first, last = (total * rank // self.count for rank in (self.rank, self.rank + 1))
        return Share(first, last, total)

    def together(self, work: Callable[[], T]) -> T:
        """What some work gives here; if it fails in one process, it fails in all.

        Raises:
            FailedElsewhere: it failed in another process first, which has the error itself.
        """
        result, error = None, None
        try:
            result = work()
        except (LatentwrapError, OSError) as raised:
            error = raised
        if self.any(error is not None):
            told = self.gather(None if error is None else str(error))
            blamed = next(rank for rank, text in enumerate(told) if text is not None)
            raise (error if error and blamed == self.rank else FailedElsewhere(told[blamed]))
        return cast(T, result)

    def from_first(self, work: Callable[[], T]) -> T:
        """What some work gives in the first process, which alone does it.

        Raises:
            FailedElsewhere: it failed there.
        """
        return self.broadcast(cast(T, self.together(lambda: work() if self.first else None)))

    def any(self, flag: bool) -> bool:  # noqa: FBT001
        """Whether one of them says so."""
        return bool(self.sum(np.array([flag], np.float64))[0])

    def sum(self, numbers: AnyArray) -> AnyArray:
        """The sum over processes, of the shape of `numbers`, float64."""
        return numbers

    def gather(self, thing: T) -> list[T]:
        """What each process has, by its number."""
        return [thing]

    def broadcast(self, thing: T) -> T:
        """What the first process has."""
        return thing

    def device(self, name: str) -> str:
        """The device of this process, if that of all is given as `name`.

        Raises:
            ConfigError: there is not a GPU for each.
        """
        if self.count == 1 or not _on_gpu(name):
            return name
        here, found = self.launch, torch.cuda.device_count()
        if name not in ("auto", "cuda") or here.local_count > found:
            raise ConfigError(
                f"Several processes require a GPU each, got --device {name} for "
                f"{here.local_count} on a machine with {found}: pass auto or cpu, or start fewer."
            )
        torch.cuda.set_device(here.local_rank)
        return f"cuda:{here.local_rank}"

    def loss_of(self, model: LatentModel) -> LossFunction:
        """The loss on which `backward` is called."""
        return model.loss

    def backward(self, loss: Tensor, share: Share) -> None:  # noqa: ARG002
        """The gradient of the loss of the whole batch, from that of this process's windows."""
        loss.backward()  # type: ignore[no-untyped-call]

    def mean(self, terms: dict[str, Tensor], share: Share) -> dict[str, Tensor]:  # noqa: ARG002
        """Scalars of the whole batch, from those of this process's windows."""
        return terms


ALONE = Processes()


class ConnectedProcesses(Processes):
    """Several processes: gradients travel as the default group does it, all else by gloo.

    Args:
        launch: which of how many this is.
    """

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch)
        with _others_reached():
            self._words = dist.new_group(backend="gloo")

    def sum(self, numbers: AnyArray) -> AnyArray:
        total = torch.from_numpy(np.array(numbers, np.float64))
        with _others_reached():
            dist.all_reduce(total, group=self._words)
        return total.numpy()

    def gather(self, thing: T) -> list[T]:
        things: list[Any] = [None] * self.count
        with _others_reached():
            dist.all_gather_object(things, thing, group=self._words)
        return things

    def broadcast(self, thing: T) -> T:
        things = [thing if self.first else None]
        with _others_reached():
            dist.broadcast_object_list(things, src=0, group=self._words)
        return cast(T, things[0])

    def loss_of(self, model: LatentModel) -> LossFunction:
        # The graph of every update is the same; so weights that no loss reaches are known.
        return cast(LossFunction, DistributedDataParallel(_Loss(model), static_graph=True))

    def backward(self, loss: Tensor, share: Share) -> None:
        # The processes' gradients are averaged as if all had as many windows.
        with _others_reached(within_torch=True):
            super().backward(loss * (self.count * share.part), share)

    def mean(self, terms: dict[str, Tensor], share: Share) -> dict[str, Tensor]:
        ours = torch.stack(list(terms.values())).double().cpu().numpy()
        return dict(zip(terms, torch.from_numpy(self.sum(ours * share.part)), strict=True))


class _Loss(nn.Module):
    """A model's loss as the forward pass that DistributedDataParallel wants.

    The model is no part of it, only its weights: buffers never change, and need not travel.
    """

    def __init__(self, model: LatentModel) -> None:
        super().__init__()
        self.weights = nn.ParameterList(model.parameters())
        self._loss = model.loss

    def forward(self, windows: WindowTensors, noise: Tensor) -> LossTerms:
        return self._loss(windows, noise)


@contextmanager
def connected(device: str) -> Iterator[Processes]:
    """Connect to the processes that torchrun started beside this one, if it did.

    A process group that the script has made is used, and left as it is.

    Args:
        device: the name that all of them were given.

    Raises:
        ConfigError: this torch cannot, or the launcher's variables make no sense.
        ProcessLost: the others cannot be reached.

    Example:
        >>> with connected("cpu") as processes:
        ...     processes.count
        1
    """
    launch = Launch.from_environment()
    if dist.is_available() and dist.is_initialized():
        rank, count = dist.get_rank(), dist.get_world_size()
        known = launch if launch.count == count else Launch(rank, count, rank, count)
        yield ConnectedProcesses(known) if count > 1 else ALONE
        return
    if launch.count == 1:
        yield ALONE
        return
    if not dist.is_available():
        raise ConfigError("Several processes require torch.distributed, which this torch lacks.")
    with _others_reached():
        dist.init_process_group("nccl" if _on_gpu(device) else "gloo")
    try:
        yield ConnectedProcesses(launch)
    finally:
        dist.destroy_process_group()


def _on_gpu(device: str) -> bool:
    return device != "cpu" and torch.cuda.is_available()


@contextmanager
def _others_reached(*, within_torch: bool = False) -> Iterator[None]:
    """Name what becomes of messages to a process that is gone.

    Args:
        within_torch: much else may fail there too, which is raised as it is.

    Raises:
        ProcessLost: another process cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        known = isinstance(error, dist.DistError) or "gloo" in str(error)
        if within_torch and not known:
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise ProcessLost(
            f"Another process of this run ended or cannot be reached ({reason}): see what it said "
            "last; --resume goes on from the last saved state."
        ) from None
