"""Ctrl-C that lets the step in progress finish."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class InterruptFlag:
    """While the block runs, the first Ctrl-C only sets `raised`; a second one interrupts.

    An optimiser that is interrupted between two tensors leaves weights that belong to no step.
    Outside the main thread, where Python delivers no signals, the flag never rises.

    Example:
        >>> with InterruptFlag() as interrupt:
        ...     interrupt.raised
        False
    """

    def __init__(self) -> None:
        self.raised = False
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> InterruptFlag:
        if self._main:
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._previous)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.raised:
            raise KeyboardInterrupt
        self.raised = True
