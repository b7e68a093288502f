"""The folder of a training run: resumed, and refused where it does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from tests.conftest import make_tiny_model

from latentwrap.agents import SAC
from latentwrap.agents.run_folder import AgentRun
from latentwrap.agents.runs import TrainResult, evaluate_random, train_agent
from latentwrap.datasets import collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError, OutputExists
from latentwrap.models import save_model
from latentwrap.pixels import FrameSpec
from latentwrap.runlog import read_metrics

OPTIONS = {"hidden": (16, 16), "batch_size": 16, "learning_starts": 10}


def train(model: Path, folder: Path, *, steps: int, **arguments: Any) -> TrainResult:
    return train_agent(
        PIXEL_PENDULUM, model, folder, steps=steps, device="cpu", evaluate_every=100,
        evaluation_episodes=1, final_episodes=2, **{"options": OPTIONS, **arguments},
    )  # fmt: skip


def test_a_run_is_resumed_to_the_asked_number_of_steps(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    folder = tmp_path / "run"
    assert train(tiny_checkpoint, folder, steps=250).steps == 250
    result = train(tiny_checkpoint, folder, steps=400, resume=True)
    assert result.steps == 400
    assert len(result.evaluation.returns) == 2
    run = AgentRun(folder)
    rows = read_metrics(run.evaluations_path)
    assert [row["step"] for row in rows] == [100, 200, 300, 400]
    agent = run.load_agent(run.make_env())
    assert agent.num_timesteps == len(agent.replay) == 400


def test_a_run_may_step_in_a_process_of_its_own(tmp_path: Path, tiny_checkpoint: Path) -> None:
    threads, folder = torch.get_num_threads(), tmp_path / "run"
    assert train(tiny_checkpoint, folder, steps=60, overlap=True).steps == 60
    result = train(tiny_checkpoint, folder, steps=120, overlap=True, resume=True)
    assert torch.get_num_threads() == threads
    assert (result.begun_at, result.steps) == (60, 120)
    run = AgentRun(folder)
    assert len(run.load_agent(run.make_env()).replay) == 120
    assert train(tiny_checkpoint, folder, steps=130, resume=True).steps == 130


def test_the_best_agent_outlives_a_resume(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = tmp_path / "run"
    train(tiny_checkpoint, folder, steps=200)
    run = AgentRun(folder)
    metrics = run.evaluations_path
    # A return that nothing beats: the resumed run must leave the agent that earned it.
    metrics.write_text("step,evaluation/return\n100,0.5\n", encoding="utf-8")
    best = (folder / "best.safetensors").read_bytes()
    train(tiny_checkpoint, folder, steps=300, resume=True)
    assert (folder / "best.safetensors").read_bytes() == best


def test_a_finished_run_is_only_evaluated_again(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = tmp_path / "run"
    first = train(tiny_checkpoint, folder, steps=150)
    again = train(tiny_checkpoint, folder, steps=150, resume=True)
    assert again.steps == 150
    assert again.evaluation.returns == first.evaluation.returns


def test_an_existing_run_is_not_overwritten(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = tmp_path / "run"
    train(tiny_checkpoint, folder, steps=20)
    with pytest.raises(OutputExists, match="exists already"):
        train(tiny_checkpoint, folder, steps=20)
    train(tiny_checkpoint, folder, steps=30, force=True)
    assert AgentRun(folder).load_agent(AgentRun(folder).make_env()).num_timesteps == 30


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"seed": 7}, "seed"), ({"options": {**OPTIONS, "gamma": 0.5}}, r"config\.gamma")],
)
def test_a_run_is_not_resumed_with_other_arguments(
    tmp_path: Path, tiny_checkpoint: Path, changes: dict[str, Any], name: str
) -> None:
    folder = tmp_path / "run"
    train(tiny_checkpoint, folder, steps=20)
    with pytest.raises(CheckpointError, match=f"another {name} "):
        train(tiny_checkpoint, folder, steps=40, resume=True, **changes)


def test_a_run_from_before_an_option_existed_is_resumed(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    folder = tmp_path / "run"
    train(tiny_checkpoint, folder, steps=20)
    card = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del card["config"]["entropy_share"]
    (folder / "run.json").write_text(json.dumps(card), encoding="utf-8")
    assert train(tiny_checkpoint, folder, steps=30, resume=True).steps == 30


def test_an_agent_of_discrete_actions_is_trained_from_pixels_and_resumed(tmp_path: Path) -> None:
    model, data, folder = tmp_path / "m.safetensors", tmp_path / "data.h5", tmp_path / "run"
    frame = FrameSpec(height=16, width=16, source_height=400, source_width=600)
    save_model(model, make_tiny_model(frame=frame, action_space=spaces.Discrete(2)), training={})
    collect("CartPole-v1", data, steps=40, height=16, width=16)
    for steps in (30, 45):
        result = train_agent(
            "CartPole-v1", model, folder, steps=steps, data=data, options=OPTIONS, device="cpu",
            evaluate_every=20, evaluation_episodes=1, final_episodes=2, resume=steps > 30,
        )  # fmt: skip
        assert result.steps == steps
    assert set(result.evaluation.lengths) == set(result.evaluation.returns)  # one for each step
    run = AgentRun(folder)
    agent = run.load_agent(run.make_env(), best=True)
    assert agent.action_space == spaces.Discrete(2)


def test_each_part_of_a_run_begins_elsewhere(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Any] = []
    plain = SAC.learn

    def watched(self: SAC, *args: Any, **kwargs: Any) -> SAC:
        assert self.env is not None
        state = self.env.unwrapped.np_random.bit_generator.state["state"]["state"]
        starts.append(state)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(SAC, "learn", watched)
    for steps in (5, 10, 15):
        train(tiny_checkpoint, tmp_path / "run", steps=steps, resume=steps > 5)
    assert len(set(starts)) == 3


def test_a_failed_start_leaves_the_old_run(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = tmp_path / "run"
    train(tiny_checkpoint, folder, steps=20)
    with pytest.raises(CheckpointError):
        train(tmp_path / "none.safetensors", folder, steps=20, force=True)
    assert AgentRun(folder).agent_path.exists()


def test_another_model_is_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder, other = tmp_path / "run", tmp_path / "other.safetensors"
    train(tiny_checkpoint, folder, steps=20)
    save_model(other, make_tiny_model(seed=3), training={})
    with pytest.raises(CheckpointError, match=r"another model_fingerprint .*: repeat the first"):
        train(other, folder, steps=40, resume=True)
    other.replace(tiny_checkpoint)
    with pytest.raises(CheckpointError, match="trained on another model"):
        AgentRun(folder).make_env()


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"no readable run\.json"):
        AgentRun(tmp_path).read_card()


def test_a_random_policy_is_judged_on_the_episodes_of_the_last_evaluation() -> None:
    found = evaluate_random(PIXEL_PENDULUM, 2, seed=3)
    env = gym.make(PIXEL_PENDULUM)
    env.action_space.seed(3)
    expected = []
    for episode in range(2):
        env.reset(seed=10_003 + episode)
        rewards = [env.step(env.action_space.sample())[1] for _ in range(200)]
        expected.append(sum(rewards))
    assert found.returns == pytest.approx(expected)
