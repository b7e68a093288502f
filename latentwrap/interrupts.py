"""Ctrl-C that lets what is in progress finish."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class InterruptFlag:
    """While the block runs, the first Ctrl-C only sets `raised`; a second one interrupts.

    SIGTERM, where it is asked for, only ever sets `raised`: who sends it kills what lasts.

    An optimiser that is interrupted between two tensors leaves weights that belong to no step.
    Outside the main thread, where Python delivers no signals, the flag never rises.

    Example:
        >>> with InterruptFlag() as interrupt:
        ...     interrupt.raised
        False
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.raised = False
        self._signals = signals or (signal.SIGINT,)
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> InterruptFlag:
        if self._main:
            self._previous = {each: signal.signal(each, self._on_signal) for each in self._signals}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._main:
            for each, previous in self._previous.items():
                signal.signal(each, previous)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.raised and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.raised = True


class DeferredInterrupt:
    """While the block runs, Ctrl-C waits: until `deliver`, or until the block ends.

    A library in C that calls back into Python must not meet an exception there: HDF5 takes one
    for a broken disk, and crashes when it closes the file.

    Example:
        >>> with DeferredInterrupt() as interrupt:
        ...     interrupt.deliver()
    """

    def __init__(self) -> None:
        self._waiting = False
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> DeferredInterrupt:
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
            self._pass_on()

    def deliver(self) -> None:
        """Now is a good moment: whoever had Ctrl-C before gets one that came meanwhile."""
        if self._main and self._waiting:
            signal.signal(signal.SIGINT, self._previous)
            try:
                self._pass_on()
            finally:
                signal.signal(signal.SIGINT, self._on_signal)

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting = False
            signal.raise_signal(signal.SIGINT)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._waiting = True
