"""Compare our `paper` preset with slac.pytorch on the same weights, batch and noise.

    python benchmarks/slac_parity.py --slac-pytorch PATH_TO_YOUR_CLONE

prints the relative difference of features, posterior means and standard deviations, KL, image
and reward loss, and of the agent's critic target, critic loss, actor loss and temperature loss;
benchmarks/speed.py compares the speed. Terminations are absent from the model's batch:
slac.pytorch masks the rewards of terminal transitions, latentwrap does not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from gymnasium import spaces
from slac_parity_agent import compare_agents
from torch import Tensor

from latentwrap.actions import ActionSpec
from latentwrap.models import SLACConfig, SLACModel, WindowTensors
from latentwrap.pixels import FrameSpec

WINDOWS, ACTIONS, SIZE, ACTION_SIZE = 32, 8, 64, 2
TOLERANCE = 1e-4

# Ours → theirs; each is a sub-network with the same layers in the same order.
_PAIRS = {
    "networks.encoder": "encoder",
    "networks.decoder": "decoder",
    "z1_posterior_first": "z1_posterior_init",
    "z1_posterior": "z1_posterior",
    "z1_prior": "z1_prior",
    "z2_prior_first": "z2_prior_init",
    "z2_prior": "z2_prior",
    "reward": "reward",
}


def main() -> int:
    """Run the comparison; exit code 1 if a term differs by more than the tolerance."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    peer_module = _import_peer(arguments.slac_pytorch)
    torch.manual_seed(arguments.seed)
    peer = peer_module.LatentModel((3, SIZE, SIZE), (ACTION_SIZE,))
    ours = _our_model()
    _copy_weights(peer, ours)
    windows = _random_windows()
    differences = _compare(peer, ours, windows) | compare_agents()
    for name, difference in differences.items():
        print(f"{name:>22}  relative difference {difference:.2e}")
    if arguments.json:
        print(json.dumps({"differences": differences}))
    return int(max(differences.values()) > TOLERANCE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--slac-pytorch", type=Path, required=True, help="a clone of slac.pytorch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def _import_peer(path: Path) -> ModuleType:
    sys.path.insert(0, str(path))
    warnings.simplefilter("ignore")  # it uses deprecated TorchScript classes
    return importlib.import_module("slac.network.latent")


def _our_model() -> SLACModel:
    action = ActionSpec(spaces.Box(-1, 1, (ACTION_SIZE,)))
    model = SLACModel(SLACConfig(), FrameSpec(height=SIZE, width=SIZE), action)
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def _copy_weights(peer: Any, ours: SLACModel) -> None:
    for our_name, peer_name in _PAIRS.items():
        mine = list(ours.get_submodule(our_name).parameters())
        theirs = list(getattr(peer, peer_name).parameters())
        for target, source in zip(mine, theirs, strict=True):
            target.copy_(source)


def _random_windows() -> WindowTensors:
    frames = torch.randint(0, 256, (WINDOWS, ACTIONS + 1, SIZE, SIZE, 3), dtype=torch.uint8)
    actions = torch.rand(WINDOWS, ACTIONS, ACTION_SIZE) * 2 - 1
    return WindowTensors(
        frames, actions, torch.randn(WINDOWS, ACTIONS), torch.zeros(WINDOWS, ACTIONS)
    )


def _peer_batch(windows: WindowTensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    assert windows.rewards is not None
    states = windows.frames.permute(0, 1, 4, 2, 3).float().div(255).contiguous()
    rewards = windows.rewards[..., None]
    return states, windows.actions, rewards, torch.zeros_like(rewards)


def _peer_noise(seed: int, ours: SLACModel) -> Tensor:
    """The noise that slac.pytorch draws after `manual_seed(seed)`: z1 then z2, frame by frame."""
    torch.manual_seed(seed)
    sizes = (ours.config.z1, ours.config.z2)
    frames = [
        torch.cat([torch.randn(WINDOWS, size) for size in sizes], dim=-1)
        for _ in range(ACTIONS + 1)
    ]
    return torch.stack(frames, dim=1)


@torch.no_grad()
def _compare(peer: Any, ours: SLACModel, windows: WindowTensors) -> dict[str, float]:
    states, actions, rewards, done = _peer_batch(windows)
    draws = _peer_noise(1, ours)
    features = peer.encoder(states)
    torch.manual_seed(1)
    mean, std, z1, z2 = peer.sample_posterior(features, actions)
    torch.manual_seed(1)
    kl, image, reward = peer.calculate_loss(states, actions, rewards, done)
    our_features = ours.encode(windows.frames.flatten(0, 1)).unflatten(0, features.shape[:2])
    posterior = ours.infer(our_features, actions, draws)
    # The last number of each frame draws which are reconstructed; here all are.
    noise = torch.cat([draws, torch.zeros(WINDOWS, ACTIONS + 1, 1)], dim=-1)
    terms = ours.loss(windows, noise).terms
    pairs = {
        "features": (our_features, features),
        "posterior mean": (posterior.q.mean, mean),
        "posterior std": (posterior.q.std, std),
        "z1": (posterior.z1, z1),
        "z2": (posterior.z2, z2),
        "KL": (terms["kl"], kl),
        "image loss": (terms["image"], image),
        "reward loss": (terms["reward"], reward),
    }
    return {name: _relative(mine, theirs) for name, (mine, theirs) in pairs.items()}


def _relative(mine: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest magnitude."""
    return float((mine - theirs).abs().max() / theirs.abs().max())


if __name__ == "__main__":
    raise SystemExit(main())
