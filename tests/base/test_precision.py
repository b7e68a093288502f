"""What a precision changes while it lasts, and that nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from latentwrap.precision import Precision, computing, reduced

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SWITCHES: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
HAS_SWITCHES = hasattr(torch.backends.cuda.matmul, "fp32_precision")
needs_switches = pytest.mark.skipif(not HAS_SWITCHES, reason="switches of torch ≥ 2.9")


def switches() -> tuple[str, str]:
    return SWITCHES[0].fp32_precision, SWITCHES[1].conv.fp32_precision


@pytest.fixture(autouse=True)
def _left_as_it_was() -> Iterator[None]:
    before = switches() if HAS_SWITCHES else None
    yield
    if before:
        SWITCHES[0].fp32_precision, SWITCHES[1].conv.fp32_precision = before


def by_default() -> None:
    pass


def by_the_old_switch() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


def by_the_new_switch() -> None:
    """After which reading the old one is an error."""
    SWITCHES[0].fp32_precision = "tf32"


def strictly() -> None:
    for owner in (SWITCHES[0], SWITCHES[1].conv):
        owner.fp32_precision = "ieee"


@needs_switches
@pytest.mark.parametrize("choose", [by_default, by_the_old_switch, by_the_new_switch, strictly])
def test_tf32_is_allowed_on_cuda_as_long_as_it_was_asked_for(choose: Any) -> None:
    choose()
    before = switches()
    with computing("tf32", CUDA):
        assert switches() == ("tf32", "tf32")
    assert switches() == before
    with pytest.raises(KeyError), computing("tf32", CUDA):
        raise KeyError
    assert switches() == before


@needs_switches
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_other_precisions_leave_torchs_switches_alone(precision: Precision) -> None:
    strictly()
    with computing(precision, CUDA):
        assert switches() == ("ieee", "ieee")


@needs_switches
def test_tf32_means_nothing_on_a_cpu() -> None:
    network, inputs, before = torch.nn.Linear(64, 64), torch.randn(8, 64), switches()
    expected = network(inputs)
    with computing("tf32", CPU):
        assert switches() == before
        assert torch.equal(reduced(network, inputs), expected)


def test_only_what_is_reduced_is_bfloat16_and_only_within() -> None:
    network, inputs = torch.nn.Linear(64, 64), torch.randn(8, 64)
    expected = network(inputs)
    exact = inputs.double() @ network.weight.double().T + network.bias.double()
    with computing("bfloat16", CPU):
        assert torch.equal(network(inputs), expected)
        found = reduced(network, inputs)
    assert found.dtype == torch.float32
    # bfloat16 keeps 8 bits, float32 24.
    assert 2**-11 < ((found - exact).norm() / exact.norm()).item() < 2**-7
    assert ((expected - exact).norm() / exact.norm()).item() < 2**-20
    found.sum().backward()
    assert network.weight.grad is not None
    assert network.weight.grad.dtype == torch.float32
    assert torch.equal(reduced(network, inputs), expected)
    with pytest.raises(KeyError), computing("bfloat16", CPU):
        raise KeyError
    assert torch.equal(reduced(network, inputs), expected)


def test_another_thread_computes_as_ever() -> None:
    network, inputs = torch.nn.Linear(64, 64), torch.randn(8, 64)
    expected = network(inputs)
    with computing("bfloat16", CPU), ThreadPoolExecutor() as threads:
        assert not torch.equal(reduced(network, inputs), expected)
        with computing("float32", CPU):
            assert torch.equal(reduced(network, inputs), expected)
        assert torch.equal(threads.submit(reduced, network, inputs).result(), expected)
