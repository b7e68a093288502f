"""Ctrl-C sets a flag first and interrupts second."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from latentwrap.interrupts import InterruptFlag


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ctrl_c_only_raises_the_flag() -> None:
    with InterruptFlag() as interrupt:
        assert not interrupt.raised
        press_ctrl_c()
        assert interrupt.raised


def test_the_second_one_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt), InterruptFlag():
        press_ctrl_c()
        press_ctrl_c()


def test_sigterm_is_heeded_where_it_is_asked_for_and_never_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with InterruptFlag(signal.SIGINT, signal.SIGTERM) as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.raised
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_afterwards_ctrl_c_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with InterruptFlag():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_nothing_happens() -> None:
    flags = []

    def work() -> None:
        with InterruptFlag() as interrupt:
            flags.append(interrupt.raised)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert flags == [False]
