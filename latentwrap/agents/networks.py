"""What actors and critics on vectors have in common, whatever the kind of action."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from latentwrap.agents.layers import Dense, Layer, Pass, TwinLinear, backward, run

L = TypeVar("L", bound=Layer)


class Expectation(NamedTuple):
    """Of a policy, for each state.

    Attributes:
        value: E_π[min_i Q_i(s, a)], (B,).
        entropy: H(π(·|s)) in nats, (B,).

    Both are estimates from one action where that is how the policy takes its expectations.
    """

    value: Tensor
    entropy: Tensor


class Decision(NamedTuple):
    """What a policy decides in each of some states.

    Attributes:
        passed: of the actor's layers.
        log_prob: log π(a|s) of the action drawn, (B,), or of all, (B, n).
        action: drawn, (B, A); `None` where expectations are sums over all actions.
        spread: σ ε, how far from the mean it was drawn, (B, A), or `None`.
    """

    passed: Pass
    log_prob: Tensor
    action: Tensor | None = None
    spread: Tensor | None = None

    def rows(self, some: slice) -> Decision:
        """What was decided in some of the states."""
        passed, log_prob, action, spread = self
        chosen = (None if x is None else x[some] for x in (action, spread))
        return Decision(passed.rows(some), log_prob[some], *chosen)


class Stacked(nn.Module, Generic[L]):
    """A network of linear layers.

    Args:
        make: a layer, of its inputs and outputs.
        sizes: of the input, the hidden layers (ReLU after each) and the output.

    Attributes:
        stack: the layers, from the inputs on; a subclass registers them.
    """

    def __init__(self, make: Callable[[int, int], L], sizes: Sequence[int]) -> None:
        super().__init__()
        self.stack = [make(*pair) for pair in pairwise(sizes)]

    @property
    def first(self) -> L:
        """The layer that takes the inputs."""
        return self.stack[0]


class Critics(Stacked[TwinLinear]):
    """Two Q functions of the same shape, computed as one batched product; sizes as of `Stacked`."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(TwinLinear, sizes)
        self.layers = nn.ModuleList(self.stack)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q_1(s, a) and Q_2(s, a), (2, B), of observations (B, d) and stored actions (B, A)."""
        return self.pick(self.judge(observation, action).output, action)

    def judge(self, observation: Tensor, action: Tensor) -> Pass:
        """A pass through both, whose output holds the values, (2, B, out)."""
        return run(self.stack, self._inputs(observation, action).expand(2, -1, -1))

    def pick(self, output: Tensor, action: Tensor) -> Tensor:
        """The values of the actions, (2, B)."""
        raise NotImplementedError

    def backward(self, judged: Pass, grad: Tensor, action: Tensor) -> None:
        """Write the gradient, given ∂L/∂Q_i(s, a), (2, B)."""
        backward(self.stack, judged, self._spread(grad, action))

    def _inputs(self, observation: Tensor, action: Tensor) -> Tensor:
        """What the first layer takes, (B, in)."""
        raise NotImplementedError

    def _spread(self, grad: Tensor, action: Tensor) -> Tensor:
        """∂L/∂(output), (2, B, out), given that of what `pick` takes from it."""
        raise NotImplementedError


class Actor(Stacked[Dense]):
    """A policy π(a|s); its actions are rows as the replay stores them, (B, A).

    Sizes are as of `Stacked`.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(Dense, sizes)
        self.net = nn.Sequential(*_with_relu(self.stack))

    def noise(self, count: int, generator: torch.Generator) -> Tensor | None:  # noqa: ARG002
        """What `decide` draws actions from; `None` where expectations are sums."""
        return None

    def decide(self, observation: Tensor, noise: Tensor | None) -> Decision:
        """What the policy makes of observations (B, d), by noise of `noise`."""
        raise NotImplementedError

    def expect(self, decision: Decision, state: Tensor, critics: Critics) -> Expectation:
        """The value that critics give to the policy, and its entropy.

        Args:
            decision: what it decided.
            state: what the critics see there, (B, k).
            critics: of the same kind of action.
        """
        raise NotImplementedError

    def backward(
        self, decision: Decision, state: Tensor, critics: Critics, temperature: Tensor
    ) -> Expectation:
        """Write the gradient of L = −mean(value + α entropy).

        Args:
            decision, state, critics: as of `expect`.
            temperature: α, a scalar.
        """
        raise NotImplementedError

    def draw(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """a ~ π(·|s)."""
        raise NotImplementedError

    def best(self, observation: Tensor) -> Tensor:
        """The action without noise."""
        raise NotImplementedError


def _with_relu(layers: Sequence[Dense]) -> Iterator[nn.Module]:
    for layer in layers[:-1]:
        yield from (layer, nn.ReLU())
    yield layers[-1]


@torch.no_grad()
def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """torch's default for linear layers, U(±1/√fan_in), but from a given generator."""
    for layer in module.modules():
        if isinstance(layer, Dense):
            bound = layer.in_features**-0.5
        elif isinstance(layer, TwinLinear):
            bound = layer.weight.shape[1] ** -0.5
        else:
            continue
        for parameter in (layer.weight, layer.bias):
            parameter.uniform_(-bound, bound, generator=generator)
