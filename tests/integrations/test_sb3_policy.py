"""Policies of Stable-Baselines3: the actions of its own `load`, and no code of the file run."""

from __future__ import annotations

import base64
import io
import json
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from tests.conftest import make_tiny_model

import latentwrap
from latentwrap.datasets import Dataset, collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError
from latentwrap.integrations.sb3_files import load_policy
from latentwrap.integrations.sb3_policy import SB3Policy
from latentwrap.models import save_model

KINDS: list[tuple[Any, str, dict[str, Any]]] = [
    (sb3.SAC, "Pendulum-v1", {"net_arch": {"pi": [8, 8], "qf": [16]}, "n_critics": 1}),
    (sb3.SAC, "Pendulum-v1", {"log_std_init": -2.0}),
    (sb3.TD3, "Pendulum-v1", {"activation_fn": torch.nn.Tanh}),
    (sb3.DDPG, "Pendulum-v1", {}),
    (sb3.PPO, "CartPole-v1", {"net_arch": [8], "ortho_init": False}),
    (sb3.A2C, "Pendulum-v1", {"log_std_init": -1.0}),
    (sb3.DQN, "CartPole-v1", {}),
]


@pytest.mark.parametrize(("kind", "env_id", "kwargs"), KINDS)
def test_it_acts_as_the_loaded_one(
    tmp_path: Path, kind: Any, env_id: str, kwargs: dict[str, Any]
) -> None:
    env = gym.make(env_id)
    kind("MlpPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu").save(tmp_path / "a")
    mine = load_policy(tmp_path / "a.zip", env.action_space)
    theirs = kind.load(tmp_path / "a.zip", device="cpu")
    rows = np.random.default_rng(0).normal(size=(16, *env.observation_space.shape))
    expected = theirs.predict(rows.astype(np.float32), deterministic=True)[0]
    found = mine.predict(rows.astype(np.float32), deterministic=True)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


class Image(gym.Env):
    """Observes noise."""

    observation_space = spaces.Box(0, 255, (36, 40, 3), np.uint8)
    action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(seed=kwargs.get("seed"))
        self.t = 0
        return self.np_random.integers(0, 256, (36, 40, 3), np.uint8), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        frame = self.np_random.integers(0, 256, (36, 40, 3), np.uint8)
        return frame, 0.0, self.t == 4, False, {}


def test_a_policy_on_frames(tmp_path: Path) -> None:
    model = sb3.PPO("CnnPolicy", Image(), n_steps=8, batch_size=8, seed=0, device="cpu")
    model.save(tmp_path / "cnn")
    spec = gym.envs.registration.EnvSpec("Image-v0", entry_point=Image)
    path = tmp_path / "a.h5"
    policy = SB3Policy(tmp_path / "cnn.zip", deterministic=True)
    collect(spec, path, steps=10, height=36, width=40, policy=policy)
    data = Dataset(path)
    for number in range(data.num_episodes):
        episode = data.episode(number)
        expected = model.predict(episode.frames[:-1].transpose(0, 3, 1, 2), deterministic=True)[0]
        np.testing.assert_allclose(episode.actions, expected, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"observes images.*name their size by --size"):
        collect(spec, tmp_path / "b.h5", steps=10, policy=policy)


@pytest.mark.parametrize("loaded", [False, True])
def test_a_policy_on_latents(tmp_path: Path, loaded: bool) -> None:
    ckpt = tmp_path / "tiny.safetensors"
    save_model(ckpt, make_tiny_model(), training={})
    env = latentwrap.LatentObservation(gym.make(PIXEL_PENDULUM), ckpt)
    agent = sb3.SAC("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [8]})
    agent.save(tmp_path / "sac")
    source = agent if loaded else tmp_path / "sac.zip"
    policy = SB3Policy(source, model=ckpt, deterministic=True)
    path = tmp_path / "a.h5"
    collect(PIXEL_PENDULUM, path, steps=60, seed=3, height=16, width=16, policy=policy)
    latent, _ = env.reset(seed=3)
    for action in Dataset(path).episode(0).actions:
        np.testing.assert_allclose(action, agent.predict(latent, deterministic=True)[0], atol=1e-3)
        latent = env.step(action)[0]


def test_samples_come_from_the_seed_and_leave_torch_alone(tmp_path: Path) -> None:
    ckpt = tmp_path / "tiny.safetensors"
    save_model(ckpt, make_tiny_model(), training={})
    env = latentwrap.LatentObservation(gym.make(PIXEL_PENDULUM), ckpt)
    agent = sb3.PPO("MlpPolicy", env, seed=0, device="cpu", n_steps=8, batch_size=8)
    prints = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = tmp_path / f"{name}.h5"
        policy = SB3Policy(agent, model=ckpt)
        collect(PIXEL_PENDULUM, path, steps=20, seed=seed, height=16, width=16, policy=policy)
        prints.append(Dataset(path).fingerprint())
    assert prints[0] == prints[1] != prints[2]
    act = SB3Policy(agent, model=ckpt).fit(Dataset(path).info)(0).act_with_vectors
    before = torch.get_rng_state()
    frames = np.zeros((1, 16, 16, 3), np.uint8)
    chosen = [act(frames, np.array([start]), None) for start in (True, False, False)]
    assert len(np.unique(chosen)) == 3
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    sb3.SAC("MlpPolicy", gym.make("Pendulum-v1"), device="cpu").save(tmp_path / "sac")
    return tmp_path / "sac.zip"


def rewritten(
    path: Path, *, compression: int = zipfile.ZIP_STORED, **changes: Callable[[bytes], bytes]
) -> Path:
    """A copy with some members changed; `policy` is policy.pth."""
    other = path.with_name(f"other-{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w", compression) as target:
        for name in source.namelist():
            change = changes.get(name.partition(".")[0], bytes)
            target.writestr(name, change(source.read(name)))
    return other


def with_setting(path: Path, name: str, value: Any) -> Path:
    def change(data: bytes) -> bytes:
        return json.dumps({**json.loads(data), name: value}).encode()

    return rewritten(path, data=change)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "pwned")


def test_no_code_of_the_file_is_run(saved: Path, tmp_path: Path) -> None:
    trap, space = tmp_path / "trap", gym.make("Pendulum-v1").action_space
    pickled = pickle.dumps(Evil(trap))
    text = {":type:": "<class 'abc.ABCMeta'>", ":serialized:": base64.b64encode(pickled).decode()}
    with zipfile.ZipFile(saved) as archive:
        settings = json.loads(archive.read("data"))
    poisoned = {
        name: {**value, ":serialized:": text[":serialized:"]}
        for name, value in settings.items()
        if isinstance(value, dict) and ":serialized:" in value and name != "policy_class"
    }
    everywhere = rewritten(saved, data=lambda data: json.dumps({**settings, **poisoned}).encode())
    load_policy(everywhere, space)  # what is written in plain words is all that is read
    with pytest.raises(CheckpointError, match=r"cannot be rebuilt|holds the policy"):
        load_policy(with_setting(saved, "policy_class", text), space)
    weights = io.BytesIO()
    torch.save({"a": Evil(trap)}, weights)
    with pytest.raises(CheckpointError, match="cannot be rebuilt"):
        load_policy(rewritten(saved, policy=lambda _: weights.getvalue()), space)
    assert not trap.exists()
    pickle.loads(pickled)  # noqa: S301 - the trap works
    assert trap.exists()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("policy_kwargs", {"net_arch": [10**9]}, "policy_kwargs net_arch"),
        ("policy_kwargs", {"net_arch": [60_000] * 30}, "cannot be rebuilt"),
        ("policy_kwargs", {"features_extractor_class": "<class 'mine.Mine'>"}, "load it yourself"),
        ("policy_kwargs", {"activation_fn": "<class 'os.system'>"}, "policy_kwargs activation_fn"),
        ("policy_kwargs", {"net_arch": [7]}, "cannot be rebuilt"),
        ("observation_space", {":type:": "x.Dict'>", "_shape": [3]}, "cannot be rebuilt"),
        ("action_space", {":type:": "<class 'x.Discrete'>", "n": "4"}, "acts in a Discrete space"),
        ("action_space", 3, "cannot be rebuilt"),
    ],
)
def test_strange_settings_are_one_sentence(
    saved: Path, name: str, value: Any, sentence: str
) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        load_policy(with_setting(saved, name, value), gym.make("Pendulum-v1").action_space)


HUGE = """
import resource, sys
from gymnasium import spaces
from latentwrap.errors import CheckpointError
from latentwrap.integrations.sb3_files import load_policy

resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))
try:
    load_policy(sys.argv[1], spaces.Box(-2, 2, (1,)))
except CheckpointError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
@pytest.mark.parametrize("attack", ["settings", "weights", "member", "record"])
def test_a_small_file_costs_little(tmp_path: Path, attack: str) -> None:
    """A large image through wide layers, whose first weights would take 6 GB."""
    model = sb3.PPO("CnnPolicy", Image(), n_steps=8, batch_size=8, device="cpu")
    model.save(tmp_path / "cnn")
    path = with_setting(
        tmp_path / "cnn.zip",
        "policy_kwargs",
        {"features_extractor_kwargs": {"features_dim": 16_000}, "net_arch": [60_000] * 8},
    )
    weights = {"a": torch.zeros(1).expand(2**16, 2**16)} if attack == "weights" else {}
    stored = io.BytesIO()
    torch.save(weights, stored)
    content = bytes(2**28) if attack == "member" else stored.getvalue()
    if attack == "record":
        content = recompressed(content, bytes(2**28))
    path = rewritten(path, policy=lambda _: content, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    command = [sys.executable, "-c", HUGE, str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = {
        "settings": "Error\\(s\\) in loading state_dict",
        "weights": "no plain arrays",
        "member": "too large for a policy",
        "record": "weights are compressed",
    }
    assert re.search(expected[attack], found.stdout), found.stdout


def recompressed(weights: bytes, more: bytes) -> bytes:
    """What torch saved, with another record that is small only in the file."""
    content = io.BytesIO(weights)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", more)
    return content.getvalue()


@pytest.mark.parametrize("kind", [sb3.SAC, sb3.PPO])
def test_noise_for_exploration_comes_from_the_weights_of_the_file(
    tmp_path: Path, kind: Any
) -> None:
    env = gym.make("Pendulum-v1")
    model = kind("MlpPolicy", env, use_sde=True, device="cpu")
    with torch.no_grad():
        getattr(model.policy, "actor", model.policy).log_std.fill_(-20.0)
    model.save(tmp_path / "sde")
    policy = load_policy(tmp_path / "sde.zip", env.action_space)
    noise = getattr(policy, "actor", policy).action_dist.exploration_mat
    assert 0 < float(noise.detach().abs().max()) < 1e-6
    row = np.ones(3, np.float32)
    expected = model.predict(row, deterministic=True)[0]
    np.testing.assert_allclose(policy.predict(row, deterministic=True)[0], expected, atol=1e-6)
    np.testing.assert_allclose(policy.predict(row)[0], expected, atol=1e-5)
    assert not any(value.is_meta for value in [*policy.parameters(), *policy.buffers()])


def test_other_actions_are_refused(saved: Path) -> None:
    for space in (spaces.Box(-1, 1, (1,)), spaces.Box(-2, 2, (2,)), spaces.Discrete(2)):
        with pytest.raises(CheckpointError, match="acts in a Box space"):
            load_policy(saved, space)


def test_what_is_no_such_file_is_one_sentence(tmp_path: Path) -> None:
    space = spaces.Discrete(2)
    with pytest.raises(CheckpointError, match="There is no file"):
        load_policy(tmp_path / "none.zip", space)
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(CheckpointError, match="no file of Stable-Baselines3"):
        load_policy(tmp_path / "text.zip", space)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("data", "[]")
        archive.writestr("policy.pth", "")
    with pytest.raises(CheckpointError, match="no JSON object"):
        load_policy(tmp_path / "empty.zip", space)
