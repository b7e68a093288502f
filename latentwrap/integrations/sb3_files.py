"""Reading what Stable-Baselines3 saves, without running the code that such a file can hold."""

from __future__ import annotations

import base64
import io
import json
import math
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from latentwrap.envs.frames import first_line
from latentwrap.errors import CheckpointError
from latentwrap.extras import require
from latentwrap.integrations.sb3_weights import built

_MOST_BYTES = {"data": 2**26, "policy.pth": 2**31}
_FREE_BYTES = 2**26
"""Of a member, however small it is in the file; beyond them it has at most eight times its size."""

_WIDEST, _DEEPEST, _LARGEST = 2**16, 32, 2**22
"""A layer, a network, an observation; more is no policy but an attack on the memory."""

_SERIALIZED = ":serialized:"
_POLICIES = {
    ("sac", "SACPolicy"),
    ("sac", "CnnPolicy"),
    ("td3", "TD3Policy"),
    ("td3", "CnnPolicy"),
    ("dqn", "DQNPolicy"),
    ("dqn", "CnnPolicy"),
    ("common", "ActorCriticPolicy"),
    ("common", "ActorCriticCnnPolicy"),
}
_EXTRACTORS = {"FlattenExtractor", "NatureCNN"}
_FLAGS = {
    "use_sde", "use_expln", "squash_output", "full_std", "share_features_extractor",
    "normalize_images", "ortho_init",
}  # fmt: skip
_UNUSED = {"optimizer_class", "optimizer_kwargs", ":type:", _SERIALIZED, "device"}


def load_policy(path: str | Path, actions: spaces.Space[Any]) -> Any:
    """The policy in a .zip file of `save`, on the CPU.

    Args:
        path: the file.
        actions: action space of the environment, which must be the policy's.

    Returns:
        A `stable_baselines3.common.policies.BasePolicy`.

    Raises:
        CheckpointError: missing, foreign or damaged; another action space; or a policy of another
            make than the standard ones.
        MissingExtra: Stable-Baselines3 is not installed.
    """
    require("stable_baselines3", extra="sb3", purpose="A policy sb3:FILE")
    settings, weights = _read(Path(path))
    try:
        _check_actions(settings["action_space"], actions, path)
        observed = _observations(settings["observation_space"])
        arguments = _arguments(settings.get("policy_kwargs") or {}, path)
        if settings.get("use_sde") is True:  # PPO and A2C write it beside them
            arguments["use_sde"] = True
        kind = _policy_class(settings["policy_class"], path)
        policy = built(lambda: kind(observed, actions, lambda _: 0.0, **arguments), weights)
    except CheckpointError:
        raise
    except Exception as error:
        # The file is a stranger's: whatever is amiss with it is said in a sentence.
        raise CheckpointError(
            f"The policy in {path} cannot be rebuilt from its settings and weights "
            f"({type(error).__name__}: {first_line(error)}): save it anew, or load it yourself and "
            "pass SB3Policy(model) to collect."
        ) from error
    policy.set_training_mode(False)
    return policy


def _read(path: Path) -> tuple[dict[str, Any], io.BytesIO]:
    """Settings, and the bytes of the weights."""
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}: name the .zip that model.save wrote.")
    try:
        with zipfile.ZipFile(path) as archive:
            for name, most in _MOST_BYTES.items():
                member = archive.getinfo(name)
                if member.file_size > min(most, _FREE_BYTES + 8 * member.compress_size):
                    raise CheckpointError(
                        f"{path} is too large for a policy: {name} has {member.file_size} B, in "
                        f"{member.compress_size} B of the file."
                    )
            settings = json.loads(archive.read("data"))
            weights = archive.read("policy.pth")
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is no file of Stable-Baselines3 ({first_line(error)}): name the .zip that "
            "model.save wrote."
        ) from None
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{path} is no file of Stable-Baselines3: its data is no JSON object."
        )
    return settings, io.BytesIO(weights)


def _policy_class(stored: Mapping[str, Any], path: str | Path) -> Any:
    """The class that a pickle names, told by reading its opcodes: nothing of it is run."""
    module, name = _named(base64.b64decode(stored[_SERIALIZED]))
    package = re.fullmatch(r"stable_baselines3\.(\w+)\.policies", module)
    if package is None or (package[1], name) not in _POLICIES:
        raise CheckpointError(
            f"{path} holds the policy {module}.{name}, only the MlpPolicy and CnnPolicy of "
            "Stable-Baselines3 are rebuilt without running code from the file: load it yourself "
            "and pass SB3Policy(model) to collect."
        )
    return getattr(require(module, extra="sb3", purpose="A policy sb3:FILE"), name)


def _named(pickled: bytes) -> tuple[str, str]:
    """Module and name of a pickled class."""
    words: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("SHORT_BINUNICODE", "BINUNICODE", "UNICODE"):
            words.append(str(argument))
        elif opcode.name == "GLOBAL":
            words.extend(str(argument).split(" "))
    if len(words) != 2:
        raise ValueError(f"its policy class is {', '.join(words[:3]) or 'nothing'}")
    return words[0], words[1]


def _observations(stored: Mapping[str, Any]) -> spaces.Box:
    """The space of the observations; of its bounds only whether it is an image matters."""
    shape = tuple(int(side) for side in stored["_shape"])
    if not stored[":type:"].endswith(".Box'>") or not 1 <= len(shape) <= 3:
        raise ValueError(f"it observes {stored[':type:']}")
    if math.prod(shape) > _LARGEST:
        raise ValueError(f"it observes arrays of shape {shape}")
    if str(stored["dtype"]) == "uint8":
        return spaces.Box(0, 255, shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


def _check_actions(stored: Mapping[str, Any], space: spaces.Space[Any], path: str | Path) -> None:
    """Compare what the file writes out of its action space with the environment's."""
    kind = str(stored[":type:"]).rpartition(".")[2].rstrip("'>")
    named = {name: stored[name] for name in ("low", "high", "n", "start", "nvec") if name in stored}
    same = type(space).__name__ == kind and all(
        _alike(text, getattr(space, name)) for name, text in named.items()
    )
    if not same:
        shown = ", ".join(f"{name} {text}" for name, text in named.items())
        raise CheckpointError(
            f"The policy in {path} acts in a {kind} space ({shown}), the environment takes "
            f"{space}: train it on such an environment."
        )


def _alike(text: Any, value: Any) -> bool:
    """Whether a text shows these numbers; NumPy's prints eight digits, and leaves out of many."""
    mine, theirs = (
        re.findall(r"-?(?:inf|\d[\d.]*(?:e[+-]?\d+)?)", str(each)) for each in (text, value)
    )
    if len(mine) != len(theirs):
        return False
    return np.allclose([float(m) for m in mine], [float(t) for t in theirs], rtol=1e-5)


def _arguments(stored: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Settings of the networks: numbers, lists of numbers, and names of what torch has."""
    arguments: dict[str, Any] = {}
    for name, value in stored.items():
        if name in _UNUSED:
            continue
        known = _argument(name, value)
        if known is None:
            raise CheckpointError(
                f"{path} was made with policy_kwargs {name}={value!r}, which is not rebuilt "
                "without running code from the file: load it yourself and pass SB3Policy(model) "
                "to collect."
            )
        arguments[name] = known
    return arguments


def _argument(name: str, value: Any) -> Any:
    """The value of an argument; `None` for one that is not known."""
    if name in _FLAGS:
        return value if isinstance(value, bool) else None
    if name == "net_arch":
        return value if _is_architecture(value) else None
    if name == "n_critics":
        return value if isinstance(value, int) and 1 <= value <= _DEEPEST else None
    if name in ("log_std_init", "clip_mean"):
        return float(value) if isinstance(value, int | float) else None
    if name == "activation_fn":
        return _named_class(value, r"torch\.nn\.modules\.activation", torch.nn, None)
    if name == "features_extractor_class":
        from stable_baselines3.common import torch_layers

        return _named_class(
            value, r"stable_baselines3\.common\.torch_layers", torch_layers, _EXTRACTORS
        )
    if name == "features_extractor_kwargs":
        small = isinstance(value, dict) and set(value) <= {"features_dim"}
        return value if small and all(_is_width(each) for each in value.values()) else None
    return None


def _named_class(value: Any, module: str, found_in: Any, allowed: set[str] | None) -> Any:
    named = re.fullmatch(rf"<class '{module}\.(\w+)'>", str(value))
    if named is None or (allowed is not None and named[1] not in allowed):
        return None
    found = getattr(found_in, named[1], None)
    return found if isinstance(found, type) and issubclass(found, torch.nn.Module) else None


def _is_architecture(value: Any) -> bool:
    """Whether it is a list of widths, or such lists by name."""
    if isinstance(value, dict):
        return len(value) <= _DEEPEST and all(_is_architecture(each) for each in value.values())
    if not isinstance(value, list) or len(value) > _DEEPEST:
        return False
    return all(_is_width(each) for each in value)


def _is_width(value: Any) -> bool:
    return isinstance(value, int) and 1 <= value <= _WIDEST
