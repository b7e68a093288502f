"""The posterior of an RSSM along windows, with its gradient by hand.

A window is filtered step by step, and every step is a dozen small products and sums. An automatic
gradient remembers each of them, and adds up the gradient of every weight once a step. Here the
gradient goes back through the steps in as few operations as it takes, and that of the weights is
one product over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from latentwrap.models.networks import SLOPE, Activation


class RolloutWeights(NamedTuple):
    """What the steps of a rollout compute with.

    Attributes:
        embed: of s in what enters the memory, (M, S).
        input_weight, input_bias, memory_weight, memory_bias: of the GRU, as torch has them.
        seen: of h in the first layer of the posterior, (H, M).
        deeper: weights and biases of its other layers in turn; the last gives mean and raw std.
    """

    embed: Tensor
    input_weight: Tensor
    input_bias: Tensor
    memory_weight: Tensor
    memory_bias: Tensor
    seen: Tensor
    deeper: tuple[Tensor, ...]


class Rollout(NamedTuple):
    """Of every step: mean and std of q(s_t|h_t, x_t), h_t and a sample s_t; each (B, T, ·)."""

    mean: Tensor
    std: Tensor
    h: Tensor
    s: Tensor


def roll_out(
    taken: Tensor,
    seen: Tensor,
    noise: Tensor,
    weights: RolloutWeights,
    *,
    activation: Activation,
    min_std: float,
) -> Rollout:
    """Filter windows from h = s = 0 on.

    h_{t+1} = GRU(elu(taken_t + W s_t), h_t); q(s_t|h_t, x_t) = N(μ, (softplus(ρ) + min_std)²),
    (μ, ρ) = layers(seen_t + W h_t); s_t = μ + σ ε_t.

    Args:
        taken: what the actions before the steps contribute, bias included, float32 (B, T, M).
        seen: what the features of the frames contribute, likewise, float32 (B, T, H).
        noise: ε, standard normal, float32 (B, T, S).
        weights: of the layers.
        activation: between the layers of the posterior.
        min_std: smallest standard deviation.
    """
    *others, deeper = weights
    apply = cast(Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]], _Steps.apply)
    return Rollout(*apply(activation, min_std, taken, seen, noise, *others, *deeper))


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        activation: Activation,
        min_std: float,
        taken: Tensor,
        seen: Tensor,
        noise: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        embed, w_in, b_in, w_mem, b_mem, w_seen, *deeper = weights
        layers = _layers(deeper)
        taken, seen, noise = (x.transpose(0, 1).contiguous() for x in (taken, seen, noise))
        size = w_mem.shape[1]
        h, s = taken.new_zeros(len(taken[0]), size), torch.zeros_like(noise[0])
        kept = _Kept.empty(len(layers))
        for t in range(len(taken)):
            # h_{t+1} = GRU(elu(taken_t + W s_t), h_t)
            entered = F.elu(torch.addmm(taken[t], s, embed.t()))
            gates_in = torch.addmm(b_in, entered, w_in.t())
            gates_mem = torch.addmm(b_mem, h, w_mem.t())
            reset, update = (
                (gates_in[:, : 2 * size] + gates_mem[:, : 2 * size]).sigmoid_().chunk(2, dim=1)
            )
            new = torch.addcmul(gates_in[:, 2 * size :], reset, gates_mem[:, 2 * size :]).tanh_()
            kept.step(s, h, entered, reset, update, new, gates_mem[:, 2 * size :])
            h = torch.lerp(new, h, update)
            # (μ, ρ) = layers(seen_t + W h_t)
            raw = torch.addmm(seen[t], h, w_seen.t())
            for values, (weight, bias) in zip(kept.hidden, layers, strict=True):
                values.append(_activate(raw, activation))
                raw = torch.addmm(bias, values[-1], weight.t())
            mean, free = raw.chunk(2, dim=1)
            # s_t = μ + σ ε_t
            std = F.softplus(free) + min_std
            s = torch.addcmul(mean, std, noise[t])
            kept.outcome(mean, std, h, s)
        ctx.activation, ctx.min_std, ctx.depth = activation, min_std, len(layers)
        series = kept.stacked()
        ctx.save_for_backward(noise, *weights, *series)
        return tuple(x.transpose(0, 1) for x in series[-4:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        count = 6 + 2 * ctx.depth
        noise, *saved = ctx.saved_tensors
        weights, series = saved[:count], saved[count:]
        embed, w_in, _, w_mem, _, w_seen, *deeper = weights
        layers, hidden = _layers(deeper), series[7:-4]
        s_before, h_before, entered, reset, update, new, new_mem = series[:7]
        std, h = series[-3], series[-2]
        by_mean, by_std, by_h, by_s = (x.transpose(0, 1).contiguous() for x in grads)
        # softplus′(ρ) = 1 − exp(−softplus(ρ))
        of_std = -torch.expm1(ctx.min_std - std)
        # Of h_{t+1} = (1 − z) n + z h, n = tanh(i + r m), by the sums that enter n, r and z.
        of_new = (1 - update) * (1 - new.square())
        of_reset = new_mem * reset * (1 - reset)
        of_update = (h_before - new) * update * (1 - update)
        size = h.shape[2]
        by_raw = torch.empty(*noise.shape[:2], 2 * noise.shape[2], dtype=h.dtype, device=h.device)
        by_in = h.new_empty(*h.shape[:2], 3 * size)
        by_mem, by_taken = torch.empty_like(by_in), torch.empty_like(entered)
        by_hidden = [torch.empty_like(values) for values in hidden]
        carried_h, carried_s = torch.zeros_like(h[0]), torch.zeros_like(by_s[0])
        for t in reversed(range(len(h))):
            by_sample = by_s[t] + carried_s
            mean, free = by_raw[t].chunk(2, dim=1)
            torch.add(by_mean[t], by_sample, out=mean)
            torch.addcmul(by_std[t], by_sample, noise[t], out=free).mul_(of_std[t])
            grad = by_raw[t]
            for index in reversed(range(len(layers))):
                back = torch.mm(grad, layers[index][0])
                grad = by_hidden[index][t]
                grad.copy_(_back(back, hidden[index][t], ctx.activation))
            by_memory = torch.addmm(by_h[t] + carried_h, grad, w_seen)
            by_new = torch.mul(by_memory, of_new[t], out=by_in[t, :, 2 * size :])
            torch.mul(by_new, of_reset[t], out=by_in[t, :, :size])
            torch.mul(by_memory, of_update[t], out=by_in[t, :, size : 2 * size])
            by_mem[t, :, : 2 * size] = by_in[t, :, : 2 * size]
            torch.mul(by_new, reset[t], out=by_mem[t, :, 2 * size :])
            carried_h = torch.addmm(by_memory * update[t], by_mem[t], w_mem)
            by_taken[t] = _back(torch.mm(by_in[t], w_in), entered[t], "elu")
            carried_s = torch.mm(by_taken[t], embed)
        by_seen = by_hidden[0] if layers else by_raw
        gradients = [
            _product(by_taken, s_before),
            _product(by_in, entered),
            by_in.sum(dim=(0, 1)),
            _product(by_mem, h_before),
            by_mem.sum(dim=(0, 1)),
            _product(by_seen, h),
        ]
        for index, values in enumerate(hidden):
            later = by_hidden[index + 1] if index + 1 < len(layers) else by_raw
            gradients += [_product(later, values), later.sum(dim=(0, 1))]
        return None, None, by_taken.transpose(0, 1), by_seen.transpose(0, 1), None, *gradients


class _Kept(NamedTuple):
    """What the gradient needs of every step."""

    before: tuple[list[Tensor], ...]
    hidden: tuple[list[Tensor], ...]
    after: tuple[list[Tensor], ...]

    @classmethod
    def empty(cls, depth: int) -> _Kept:
        return cls(*(tuple([] for _ in range(count)) for count in (7, depth, 4)))

    def step(self, *values: Tensor) -> None:
        for series, value in zip(self.before, values, strict=True):
            series.append(value)

    def outcome(self, *values: Tensor) -> None:
        for series, value in zip(self.after, values, strict=True):
            series.append(value)

    def stacked(self) -> list[Tensor]:
        """Each (T, B, ·)."""
        return [torch.stack(series) for part in self for series in part]


def _layers(deeper: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of weight and bias."""
    return list(zip(deeper[::2], deeper[1::2], strict=True))


def _product(grads: Tensor, inputs: Tensor) -> Tensor:
    """Σ_t grad_tᵀ input_t, the gradient of a weight."""
    return torch.mm(grads.flatten(0, 1).t(), inputs.flatten(0, 1))


def _activate(x: Tensor, activation: Activation) -> Tensor:
    return F.elu(x) if activation == "elu" else F.leaky_relu(x, SLOPE)


def _back(grad: Tensor, output: Tensor, activation: Activation) -> Tensor:
    """Through the activation that gave `output`."""
    passed: Tensor
    if activation == "elu":
        passed = torch.ops.aten.elu_backward(grad, 1.0, 1.0, 1.0, True, output)  # noqa: FBT003
    else:
        passed = torch.ops.aten.leaky_relu_backward(grad, output, SLOPE, True)  # noqa: FBT003
    return passed
