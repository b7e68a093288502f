"""Collecting with a trained agent: it does there what it does in its own environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.agents.test_runs import train
from tests.conftest import make_tiny_model

from latentwrap.agents.collecting import AgentPolicy
from latentwrap.agents.run_folder import AgentRun
from latentwrap.agents.runs import Watching
from latentwrap.datasets import Dataset, collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError, ConfigError, DatasetError
from latentwrap.joint.runs import JointOptions, train_joint
from latentwrap.models import save_model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = tmp_path / "tiny.safetensors"
    save_model(model, make_tiny_model(), training={})
    train(model, tmp_path / "run", steps=50)
    return tmp_path / "run"


@pytest.fixture
def joint_run(tmp_path: Path) -> Path:
    """Of an actor that sees features and actions, and a model that learned with it."""
    training = {"window": 4, "batch_size": 2}
    agent = {"hidden": (8,), "batch_size": 4, "learning_starts": 10, "initial_model_updates": 2}
    options = JointOptions(
        model_options=training, agent_options=agent, making={"height": 16, "width": 16}
    )
    watching = Watching(every=25, episodes=1, final_episodes=1)
    train_joint(PIXEL_PENDULUM, tmp_path / "joint", steps=25, options=options, watching=watching)
    return tmp_path / "joint"


def gather(path: Path, policy: AgentPolicy, **options: Any) -> Dataset:
    chosen = {"steps": 60, "seed": 3, "height": 16, "width": 16, **options}
    collect(PIXEL_PENDULUM, path, policy=policy, **chosen)
    return Dataset(path)


@pytest.mark.parametrize("kind", ["run", "joint_run"])
def test_it_acts_as_in_its_own_environment(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(kind)
    data = gather(tmp_path / "a.h5", AgentPolicy(run, deterministic=True), steps=250)
    env = AgentRun(run).make_env()
    agent = AgentRun(run).load_policy(env)
    latent, _ = env.reset(seed=3)
    for number in range(2):
        episode = data.episode(number)
        for action in episode.actions:
            mine, _ = agent.predict(latent, deterministic=True)
            np.testing.assert_allclose(action, mine, atol=1e-3)
            latent = env.step(action)[0]  # so that rounding does not add up
        latent, _ = env.reset()
    provenance = data.info.provenance
    assert provenance["policy"] == f"agent:{run}"
    assert provenance["policy_options"]["model"] == env.model_fingerprint


def test_samples_come_from_the_seed(run: Path, tmp_path: Path) -> None:
    prints = [
        gather(tmp_path / f"{name}.h5", AgentPolicy(run, epsilon=0.2), seed=seed).fingerprint()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_run_is_resumed_with_the_same_policy_only(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    gather(path, AgentPolicy(run))
    with pytest.raises(DatasetError, match="begun with policy_options"):
        gather(path, AgentPolicy(run, epsilon=0.5), steps=90, resume=True)
    assert gather(path, AgentPolicy(run), steps=90, resume=True).num_transitions == 90


def test_what_does_not_fit_is_refused_before_anything_is_written(
    run: Path, joint_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="pass --size 16x16"):
        gather(folder / "a.h5", AgentPolicy(run), height=24, width=24)
    with pytest.raises(ConfigError, match="a share from 0 to 1, got 2"):
        AgentPolicy(run, epsilon=2)
    with pytest.raises(CheckpointError, match="pass --size 16x16"):
        gather(folder / "a.h5", AgentPolicy(joint_run), height=24, width=24)
    with pytest.raises(CheckpointError, match="no folder that latentwrap train wrote"):
        gather(folder / "a.h5", AgentPolicy(tmp_path))
    save_model(tmp_path / "other.safetensors", make_tiny_model(seed=1), training={})
    with pytest.raises(CheckpointError, match="trained on another model"):
        gather(folder / "a.h5", AgentPolicy(run, model=tmp_path / "other.safetensors"))
    assert list(folder.iterdir()) == []
