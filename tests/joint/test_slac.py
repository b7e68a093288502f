"""Model and agent learn together: all that a user does with `SLAC`."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from tests.joint.test_store import contents
from tests.joint.worlds import (
    BOX,
    DISCRETE,
    FRAME,
    MODES,
    QUICK,
    TINY_MODEL,
    VECTORS,
    Diary,
    assert_same_beliefs,
    framed,
    framed_diary,
    make_model,
    make_world,
)

from latentwrap import SLAC, FrameSkip, LatentFilter, LatentObservation, RenderFrame, load_model
from latentwrap.actions import ActionSpec
from latentwrap.agents import Callback, EpisodeStats
from latentwrap.agents.callbacks import SaveEvery
from latentwrap.agents.evaluate import evaluate_policy
from latentwrap.datasets import Dataset, DatasetInfo, DatasetWriter, Episode
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    EnvironmentFailed,
    EnvironmentMismatch,
    LatentwrapError,
)
from latentwrap.evaluation.split import split_for_report
from latentwrap.joint import saving
from latentwrap.joint.models import memory_of
from latentwrap.models import save_model
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec
from latentwrap.wrappers.history import HistoryObservation

VIEWS = pytest.mark.parametrize("actor_input", ["latent", "history"])
WORLDS = pytest.mark.parametrize("mode", [None, *MODES])


def make_agent(mode: Any = None, *, vectors: bool = False, actions: spaces.Space = BOX,
               model: Any = None, **options: Any) -> SLAC:  # fmt: skip
    env, _ = make_world(mode, actions=actions, vectors=vectors)
    model_options = TINY_MODEL if model is None else {"batch_size": 3, "window": 4}
    given = {"model_options": model_options, "seed": 0, "device": "cpu", **QUICK, **options}
    return SLAC(env, model, **given)


def everything(agent: SLAC) -> dict[str, torch.Tensor]:
    """Weights, moments, noise and replay."""
    rows = agent.replay.rows()
    found = {f"learner.{name}": t for name, t in agent.learner.state().items()}
    found |= {f"updater.{name}": t for name, t in agent.updater.state().items()}
    found["filter"] = agent.filter.generator.get_state()
    found["frames"] = torch.from_numpy(agent.replay.frames(rows))
    found["features"] = agent.replay.features(rows)
    found |= {f"belief.{i}": b for i, b in enumerate(agent.replay.beliefs(rows))}
    return found


def differences(ours: SLAC, theirs: SLAC) -> list[str]:
    mine, other = everything(ours), everything(theirs)
    assert mine.keys() == other.keys()
    return [name for name, tensor in mine.items() if not torch.equal(tensor, other[name])]


class Watcher(Callback):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.updates: list[set[str]] = []
        self.episodes: list[EpisodeStats] = []

    def on_step(self, agent: Any) -> bool:
        self.steps.append(agent.num_timesteps)
        return True

    def on_episode(self, agent: Any, stats: EpisodeStats) -> None:
        self.episodes.append(stats)

    def on_update(self, agent: Any, metrics: dict[str, torch.Tensor]) -> None:
        self.updates.append(set(metrics))
        assert all(bool(value.isfinite()) for value in metrics.values())


# Learning


@VIEWS
@WORLDS
def test_it_learns(mode: AutoresetMode | None, actor_input: str) -> None:
    agent, watcher = make_agent(mode, actor_input=actor_input, vectors=True), Watcher()
    before = {name: t.clone() for name, t in agent.updater.state().items()}
    learner = agent.learner.state()
    assert agent.learn(32, callback=watcher) is agent
    steps = agent.num_timesteps
    assert 32 <= steps < 35
    assert watcher.steps == list(range(1, steps + 1))
    # One update of each for every step from the first that is learned from, after the initial ones.
    assert len(watcher.updates) == steps - QUICK["learning_starts"] + 1
    assert agent.updater.steps_done == 3 + len(watcher.updates)
    assert {"model_image", "model_kl", "critic_loss", "temperature"} <= watcher.updates[0]
    changed = agent.updater.state()
    assert any(not torch.equal(before[n], changed[n]) for n in before if n.startswith("model."))
    changed = agent.learner.state()
    assert not torch.equal(learner["actor.net.0.weight"], changed["actor.net.0.weight"])
    assert watcher.episodes
    assert not agent.interrupted


def test_it_learns_the_same_number_of_times_while_the_environments_step() -> None:
    """Through the first updates of the model and several rescalings, with steps in flight."""
    makers = [partial(framed_diary, i, lengths) for i, lengths in enumerate([(5, 1, 9), (12, 2)])]
    found = []
    for make in (SyncVectorEnv, partial(AsyncVectorEnv, context="spawn")):
        env, watcher = make(makers), Watcher()
        options = {"model_options": TINY_MODEL, "seed": 0, "device": "cpu", **QUICK}
        agent = SLAC(env, **options).learn(40, callback=watcher)
        env.close()
        rows = agent.replay.rows()
        assert torch.isfinite(agent.replay.features(rows)).all()
        found.append((watcher.steps, len(watcher.updates), agent.updater.steps_done, len(rows)))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["slac", "deterministic"])
@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
def test_it_learns_with_other_kinds_and_actions(kind: str, actions: spaces.Space) -> None:
    small = {k: v for k, v in TINY_MODEL.items() if k not in ("memory", "stochastic")}
    small |= {"z1": 3, "z2": 4} if kind == "slac" else {"z": 6}
    agent = make_agent(actions=actions, kind=kind, model_options=small)
    assert agent.model.kind == kind
    agent.learn(26)
    assert agent.updater.steps_done == 3 + 7


@VIEWS
@pytest.mark.parametrize("mode", [None, AutoresetMode.NEXT_STEP])
def test_a_seed_gives_the_same_agent_bit_for_bit(mode: Any, actor_input: str) -> None:
    first, again, other = (
        make_agent(mode, actor_input=actor_input, seed=seed).learn(27) for seed in (1, 1, 2)
    )
    assert differences(first, again) == []
    assert "learner.actor.net.0.weight" in differences(first, other)


def test_no_global_generator_is_drawn_from() -> None:
    agents = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - that nobody asks it
        agents.append(make_agent().learn(24))
    assert differences(*agents) == []


@pytest.mark.parametrize("wanted", [0.0, 0.5, 1.0, 2.0])
def test_the_model_is_updated_as_often_as_asked(wanted: float) -> None:
    agent, watcher = make_agent(model_updates=wanted, gradient_steps=2), Watcher()
    agent.learn(29, callback=watcher)
    assert agent.updater.steps_done == 3 + int(10 * wanted)
    assert len(watcher.updates) == 2 * 10


def test_fresh_batches_are_learned_from() -> None:
    agents = [make_agent(fresh=fresh).learn(26) for fresh in (True, False)]
    assert differences(*agents)
    assert agents[0].updater.steps_done == agents[1].updater.steps_done


def test_initial_updates_are_made_once() -> None:
    agent = make_agent(initial_model_updates=5, model_updates=0)
    agent.learn(19)
    assert agent.updater.steps_done == 0
    agent.learn(1)
    assert agent.updater.steps_done == 5
    agent.learn(5)
    assert agent.updater.steps_done == 5
    assert make_agent(initial_model_updates=0).learn(20).updater.steps_done == 1


def test_it_acts_at_random_until_it_learns() -> None:
    agent = make_agent()
    called: list[int] = []
    choose = agent.policy.choose
    agent.policy.choose = lambda *a, **k: (called.append(agent.num_timesteps), choose(*a, **k))[1]
    agent.learn(24)
    assert called == [20, 21, 22, 23]


def test_the_scale_is_measured_from_time_to_time() -> None:
    agent = make_agent(rescale_every=7)
    times: list[int] = []
    rescale = agent.updates.rescale
    agent.updates.rescale = lambda: (times.append(agent.num_timesteps), rescale())[1]
    agent.learn(36)
    assert times == [20, 21, 28, 35]
    assert agent.model.normalizer is agent.view.scale


def test_a_window_longer_than_every_episode_is_named() -> None:
    agent = make_agent(model_options={**TINY_MODEL, "window": 30})
    with pytest.raises(DatasetError, match="windows of 30 actions, the longest episode so far"):
        agent.learn(60)
    assert agent.num_timesteps == 20 + 30


def test_a_model_that_finds_no_windows_any_more_stays_as_it_is(tmp_path: Path) -> None:
    """One long episode, then short ones until it is overwritten."""
    env = framed(Diary(lengths=(25, *([3] * 99))))
    options = {**QUICK, "buffer_size": 40, "model_options": {**TINY_MODEL, "window": 10}}
    agent, watcher = SLAC(env, seed=0, device="cpu", **options), Watcher()
    with pytest.warns(UserWarning, match=r"as long as the model's windows of 10 actions any more"):
        agent.learn(90, callback=watcher)
    done = agent.updater.steps_done
    assert 3 < done < 70
    learned = [any(name.startswith("model_") for name in each) for each in watcher.updates]
    assert learned[0]
    assert not learned[-1]
    assert len(watcher.updates) == 71  # the agent goes on
    agent.save(tmp_path / "run")
    again = SLAC.load(tmp_path / "run", env, window=2, device="cpu").learn(5)
    assert again.updater.steps_done == done + 5


def test_a_replay_without_room_for_a_window_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"room for 3 of each of 3 .* buffer_size of 12 or more"):
        make_agent(MODES[0], buffer_size=9)
    agent = make_agent(MODES[0], buffer_size=12)
    assert len(agent.updates._replay.windows_before(np.array([0]), 4)[0]) == 5


def test_a_model_cannot_learn_from_nothing() -> None:
    with pytest.raises(DatasetError, match="episode so far has 0: let the agent act first"):
        make_agent().train_model(3)


# Memory


def test_the_estimate_is_that_of_a_model_that_learns_or_filters(tmp_path: Path) -> None:
    path = saved_model(tmp_path)
    learning, frozen = make_agent(model=path), make_agent(model=path, frozen=True)
    weights = sum(4 * p.numel() for p in learning.model.parameters())
    ours, theirs = learning.memory(), frozen.memory()
    assert (ours.weights, theirs.weights) == (5 * weights, weights)
    assert ours.batch > 3 * 5 * 16 * 16 * 3  # frames of three windows, and what gradients need
    assert theirs.batch == 0
    rows = frozen.replay.num_rows
    frame, action, kept = 16 * 16 * 3, 2 * 4, 4 * frozen.model.seen_size
    assert ours.frames == theirs.frames > rows * (frame + action + kept)
    # Between the rounds of `improve` a frozen model learns.
    between = memory_of(frozen.model, frozen.recipe.training, frozen.replay, learns=True)
    assert between == ours
    assert not any(p.requires_grad for p in frozen.model.parameters())


@pytest.mark.parametrize("num", [1, 3])
def test_learning_waits_for_an_episode_that_has_only_begun(num: int) -> None:
    """Ten random actions are fewer than a window has, and the episode goes on."""
    makers = [lambda: framed(Diary(lengths=(100,)))] * num
    options = {**QUICK, "learning_starts": 10 * num, "model_options": {**TINY_MODEL, "window": 15}}
    agent, watcher = SLAC(SyncVectorEnv(makers), seed=0, device="cpu", **options), Watcher()
    agent.learn(16 * num, callback=watcher)
    assert agent.ready
    assert len(watcher.updates) == 2 * num  # from the fifteenth step of the first of them on


@pytest.mark.parametrize(("skip", "longest"), [(1, 20), (3, 7)])
def test_a_window_longer_than_the_time_limit_is_refused_at_once(skip: int, longest: int) -> None:
    env = FrameSkip(gym.make(PIXEL_PENDULUM, max_episode_steps=20), skip)
    SLAC(env, model_options={**TINY_MODEL, "window": longest})
    with pytest.raises(ConfigError, match=f"has at most {longest}: .* model.window={longest} or"):
        SLAC(env, model_options={**TINY_MODEL, "window": longest + 1})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"frozen": True}, "name a checkpoint"),
        ({"learning_start": 3}, "did you mean 'learning_starts'"),
        ({"actor_input": "frame"}, "actor_input"),
        ({"model_options": {"windw": 3}}, "did you mean 'window'"),
        ({"preset": "fats"}, "did you mean 'fast'"),
        ({"history": 0}, "history"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_agent(**options)


def test_environments_that_cannot_be_learned_in_are_refused() -> None:
    with pytest.raises(EnvironmentMismatch, match="finite bounds"):
        SLAC(framed(Diary(actions=spaces.Box(-np.inf, np.inf, (2,)))), model_options=TINY_MODEL)
    with pytest.raises(EnvironmentMismatch, match="Box or Discrete"):
        SLAC(framed(Diary(actions=spaces.MultiBinary(2))), model_options=TINY_MODEL)
    with pytest.raises(EnvironmentMismatch, match="latents of a model already"):
        SLAC(LatentObservation(Diary(), make_model()))


def test_vectors_that_the_model_sees_are_learned_from() -> None:
    options = {**TINY_MODEL, "vectors": True}
    agent = make_agent(vectors=True, model_options=options)
    before = {name: weight.clone() for name, weight in agent.model.named_parameters()}
    agent.learn(24)
    rows = agent.replay.rows()
    frames = torch.from_numpy(agent.replay.frames(rows))
    vectors = agent.replay.vectors(rows)
    with torch.no_grad():
        seen = [
            agent.model.see(frames, agent.model.prepare_vectors(each))
            for each in (vectors, vectors + 1)
        ]
    assert (seen[0] != seen[1]).any(dim=1).all()
    after = dict(agent.model.named_parameters())
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_frames_of_an_odd_number_of_bytes_are_learned_from() -> None:
    env = RenderFrame(Diary(), height=17, width=17)
    agent = SLAC(env, seed=0, device="cpu", model_options=TINY_MODEL, **QUICK).learn(22)
    assert agent.updater.steps_done == 3 + 3


@pytest.mark.parametrize("frozen", [False, True])
def test_the_model_alone_learns_and_the_agent_settles(tmp_path: Path, frozen: bool) -> None:
    agent = make_agent(model=saved_model(tmp_path), frozen=frozen, sample_latents=False).learn(24)
    before = agent.updater.state()
    learner = agent.learner.state()
    done, steps = agent.updater.steps_done, agent.num_timesteps
    assert agent.train_model(done + 4) is agent
    assert agent.updater.steps_done == done + 4
    after = agent.updater.state()
    assert any(not torch.equal(after[n], before[n]) for n in before if n.startswith("model."))
    assert all(p.requires_grad != frozen for p in agent.model.parameters())
    # The replay is filtered by the model as it is now, and measured.
    rows = agent.replay.rows()
    kept = agent.replay.beliefs(rows)
    latents = agent.model.latent(kept).numpy()
    np.testing.assert_allclose(agent.view.scale.mean, latents.mean(0), rtol=1e-4, atol=1e-5)
    agent.filter.refresh_all()
    assert_same_beliefs(agent.replay.beliefs(rows), kept)
    # Only the first layers of the agent have changed, until it settles.
    changed = agent.learner.state()
    assert torch.equal(changed["actor.net.2.weight"], learner["actor.net.2.weight"])
    assert agent.settle(2) is agent
    assert not torch.equal(
        agent.learner.state()["actor.net.2.weight"], learner["actor.net.2.weight"]
    )
    assert agent.num_timesteps == steps
    assert agent.updater.steps_done == done + 4


# A model to start from


def saved_model(tmp_path: Path, **kwargs: Any) -> Path:
    path = tmp_path / "m.safetensors"
    save_model(path, make_model(**kwargs), training={})
    return path


@pytest.mark.parametrize("fresh", [False, True])
@VIEWS
@WORLDS
def test_a_frozen_model_never_changes(
    tmp_path: Path, mode: AutoresetMode | None, actor_input: str, fresh: bool
) -> None:
    path = saved_model(tmp_path)
    agent = make_agent(mode, model=path, frozen=True, actor_input=actor_input, fresh=fresh)
    watcher = Watcher()
    agent.learn(30, callback=watcher)
    unchanged = load_model(path)
    for name, tensor in agent.model.state_dict().items():
        assert torch.equal(tensor, unchanged.state_dict()[name]), name
    assert agent.model.normalizer.to_json() == unchanged.normalizer.to_json()
    assert agent.updater.steps_done == 0
    assert agent.ready
    assert len(watcher.updates) == agent.num_timesteps - QUICK["learning_starts"] + 1
    assert not any(name.startswith("model_") for name in watcher.updates[0])


def test_a_checkpoint_is_fine_tuned_and_the_file_stays(tmp_path: Path) -> None:
    path = saved_model(tmp_path)
    before = path.read_bytes()
    agent = make_agent(model=path).learn(24)
    start = load_model(path)
    assert path.read_bytes() == before
    assert agent.updater.steps_done == 3 + 5
    weights = agent.model.state_dict()
    assert any(not torch.equal(t, weights[name]) for name, t in start.state_dict().items())
    # Statistics of frames and rewards are the checkpoint's: only a new model is shown data.
    assert not agent.is_new


def test_a_loaded_model_is_not_changed(tmp_path: Path) -> None:
    model = load_model(saved_model(tmp_path))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    make_agent(model=model).learn(24)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_model_that_has_learned_is_no_longer_the_checkpoint(tmp_path: Path) -> None:
    path = saved_model(tmp_path)
    agent = make_agent(model=path).learn(24)
    fingerprint = agent.watch(framed(Diary())).model_fingerprint
    assert fingerprint != load_model(path).fingerprint


def test_another_environment_than_the_models_is_refused(tmp_path: Path) -> None:
    path = saved_model(tmp_path)
    with pytest.raises(EnvironmentMismatch, match="action space"):
        make_agent(model=path, actions=DISCRETE)
    with pytest.raises(CheckpointError):
        make_agent(model=tmp_path / "none.safetensors")


# Watching


@VIEWS
@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
def test_its_policy_is_evaluated_while_the_model_learns(
    actor_input: str, actions: spaces.Space
) -> None:
    agent = make_agent(actor_input=actor_input, actions=actions)
    watched = agent.watch(framed(Diary(actions=actions)))
    wrapper = LatentObservation if actor_input == "latent" else HistoryObservation
    assert isinstance(watched, wrapper)
    assert watched.observation_space == agent.policy.observation_space
    seen = []
    for _ in range(2):
        agent.learn(23)
        observation, _ = watched.reset(seed=0)
        assert watched.observation_space.contains(observation)
        seen.append(observation)
        result = evaluate_policy(agent.policy, watched, 2, seed=0, deterministic=True)
        assert len(result.returns) == 2
    assert agent.model is watched.model
    assert not np.allclose(*[each[:3] for each in seen])


def test_what_is_watched_is_what_the_agent_sees() -> None:
    """Latents of means are in the agent's own scale, also after it was measured anew."""
    agent = make_agent(sample_latents=False)
    watched = agent.watch(framed(Diary(number=7)))
    agent.learn(29)
    observation, _ = watched.reset()
    frame = torch.from_numpy(watched.frame)[None]
    with torch.no_grad():
        belief = agent.model.initial(frame)
        ours = agent.view.observe(belief, np.zeros((1, 0), np.float32), None)[0]
    np.testing.assert_allclose(observation, ours.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("when", ["after", "before"])
def test_vectors_are_watched_in_the_scale_of_the_agent(when: str) -> None:
    agent = make_agent(vectors=True, sample_latents=False)
    if when == "after":
        agent.learn(24)
    world = framed(Diary(number=7, vectors=True), vectors=True)
    watched = agent.watch(world)
    if when == "before":
        agent.learn(24)
    observation, _ = watched.reset()
    vectors = world.unwrapped.diary[-1].vectors[-1]
    assert agent.model.vector_normalizer is not None
    expected = agent.model.vector_normalizer.normalize(vectors)
    np.testing.assert_allclose(observation[-VECTORS.size :], expected, rtol=1e-5)


# Saving


def as_saved(agent: SLAC, again: SLAC) -> None:
    """All that was saved is there again; beliefs are drawn anew."""
    assert again.num_timesteps == agent.num_timesteps
    assert again.updater.steps_done == agent.updater.steps_done
    assert (again.ready, again.frozen, again.owed) == (agent.ready, agent.frozen, agent.owed)
    assert again.is_new == agent.is_new
    assert again.config == agent.config
    assert again.recipe == agent.recipe
    for ours, theirs in (
        (again.learner.state(), agent.learner.state()),
        (again.updater.state(), agent.updater.state()),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert contents(again.replay) == contents(agent.replay)
    assert again.model.normalizer.to_json() == agent.model.normalizer.to_json()
    if agent.view.standardizes:
        assert again.view.scale.to_json() == agent.view.scale.to_json()
    draws = [each.replay.generator.bit_generator.state for each in (again, agent)]
    assert draws[0] == draws[1]


@pytest.mark.parametrize("vectors", [False, True])
@VIEWS
@pytest.mark.parametrize("mode", [None, AutoresetMode.SAME_STEP])
def test_what_was_saved_goes_on(tmp_path: Path, mode: Any, actor_input: str, vectors: bool) -> None:
    agent = make_agent(
        mode, actor_input=actor_input, vectors=vectors, model_updates=0.75, sample_latents=False
    ).learn(26)
    agent.save(tmp_path / "run")
    env, _ = make_world(mode, vectors=vectors)
    again = SLAC.load(tmp_path / "run", env, device="cpu")
    as_saved(agent, again)
    # Seeds of noise go on: the same actions, and the same transitions drawn.
    seen = torch.randn(5, agent.view.sight.actor.stop - agent.view.sight.actor.start)
    for deterministic in (True, False):
        np.testing.assert_array_equal(
            again.policy.choose(seen, deterministic=deterministic),
            agent.policy.choose(seen, deterministic=deterministic),
        )
    updates = agent.updater.steps_done
    again.learn(8)
    assert again.num_timesteps >= agent.num_timesteps + 8
    assert again.updater.steps_done > updates
    assert len(again.replay) > len(agent.replay)
    again.save(tmp_path / "run")
    as_saved(again, SLAC.load(tmp_path / "run", make_world(mode, vectors=vectors)[0]))


def test_beliefs_are_filtered_anew_on_loading(tmp_path: Path) -> None:
    agent = make_agent(sample_latents=False).learn(26)
    agent.save(tmp_path)
    agent.filter.refresh_all()
    again = SLAC.load(tmp_path, make_world()[0], device="cpu")
    ours, theirs = again.replay.rows(), agent.replay.rows()
    assert_same_beliefs(again.replay.beliefs(ours), agent.replay.beliefs(theirs))
    torch.testing.assert_close(again.replay.features(ours), agent.replay.features(theirs))


def test_a_save_at_any_time_can_go_on(tmp_path: Path) -> None:
    for number, steps in enumerate((0, 19, 21)):
        agent = make_agent().learn(steps) if steps else make_agent()
        agent.save(tmp_path / f"{number}")
        again = SLAC.load(tmp_path / f"{number}", make_world()[0], device="cpu")
        as_saved(agent, again)
        again.learn(24)
        # Three at first, and one for each step from the twentieth on.
        assert again.num_timesteps == steps + 24
        assert again.updater.steps_done == 3 + again.num_timesteps - 19


@pytest.mark.parametrize("steps", [0, 9])
def test_so_it_is_with_vectors(tmp_path: Path, steps: int) -> None:
    agent = make_agent(vectors=True)
    if steps:
        agent.learn(steps)
    agent.save(tmp_path)
    as_saved(agent, SLAC.load(tmp_path, make_world(vectors=True)[0], device="cpu"))


def test_a_frozen_agent_is_saved_with_its_model(tmp_path: Path) -> None:
    agent = make_agent(model=saved_model(tmp_path), frozen=True).learn(24)
    agent.save(tmp_path / "run")
    again = SLAC.load(tmp_path / "run", make_world()[0], device="cpu")
    as_saved(agent, again)
    before = {name: tensor.clone() for name, tensor in again.model.state_dict().items()}
    again.learn(5)
    assert all(torch.equal(again.model.state_dict()[name], t) for name, t in before.items())


def test_a_full_replay_is_loaded(tmp_path: Path) -> None:
    """More episodes are on disk than the replay holds: the oldest of them is cut."""
    agent = make_agent(buffer_size=37)
    agent.learn(57, callback=SaveEvery(tmp_path, 19))
    cut = agent.replay.episodes()[0].rows[:1]
    assert not agent.replay.is_first(cut)[0]
    again = SLAC.load(tmp_path, make_world()[0], device="cpu")
    as_saved(agent, again)
    again.learn(3)


class Killed(Exception):
    pass


def test_a_save_that_is_cut_off_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent(buffer_size=30).learn(26)
    agent.save(tmp_path)
    kept = contents(agent.replay)
    state = agent.learner.state()
    agent.learn(40)

    def kill(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(saving.storage, "save", kill)
    with pytest.raises(Killed):
        agent.save(tmp_path)
    monkeypatch.undo()
    again = SLAC.load(tmp_path, make_world()[0], device="cpu")
    assert again.num_timesteps == 26
    assert contents(again.replay) == kept
    assert all(torch.equal(again.learner.state()[name], state[name]) for name in state)
    # What it left is written over, or goes.
    left = {path.name for path in (tmp_path / "replay").iterdir()}
    again.learn(7)
    again.save(tmp_path)
    now = {path.name for path in (tmp_path / "replay").iterdir()}
    assert len(now) == 3
    assert len(left) > 3


def test_a_frozen_model_stays_the_one_that_it_was(tmp_path: Path) -> None:
    """After a resume too: what a report calls unseen, and what agents are told by, hangs on it."""
    path = tmp_path / "m.safetensors"
    record = {"dataset": "abc", "heldout_episodes": [1]}
    fingerprint = save_model(path, make_model(), training=record)
    agent = make_agent(model=path, frozen=True, initial_model_updates=0).learn(22)
    agent.save(tmp_path / "run")
    again = SLAC.load(tmp_path / "run", make_world()[0], device="cpu").learn(3)
    again.save(tmp_path / "run")
    kept = load_model(tmp_path / "run" / "agent-model.safetensors")
    assert kept.fingerprint == fingerprint
    assert kept.checkpoint.document["training"] == record


def test_a_model_that_learned_on_says_what_it_learned_from(tmp_path: Path) -> None:
    path, data = tmp_path / "m.safetensors", write(tmp_path / "d.h5")
    save_model(path, make_model(), training={"dataset": "abc", "heldout_episodes": [1]})
    agent = make_agent(model=path)
    agent.remember(data)
    agent.learn(22).save(tmp_path / "run")
    SLAC.load(tmp_path / "run", make_world()[0], device="cpu").learn(3).save(tmp_path / "run")
    model = load_model(tmp_path / "run" / "agent-model.safetensors")
    record = model.checkpoint.document["training"]
    assert (record["dataset"], record["heldout_episodes"]) == ("abc", [1])
    assert record["also_trained_on"] == [data.fingerprint()]
    split = split_for_report(model, data, np.random.default_rng(0))
    assert (split.unseen, split.trained_on) == (False, False)
    assert "trained on all of these episodes" in split.note


def test_a_new_model_that_learns_alone_first_takes_means_and_scales() -> None:
    agent = make_agent(learning_starts=10**6).learn(30)
    agent.train_model(2)
    mean, std = agent.model.reward_scale.tolist()
    rewards = agent.replay.rewards(agent.replay.before(agent.replay.rows(), 1))
    assert abs(mean) + std > 2
    assert rewards.min() - std <= mean <= rewards.max() + std


class Failing(Diary):
    """Its joints are gone at times of an episode, its reward at one."""

    def __init__(self, gone: tuple[int, ...] = (), unrewarded: int | None = None) -> None:
        super().__init__(lengths=(9,), vectors=True)
        self._gone, self._unrewarded = gone, unrewarded

    def _look(self) -> Any:
        seen = super()._look()
        if len(self.diary[-1]) in self._gone:
            seen["joints"] = np.full(2, np.nan, np.float32)
        return seen

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        fails = len(self.diary[-1]) == self._unrewarded
        return observation, float("nan") if fails else reward, *rest


@VIEWS
def test_vectors_that_are_gone_keep_their_last_value(actor_input: str, tmp_path: Path) -> None:
    env = Failing(gone=(3, 4))
    agent = SLAC(framed(env, vectors=True), seed=0, device="cpu", model_options=TINY_MODEL,
                 **{**QUICK, "actor_input": actor_input}).learn(30)  # fmt: skip
    for stretch, true in zip(agent.replay.episodes(), env.diary, strict=False):
        kept, shown = agent.replay.vectors(stretch.rows), np.stack(true.vectors)
        shown[3:5, :2] = shown[2, :2]
        np.testing.assert_array_equal(kept, shown[: len(kept)])
    agent.save(tmp_path)
    watched = agent.watch(Failing(gone=(3, 4)))
    observation, _ = watched.reset(seed=0)
    for _ in range(5):
        observation = watched.step(agent.policy.predict(observation)[0])[0]
        assert np.isfinite(observation).all()


def test_what_cannot_be_learned_from_is_one_sentence() -> None:
    with pytest.raises(EnvironmentMismatch, match="requires finite vectors joints, grip, got"):
        SLAC(framed(Failing(gone=(0,)), vectors=True), model_options=TINY_MODEL).learn(3)
    with pytest.raises(EnvironmentFailed, match=r"requires finite rewards, .* gave nan"):
        SLAC(framed(Failing(unrewarded=4), vectors=True), model_options=TINY_MODEL).learn(9)


def test_a_policy_and_its_model_are_replaced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, path = make_agent().learn(22), tmp_path / "best.safetensors"
    agent.save_policy(path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    agent.learn(5)

    save, saved = saving.storage.save, []

    def kill(target: Path, tensors: Any, document: Any) -> str:
        if saved:
            raise Killed
        saved.append(document["format"])
        return save(target, tensors, document)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(saving.storage, "save", kill)
        agent.save_policy(path)
    assert len(saved) == 1
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    agent.save_policy(path)
    after = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert after.keys() == before.keys() == {"best.safetensors", "best-model.safetensors"}
    assert all(after[name] != before[name] for name in after)


def test_files_that_nobody_named_do_not_matter(tmp_path: Path) -> None:
    agent = make_agent().learn(22)
    agent.save(tmp_path)
    for name in ("000009.h5", "ended-000002.h5", "open.h5", "notes.txt"):
        (tmp_path / "replay" / name).write_bytes(b"left by a process that was killed")
    again = SLAC.load(tmp_path, make_world()[0], device="cpu")
    as_saved(agent, again)
    again.learn(5)
    again.save(tmp_path)
    as_saved(again, SLAC.load(tmp_path, make_world()[0], device="cpu"))


def test_another_folder_gets_everything(tmp_path: Path) -> None:
    agent = make_agent().learn(22)
    agent.save(tmp_path / "a")
    agent.learn(3)
    agent.save(tmp_path / "b")
    as_saved(agent, SLAC.load(tmp_path / "b", make_world()[0], device="cpu"))
    again = SLAC.load(tmp_path / "a", make_world()[0], device="cpu")
    assert again.num_timesteps == 22
    again.save(tmp_path / "c")
    as_saved(again, SLAC.load(tmp_path / "c", make_world()[0], device="cpu"))


def test_damaged_and_foreign_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        SLAC.load(tmp_path, make_world()[0])
    make_agent().learn(22).save(tmp_path)
    with pytest.raises(EnvironmentMismatch, match="action space"):
        SLAC.load(tmp_path, make_world(actions=DISCRETE)[0])
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="state"):
        SLAC.load(tmp_path, make_world()[0])
    save_model(state, make_model(), training={})
    with pytest.raises(CheckpointError, match="state"):
        SLAC.load(tmp_path, make_world()[0])


@pytest.mark.parametrize("vectors", [False, True])
def test_the_model_is_a_checkpoint_for_every_wrapper(tmp_path: Path, vectors: bool) -> None:
    agent = make_agent(vectors=vectors).learn(25)
    agent.save(tmp_path)
    path = tmp_path / "agent-model.safetensors"
    model = load_model(path)
    for name, tensor in agent.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert model.normalizer.to_json() == agent.model.normalizer.to_json()
    ours = LatentObservation(framed(Diary(vectors=vectors), vectors=vectors), path)
    theirs = agent.watch(framed(Diary(vectors=vectors), vectors=vectors))
    np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])
    frame = np.zeros(FRAME.shape, np.uint8)
    assert LatentFilter(path).reset(frame).shape == (model.latent_size,)
    # And to go on from, with the recipe that it was trained by.
    again = SLAC(framed(Diary(vectors=vectors), vectors=vectors), path, **QUICK, device="cpu")
    assert again.recipe.training == agent.recipe.training


# Memories


def write(
    path: Path,
    *,
    rewards: bool = True,
    frame: FrameSpec = FRAME,
    vectors: VectorSpec | None = None,
    actions: spaces.Space = BOX,
) -> Dataset:
    """Three episodes of noise."""
    lengths = (6, 3, 8)
    spec = vectors or VectorSpec()
    info = DatasetInfo(env_id="Diary", action=ActionSpec(actions), frame=frame, vectors=spec)
    rng = np.random.default_rng(5)
    with DatasetWriter(path, info) as writer:
        for number, steps in enumerate(lengths):
            stored = rng.uniform(0, 2, (steps, 2)).astype(np.float32)
            writer.add(
                Episode(
                    frames=rng.integers(0, 256, (steps + 1, *frame.shape), np.uint8),
                    actions=stored,
                    rewards=rng.normal(size=steps).astype(np.float32) if rewards else None,
                    terminated=number == 0,
                    truncated=number != 0,
                    vectors={
                        name: rng.normal(size=(steps + 1, size)).astype(np.float32)
                        for name, size in zip(spec.names, spec.sizes, strict=True)
                    },
                )
            )
    return Dataset(path)


@pytest.mark.parametrize("mode", [None, AutoresetMode.NEXT_STEP])
def test_a_dataset_is_remembered(tmp_path: Path, mode: Any) -> None:
    agent, data = make_agent(mode, sample_latents=False), write(tmp_path / "d.h5")
    agent.learn(4)
    before = contents(agent.replay)
    agent.remember(data)
    added = contents(agent.replay) - before
    assert len(added) == 17 == len(agent.replay) - len(before)
    expected = set()
    for episode in map(data.episode, range(3)):
        for t, reward in enumerate(episode.rewards):
            ended = episode.terminated and t == len(episode.rewards) - 1
            parts = (episode.frames[t], episode.actions[t], reward, np.float32(ended))
            nothing = np.zeros(0, np.float32)
            parts += (episode.frames[t + 1], nothing, nothing)
            expected.add(tuple(np.asarray(part).tobytes() for part in parts))
    assert added == expected
    for stretch in agent.replay.episodes():
        rows = stretch.rows[None]
        kept = agent.replay.beliefs(stretch.rows)
        refreshed = agent.filter.refresh(rows).beliefs
        assert_same_beliefs(kept, [part[0] for part in refreshed])
    agent.learn(25)
    assert agent.num_timesteps >= 29  # memories are no steps


def test_memories_alone_are_enough_to_begin(tmp_path: Path) -> None:
    agent = make_agent(learning_starts=1).learn(0)
    agent.remember(write(tmp_path / "d.h5").path)
    agent.learn(3)
    assert agent.updater.steps_done == 3 + 3


def test_more_memories_than_the_replay_holds_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "d.h5")
    for size in (13, 18):  # 20 frames are rows of 17 transitions and of three episodes' ends
        agent = make_agent(buffer_size=size)
        with pytest.raises(DatasetError, match=r"20 frames in 3 episodes, .* larger buffer_size"):
            agent.remember(data)
        assert len(agent.replay) == 0
    agent = make_agent(buffer_size=19)
    agent.remember(data)
    assert len(agent.replay) == 17
    with pytest.raises(DatasetError, match="beside what it holds"):
        agent.remember(data)


def test_memories_are_never_cut_between_environments(tmp_path: Path) -> None:
    """Each episode needs a ring that holds it, however much room all rings have together."""
    data = write(tmp_path / "d.h5")
    longest = int(data.lengths.max())
    agent = make_agent(MODES[0], buffer_size=3 * (longest - 2))
    with pytest.raises(DatasetError, match="larger buffer_size"):
        agent.remember(data)
    agent = make_agent(MODES[0], buffer_size=3 * (longest - 1))
    agent.remember(data)
    assert len(agent.replay) == 17


OTHER = FrameSpec(height=8, width=8)
FAST = FRAME.model_copy(update={"rendering": "fast"})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rewards": False}, r"rewards.*d\.h5 has none: leave it out"),
        ({"frame": OTHER}, "frames of shape"),
        ({"actions": spaces.Box(-1, 1, (2,))}, "action space"),
        ({"frame": FAST}, r"of full rendering, .*d\.h5 holds those of fast: collect it with"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(
    tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    agent = make_agent().learn(3)
    before = contents(agent.replay)
    with pytest.raises(DatasetError, match=match):
        agent.remember(write(tmp_path / "d.h5", **options))
    assert contents(agent.replay) == before


SWAPPED = VectorSpec(names=("grip", "joints"), sizes=(1, 2))


@pytest.mark.parametrize("vectors", [None, SWAPPED], ids=["none", "another order"])
def test_a_dataset_of_other_vectors_is_refused(tmp_path: Path, vectors: Any) -> None:
    agent = make_agent(vectors=True)
    named = agent.frames.frame
    with pytest.raises(LatentwrapError, match="vectors"):
        agent.remember(write(tmp_path / "d.h5", vectors=vectors, frame=named))


def test_a_dataset_of_the_same_vectors_is_remembered(tmp_path: Path) -> None:
    agent = make_agent(vectors=True)
    data = write(tmp_path / "d.h5", vectors=VECTORS, frame=agent.frames.frame)
    agent.remember(data)
    rows = agent.replay.episodes()[0].rows
    joined = np.concatenate([data.vectors[name][:7] for name in VECTORS.names], axis=1)
    np.testing.assert_array_equal(agent.replay.vectors(rows), joined)


# Ctrl-C


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_during_the_initial_updates_loses_nothing(tmp_path: Path) -> None:
    agent = make_agent(initial_model_updates=6)
    update = agent.updates.update_model

    def interrupted(**options: Any) -> Any:
        metrics = update(**options)
        if agent.updater.steps_done == 2:
            press_ctrl_c()
        return metrics

    agent.updates.update_model = interrupted
    watcher = Watcher()
    agent.learn(30, callback=watcher)
    assert agent.interrupted
    assert (agent.num_timesteps, agent.updater.steps_done) == (20, 2)
    assert not agent.ready
    assert watcher.updates == []
    agent.save(tmp_path)
    again = SLAC.load(tmp_path, make_world()[0], device="cpu")
    as_saved(agent, again)
    shown: list[int] = []
    for each in (agent, again):
        each.updates.show_data = lambda: shown.append(1)
        each.learn(5)
        assert not each.interrupted
        assert each.ready
        # The four that were missing, then one for each step.
        assert (each.num_timesteps, each.updater.steps_done) == (25, 6 + 5)
    assert shown == []  # its statistics stay


@pytest.mark.parametrize("mode", [None, AutoresetMode.SAME_STEP])
def test_ctrl_c_ends_after_the_step_in_progress(mode: Any) -> None:
    class Press(Callback):
        def on_step(self, agent: Any) -> bool:
            if agent.num_timesteps == 23:
                press_ctrl_c()
            return True

    agent = make_agent(mode).learn(60, callback=Press())
    assert agent.interrupted
    assert agent.num_timesteps in (23, 24)
    goal = agent.num_timesteps + 4
    assert goal <= agent.learn(4).num_timesteps <= goal + 2
    assert not agent.interrupted


def test_a_callback_ends_learning() -> None:
    class Stop(Callback):
        ended = False

        def on_step(self, agent: Any) -> bool:
            return agent.num_timesteps < 22

        def on_end(self, agent: Any) -> None:
            self.ended = True

    stop = Stop()
    assert make_agent().learn(90, callback=stop).num_timesteps == 22
    assert stop.ended


def test_a_real_task_is_wrapped_by_itself() -> None:
    env = gym.make(PIXEL_PENDULUM)
    options = {**TINY_MODEL, "patch": 16, "batch_size": 2}
    agent = SLAC(env, seed=0, device="cpu", model_options=options, **QUICK).learn(22)
    assert agent.frames.frame.shape == (64, 64, 3)
    result = evaluate_policy(agent.policy, agent.watch(gym.make(PIXEL_PENDULUM)), 1, seed=0)
    assert np.isfinite(result.mean)
