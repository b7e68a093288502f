"""What model and agent learn from, by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.joint.worlds import (
    BOX,
    DISCRETE,
    MODES,
    QUICK,
    TINY_MODEL,
    Diary,
    Played,
    assert_same_beliefs,
    features_of,
    make_model,
    make_world,
    offline,
)

from latentwrap import SLAC
from latentwrap.agents.kinds import kind_of
from latentwrap.errors import TrainingDiverged
from latentwrap.models import LatentModel, map_belief
from latentwrap.normalizer import LatentNormalizer

STEPS, HISTORY = 45, 3


def make_agent(
    mode: Any = None, *, model: Any = "tiny", vectors: bool = False, sees: bool = False,
    actions: spaces.Space = BOX, steps: int = STEPS, training: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[SLAC, list[Diary]]:  # fmt: skip
    """An agent whose replay holds what happened, before it learned anything."""
    env, diaries = make_world(mode, actions=actions, vectors=vectors)
    if model == "tiny":
        model = make_model(actions=actions, vectors=vectors, sees=sees)
    usual = {**QUICK, "sample_latents": False, "learning_starts": 10**6, "history": HISTORY}
    learning = {**(TRAINING if model else TINY_MODEL), **(training or {})}
    agent = SLAC(env, model, seed=0, device="cpu", model_options=learning,
                 **{**usual, **options})  # fmt: skip
    return agent.learn(steps), diaries


TRAINING = {"batch_size": 3, "window": 4}


def places(agent: SLAC, diaries: Sequence[Diary]) -> dict[int, tuple[Played, int]]:
    """Episode and time of every row that a transition led to."""
    found = {}
    for lane, diary in enumerate(diaries):
        stretches = [each for each in agent.replay.episodes() if each.lane == lane]
        episodes = [episode for episode in diary.diary if len(episode)]
        for stretch, episode in zip(stretches, episodes, strict=True):
            for t, row in enumerate(stretch.rows):
                found[int(row)] = episode, t
    return found


def observed(agent: SLAC, model: LatentModel, episode: Played, t: int) -> np.ndarray:
    """By hand: critics' part first, then the actor's history."""
    raw = model.latent(offline(model, episode)[t])[0].numpy()
    given = episode.vectors[t] if model.vector_spec.size else np.zeros(0, np.float32)
    scale = model.vector_normalizer
    vectors = given if scale is None else scale.normalize(given)
    if agent.config.actor_input == "latent":
        assert model.normalizer is not None
        return np.concatenate([model.normalizer.normalize(raw), vectors])
    spec, seen = model.action_spec, features_of(model, episode).numpy()
    parts = [raw, vectors]
    parts += [seen[max(0, t - back)] for back in range(HISTORY - 1, -1, -1)]
    for back in range(HISTORY - 1, 0, -1):
        taken = np.zeros(spec.size, np.float32)
        if t >= back:
            taken = spec.encode(spec.flatten(episode.actions[t - back])[None])[0]
        parts.append(taken)
    return np.concatenate(parts)


def check_batch(agent: SLAC, diaries: Sequence[Diary], model: LatentModel | None = None) -> None:
    """A batch of every transition of the replay, in an order of chance."""
    known, seeing = places(agent, diaries), model or agent.model
    ends = [row for row, (_, t) in known.items() if t]
    rows = np.random.default_rng(0).permutation(ends)
    assert len(rows) == len(agent.replay)
    batch = agent.updates.batch(rows)
    kind = kind_of(agent.action_space)
    for i, row in enumerate(rows):
        episode, t = known[int(row)]
        expected = observed(agent, seeing, episode, t - 1)
        np.testing.assert_allclose(batch.observation[i], expected, rtol=2e-4, atol=2e-5)
        expected = observed(agent, seeing, episode, t)
        np.testing.assert_allclose(batch.next_observation[i], expected, rtol=2e-4, atol=2e-5)
        taken = episode.actions[t - 1]
        action = taken.reshape(agent.action_space.shape)
        np.testing.assert_allclose(batch.action[i], kind.to_row(action), rtol=1e-5, atol=1e-6)
        assert batch.reward[i] == np.float32(episode.rewards[t - 1])
        last = t == len(episode)
        assert batch.terminated[i] == (last and episode.terminated)
    assert all(tensor.dtype == torch.float32 for tensor in batch.columns().values())
    assert not any(tensor.requires_grad for tensor in batch.columns().values())


def test_the_agent_learns_from_transitions_that_were_drawn() -> None:
    agent, _ = make_agent(sample_latents=True)
    drawn: list[np.ndarray] = []
    learned: list[Any] = []
    draw, batch = agent.replay.draw, agent.updates.batch
    patch = pytest.MonkeyPatch()
    patch.setattr(agent.replay, "draw", lambda count: (drawn.append(draw(count)), drawn[-1])[1])
    patch.setattr(agent.updates, "batch", lambda rows: (learned.append(rows), batch(rows))[1])
    metrics = agent.updates.update_agent()
    patch.undo()
    assert len(drawn) == len(learned) == 1
    assert drawn[0] is learned[0]
    assert len(drawn[0]) == QUICK["batch_size"]
    assert {"critic_loss", "actor_loss"} <= set(metrics)


VIEWS = pytest.mark.parametrize("actor_input", ["latent", "history"])


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
@VIEWS
def test_a_batch_is_what_happened(actor_input: str, actions: spaces.Space, fresh: bool) -> None:
    agent, diaries = make_agent(actions=actions, actor_input=actor_input, fresh=fresh)
    check_batch(agent, diaries)


@pytest.mark.parametrize("sees", [False, True])
@pytest.mark.parametrize("mode", MODES)
@VIEWS
def test_so_it_is_with_vectors_and_many_environments(
    actor_input: str, mode: Any, sees: bool
) -> None:
    agent, diaries = make_agent(mode, vectors=True, sees=sees, actor_input=actor_input)
    check_batch(agent, diaries)


def test_time_limits_are_no_end() -> None:
    """Truncated: the value of the true last frame counts; terminated: nothing does."""
    agent, [diary] = make_agent()
    known = places(agent, [diary])
    ends = {row: e for row, (e, t) in known.items() if t == len(e) and e.ended}
    rows = np.array(list(ends))
    batch = agent.updates.batch(rows)
    terminated = np.array([episode.terminated for episode in ends.values()])
    assert {True, False} == set(terminated)
    np.testing.assert_array_equal(batch.terminated, terminated)
    target = agent.learner.critic_target(
        batch, agent.learner.decide(batch, agent.learner.draw_noise(batch)).following
    )
    same = torch.isclose(target, batch.reward).numpy()
    np.testing.assert_array_equal(same, terminated)
    for i, episode in enumerate(ends.values()):
        np.testing.assert_array_equal(agent.replay.frames(rows[i]), episode.frames[-1])
        expected = observed(agent, agent.model, episode, len(episode))
        np.testing.assert_allclose(batch.next_observation[i], expected, rtol=2e-4, atol=2e-5)


def change(model: LatentModel) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)


@VIEWS
def test_a_fresh_batch_is_of_the_model_as_it_is(actor_input: str) -> None:
    agent, diaries = make_agent(actor_input=actor_input, fresh=True, burn_in=12)
    change(agent.model)  # every episode is shorter than the burn-in: it begins where they do
    check_batch(agent, diaries)


@VIEWS
def test_another_batch_is_of_the_model_as_it_was(actor_input: str) -> None:
    agent, diaries = make_agent(actor_input=actor_input)
    before = make_model()
    change(agent.model)
    check_batch(agent, diaries, before)
    agent.filter.refresh_all()
    check_batch(agent, diaries)


def test_burning_in_starts_from_the_belief_that_is_kept() -> None:
    agent, [diary] = make_agent(fresh=True, burn_in=3)
    known = places(agent, [diary])
    [row] = [r for r, (e, t) in known.items() if t == 8 and len(e) == 9][:1]
    window = agent.replay.windows_before(np.array([row]), 3)
    start = agent.replay.beliefs(window[:, 0])
    change(agent.model)
    agent.updates.batch(np.array([row]))
    belief, (episode, _) = start, known[row]
    with torch.no_grad():
        seen = features_of(agent.model, episode)
        for t in (6, 7, 8):
            action = torch.from_numpy(agent.model.action_spec.encode(episode.actions[t - 1][None]))
            belief = agent.model.believe_next(belief, action, seen[t : t + 1])
    assert_same_beliefs(agent.replay.beliefs(np.array([row])), belief)
    assert_same_beliefs(agent.replay.beliefs(window[:, 0]), start, rtol=0, atol=0)


def test_a_fresh_pair_of_samples_is_of_one_draw() -> None:
    agent, _ = make_agent(fresh=True, sample_latents=True)
    rows = agent.replay.draw(40)
    filtered: list[Any] = []
    refresh = agent.filter.refresh
    patch = pytest.MonkeyPatch()
    patch.setattr(
        agent.filter, "refresh", lambda *a: (filtered.append(refresh(*a)), filtered[-1])[1]
    )
    batch = agent.updates.batch(rows)
    patch.undo()
    [drawn] = filtered
    for found, place in ((batch.observation, -2), (batch.next_observation, -1)):
        beliefs = map_belief(lambda b, at=place: b[:, at], drawn.beliefs)
        expected = agent.view.observe(beliefs, np.zeros((40, 0), np.float32), None)
        torch.testing.assert_close(found, expected)


def test_an_update_of_the_model_renews_what_it_saw() -> None:
    agent, _ = make_agent()
    # Windows without a common row, one of which begins where its episode does.
    episodes = [each.rows for each in agent.replay.episodes() if len(each.rows) > 5]
    rows = np.stack([episodes[0][:5], episodes[1][1:6], episodes[-1][-5:]])
    assert len(set(rows.flatten())) == rows.size
    assert agent.replay.is_first(rows[:, 0]).tolist()[0]
    start = agent.replay.beliefs(rows[:, 0])
    windows = agent.replay.windows(rows)
    patch = pytest.MonkeyPatch()
    patch.setattr(agent.replay, "draw_windows", lambda count, actions: rows)
    with torch.no_grad():
        before = agent.model.see(torch.from_numpy(windows.frames).flatten(0, 1))
    metrics = agent.updates.update_model()
    patch.undo()
    assert {"model_kl", "model_image", "model_reward"} <= set(metrics)
    assert agent.updater.steps_done == 1
    kept = agent.replay.features(rows)
    torch.testing.assert_close(kept.flatten(0, 1), before, rtol=1e-4, atol=1e-5)
    first = torch.from_numpy(agent.replay.is_first(rows[:, 0]))
    stale = agent.replay.beliefs(rows[:, -1])
    with torch.no_grad():
        begun = agent.model.believe_first(kept[:, 0])
        belief = map_belief(lambda a, b: torch.where(first[:, None], a, b), begun, start)
        for t in range(1, 5):
            action = torch.from_numpy(windows.actions[:, t - 1])
            belief = agent.model.believe_next(belief, action, kept[:, t])
    assert_same_beliefs(stale, belief)


def test_an_update_in_bfloat16_renews_what_it_saw_in_float32() -> None:
    agent, _ = make_agent(training={"precision": "bfloat16"})
    weights = [p.clone() for p in agent.model.parameters()]
    stale = agent.replay.features(agent.replay.rows())
    agent.updates.update_model()
    renewed = agent.replay.features(agent.replay.rows())
    assert renewed.dtype == torch.float32
    changed = (renewed != stale).any(dim=1)
    assert changed.any()
    # The weights were those of the stale ones; bfloat16 keeps 8 bits.
    torch.testing.assert_close(renewed, stale, rtol=0.02, atol=0.02)
    assert torch.equal(renewed[changed], renewed[changed].bfloat16().float())
    after = list(agent.model.parameters())
    assert all(p.dtype == torch.float32 for p in after)
    assert not all(torch.equal(p, before) for p, before in zip(after, weights, strict=True))


def test_with_fresh_batches_an_update_of_the_model_leaves_them_alone() -> None:
    agent, _ = make_agent(fresh=True)
    rows = agent.replay.rows()
    features, beliefs = agent.replay.features(rows), agent.replay.beliefs(rows)
    agent.updates.update_model()
    assert torch.equal(agent.replay.features(rows), features)
    assert_same_beliefs(agent.replay.beliefs(rows), beliefs, rtol=0, atol=0)


def test_a_diverged_update_of_the_model_leaves_it_alone() -> None:
    agent, _ = make_agent()
    before = agent.updater.state()
    agent.replay._rewards[:] = np.nan
    with pytest.raises(TrainingDiverged):
        agent.updates.update_model()
    after = agent.updater.state()
    assert all(torch.equal(after[name], before[name]) for name in before if name != "noise")


def test_the_scale_is_measured_over_all_that_is_kept() -> None:
    agent, _ = make_agent()
    agent.updates.update_agent()
    rows = agent.replay.rows()
    latents = agent.model.latent(agent.replay.beliefs(rows)).double().numpy()
    batch = agent.updates.batch(agent.replay.draw(8))
    seen = batch.observation
    with torch.no_grad():
        before = [agent.learner.actor(seen)[0], agent.learner.critics(seen, batch.action)]
    old = agent.view.scale
    agent.updates.rescale()
    new = agent.view.scale
    np.testing.assert_allclose(new.mean, latents.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new.std, latents.std(0), rtol=1e-4, atol=1e-6)
    assert agent.model.normalizer is new
    raw = old.std.clip(0.01) * seen.numpy() + old.mean
    inside = (np.abs(seen.numpy()) < 9.9).all(1) & (np.abs(new.normalize(raw)) < 9.9).all(1)
    again = torch.from_numpy(new.normalize(raw))
    with torch.no_grad():
        after = [agent.learner.actor(again)[0], agent.learner.critics(again, batch.action)]
    assert inside.sum() > 2
    torch.testing.assert_close(after[0][inside], before[0][inside], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after[1][:, inside], before[1][:, inside], rtol=1e-3, atol=1e-4)


def test_with_a_history_only_the_checkpoint_gets_the_scale() -> None:
    agent, _ = make_agent(actor_input="history")
    before = agent.learner.state()
    rows = agent.replay.draw(5)
    seen = agent.updates.batch(rows).observation
    agent.updates.rescale()
    assert all(torch.equal(agent.learner.state()[name], before[name]) for name in before)
    assert torch.equal(agent.updates.batch(rows).observation, seen)
    latents = agent.model.latent(agent.replay.beliefs(agent.replay.rows())).numpy()
    assert agent.model.normalizer is not None
    np.testing.assert_allclose(agent.model.normalizer.mean, latents.mean(0), rtol=1e-4, atol=1e-5)


def test_a_new_model_is_shown_what_happened() -> None:
    agent, [diary] = make_agent(model=None, vectors=True)
    agent.updates.show_data()
    episodes = [episode for episode in diary.diary if len(episode)]
    frames = np.concatenate([np.stack(e.frames) for e in episodes]).astype(np.float64) / 255
    networks: Any = agent.model.networks
    shown = networks.frames(0 * networks.pixels(torch.zeros(1, 16, 16, 3, dtype=torch.uint8)))
    # A pixel of 0 after standardising is the mean.
    np.testing.assert_allclose(shown[0].numpy() / 255, frames.mean(0), atol=0.6 / 255)
    rewards = np.concatenate([e.rewards for e in episodes])
    scale: Any = agent.model.reward_scale
    np.testing.assert_allclose(scale.numpy(), [rewards.mean(), rewards.std()], rtol=1e-5)
    vectors = np.concatenate([np.stack(e.vectors) for e in episodes])
    normalizer = agent.model.vector_normalizer
    assert isinstance(normalizer, LatentNormalizer)
    np.testing.assert_allclose(normalizer.mean, vectors.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(normalizer.std, vectors.std(0), rtol=1e-4)


def test_what_a_new_model_takes_from_them_stays_on_its_device() -> None:
    """`meta` stands for a GPU that is not there."""
    agent, _ = make_agent(model=None)
    agent.model.to("meta")
    agent.updates.show_data()
    assert {buffer.device.type for buffer in agent.model.buffers()} == {"meta"}


@pytest.mark.parametrize("fresh", [False, True])
def test_a_history_of_one_frame_has_no_actions(fresh: bool) -> None:
    agent, _ = make_agent(actor_input="history", history=1, fresh=fresh)
    batch = agent.updates.batch(agent.replay.draw(8))
    assert batch.observation.shape[1] == agent.model.latent_size + agent.model.seen_size
