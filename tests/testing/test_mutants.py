"""A suite that cannot fail proves nothing: every broken wrapper is caught where it is broken."""

from __future__ import annotations

import copy
import multiprocessing
import re
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from latentwrap_test_noise import SIDE, Memory
from tests.conftest import make_tiny_model

from latentwrap import LatentObservation, VectorLatentObservation
from latentwrap.models import map_belief
from latentwrap.pixels import FrameSpec
from latentwrap.testing import Plan, check_latent_env, subjects
from latentwrap.testing.behaviour import (
    CLONES,
    check_copies,
    check_leakage,
    check_process,
    check_seeding,
    check_spec,
)
from latentwrap.testing.forms import Failed, check_aliasing, check_form
from latentwrap.testing.report import ConformanceError
from latentwrap.testing.subjects import LatentSubject, WrapperSubject

MODEL = make_tiny_model(kind="rssm", frame=FrameSpec(height=SIDE, width=SIDE))
PLAN = Plan.draw(4, num_envs=3, steps=30)


def make_noise() -> gym.Env:
    return gym.make("latentwrap-test/Noise-v0")


# Single environments ---------------------------------------------------------------------------


class Leaks(LatentObservation):
    """Goes on with the belief of the last episode."""

    def reset(self, **arguments: Any) -> Any:
        observation, info = self.env.reset(**arguments)
        if self.filter.belief is None:
            return self._observer.reset([observation])[0], info
        return self._observer.step([np.zeros(1)], [observation])[0], info


class SkipsTheLast(LatentObservation):
    """Does not filter the last frame of an episode."""

    def reset(self, **arguments: Any) -> Any:
        self._latest, info = super().reset(**arguments)
        return self._latest, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if not (terminated or truncated):
            self._latest = self._observer.step([action], [observation])[0]
        return self._latest.copy(), reward, terminated, truncated, info


class SharesItsBuffer(LatentObservation):
    """Hands out one array again and again."""

    def reset(self, **arguments: Any) -> Any:
        latent, info = super().reset(**arguments)
        self._buffer = latent
        return self._buffer, info

    def step(self, action: Any) -> Any:
        latent, *rest = super().step(action)
        self._buffer[:] = latent
        return self._buffer, *rest


class HandsOutItsState(LatentObservation):
    """Hands out the memory of its belief, which others may write into."""

    def reset(self, **arguments: Any) -> Any:
        latent, info = super().reset(**arguments)
        shared = torch.from_numpy(latent)[None]
        memory = self.filter.belief.h.shape[1]
        self.filter.belief = type(self.filter.belief)(shared[:, :memory], shared[:, memory:])
        return latent, info


class FeedsThePreviousAction(LatentObservation):
    """Tells the filter the action before."""

    def reset(self, **arguments: Any) -> Any:
        self._before = np.zeros(1, np.float32)
        return super().reset(**arguments)

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        latent = self._observer.step([self._before], [observation])[0]
        self._before = action
        return latent, *rest


class FeedsTheNextFrame(LatentObservation):
    """Looks at the frame before."""

    def reset(self, **arguments: Any) -> Any:
        self._before, info = self.env.reset(**arguments)
        return self._observer.reset([self._before])[0], info

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        latent = self._observer.step([action], [self._before])[0]
        self._before = observation
        return latent, *rest


class IsDouble(LatentObservation):
    """Hands out float64."""

    def step(self, action: Any) -> Any:
        latent, *rest = super().step(action)
        return latent.astype(np.float64), *rest


class IgnoresSeeds(LatentObservation):
    """Does not seed its noise."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observer.reset([observation])[0], info


class ForgetsItsArguments(LatentObservation):
    """Is made again with another one."""

    def __init__(self, env: gym.Env, ckpt: Any, **arguments: Any) -> None:
        super().__init__(env, ckpt, **{**arguments, "normalize": False})


class SharesWithItsCopies(LatentObservation):
    """Copies have the filter of the original."""

    def __deepcopy__(self, memo: Any) -> Any:
        twin = copy.copy(self)
        twin.env = copy.deepcopy(self.env, memo)
        twin._repeated = copy.deepcopy(self._repeated, memo)
        return twin


class LosesItsBeliefInCopies(LatentObservation):
    """Copies begin anew."""

    def __deepcopy__(self, memo: Any) -> Any:
        twin = SharesWithItsCopies.__deepcopy__(self, memo)
        twin._observer = copy.deepcopy(self._observer, memo)
        twin.filter = twin._observer._filter
        twin.filter.belief = map_belief(torch.zeros_like, twin.filter.belief)
        return twin


def single(mutant: type, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[LatentSubject]:
    monkeypatch.setattr(subjects, "LatentObservation", mutant)
    return [LatentSubject(make_noise, MODEL, **options)]


@pytest.mark.parametrize(
    ("mutant", "found"),
    [
        (Leaks, r"first at the first observation \(step 0 of \d+\) of episode 1 "),
        (SkipsTheLast, r"first at the last observation"),
        (SharesItsBuffer, "arrays changed after they had been handed out"),
        (FeedsThePreviousAction, r"\(step 1 of|last observation"),
        (FeedsTheNextFrame, r"\(step 1 of|last observation"),
        (IsDouble, r"observations lie outside of Box"),
    ],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_a_broken_single_form(
    mutant: type, found: str, normalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = single(mutant, monkeypatch, normalize=normalize)
    with pytest.raises(Failed, match=found):
        check_form(broken, PLAN, form="single")


def test_a_leak_is_caught_by_its_seed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failed, match=r"under the same seed, first at step 0"):
        check_leakage(single(Leaks, monkeypatch), PLAN)


def test_memory_that_others_may_write_into(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = single(HandsOutItsState, monkeypatch, normalize=False)
    with pytest.raises(Failed, match="single raw: differs"):
        check_aliasing(broken, PLAN)


def test_noise_without_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = single(IgnoresSeeds, monkeypatch, deterministic=False)
    with pytest.raises(Failed, match="under the same seed, first at step 0"):
        check_seeding(broken, PLAN)
    with pytest.raises(Failed, match="first at the first observation"):
        check_form(broken, PLAN, form="single")


@pytest.mark.parametrize("mutant", [SharesWithItsCopies, LosesItsBeliefInCopies])
def test_copies_that_are_none(mutant: type, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failed, match="differs"):
        check_copies(single(mutant, monkeypatch), PLAN, clone=CLONES["copy"])


# Vector environments ---------------------------------------------------------------------------


class ResetsTheWrongStream(VectorLatentObservation):
    """Begins the belief of the environment beside."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        mask = (options or {}).get("reset_mask")
        observations, infos = self.env.reset(seed=seed, options=options)
        if mask is None:
            return self._observer.reset(observations), infos
        return self._observer.reset(observations, np.roll(mask, 1)), infos


class ReadsTheMaskTooLate(VectorLatentObservation):
    """Gymnasium has taken it out by then, and all beliefs begin anew."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        observations, infos = self.env.reset(seed=seed, options=options)
        assert "reset_mask" not in (options or {})
        return self._observer.reset(observations), infos


class MovesTheLastBit(VectorLatentObservation):
    """Computes the beliefs outside of the mask once more, in another order."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        masked = "reset_mask" in (options or {})
        latents, infos = super().reset(seed=seed, options=options)
        if masked:
            self.filter.belief = map_belief(lambda x: x * (1 + 2e-7), self.filter.belief)
        return latents, infos


class BeginsBeforeTheEnd(VectorLatentObservation):
    """Gives the first latent of the next episode as the last of this one."""

    def _finish(self, actions: Any, observations: Any, infos: Any, ended: Any) -> Any:
        latents = self._observer.step(actions, observations, first=ended)
        final = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended):
            final[i] = latents[i].copy()
        return latents, {**infos, "final_obs": final}


class LeavesTheLastFrame(VectorLatentObservation):
    """Passes on the pixels of the last frame."""

    def _finish(self, actions: Any, observations: Any, infos: Any, ended: Any) -> Any:
        return self._observer.step(actions, observations, first=ended), infos


class LosesTheLastFrame(VectorLatentObservation):
    """Drops it."""

    def _finish(self, actions: Any, observations: Any, infos: Any, ended: Any) -> Any:
        infos = {name: value for name, value in infos.items() if "final" not in name}
        return self._observer.step(actions, observations, first=ended), infos


class FeedsWhatWasIgnored(VectorLatentObservation):
    """Filters the first frame of an episode with the action that the reset ignored."""

    def step(self, actions: Any) -> Any:
        observations, *rest = self.env.step(actions)
        latents = self._observer.step(np.nan_to_num(actions), observations)
        return latents, *rest


class RemembersEndsThroughAReset(VectorLatentObservation):
    """Takes the step after a full reset for another one."""

    def reset(self, **arguments: Any) -> Any:
        ended = self._ended
        answer = super().reset(**arguments)
        self._ended = ended
        return answer


class SwapsActions(VectorLatentObservation):
    """Tells each filter what another environment did."""

    def step(self, actions: Any) -> Any:
        observations, *rest = self.env.step(actions)
        return self._observer.step(np.roll(actions, 1, axis=0), observations), *rest


class SeedsAllAlike(VectorLatentObservation):
    """Every stream of noise has the same seed."""

    def _seed(self, seed: Any, mask: Any) -> None:
        if isinstance(seed, int):
            for stream in range(self.num_envs):
                self.filter.seed(seed, stream)


class SeedsOutsideOfTheMask(VectorLatentObservation):
    """A seed counts for environments that are not reset."""

    def _seed(self, seed: Any, mask: Any) -> None:
        super()._seed(seed, np.ones_like(mask))


@pytest.mark.parametrize(
    ("mutant", "form", "found"),
    [
        (ResetsTheWrongStream, "disabled", "beliefs outside of the mask"),
        (ReadsTheMaskTooLate, "disabled", "observations outside of the mask"),
        (MovesTheLastBit, "disabled", "^reset_mask changes beliefs outside of the mask$"),
        (BeginsBeforeTheEnd, "same_step", "last observation"),
        (LeavesTheLastFrame, "same_step", "observations lie outside"),
        (LosesTheLastFrame, "same_step", r"without infos\['final_obs'\]"),
        (FeedsWhatWasIgnored, "next_step", "first at the first observation"),
        (RemembersEndsThroughAReset, "next_step", r"\(step 1 of|last observation"),
        (SwapsActions, "disabled", r"\(step 1 of|last observation"),
        (SeedsAllAlike, "next_step", "samples: differs.* of episode 0 of environment 1"),
        (SeedsOutsideOfTheMask, "disabled", "samples: differs"),
    ],
)
def test_a_broken_vector_form(
    mutant: type, form: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "VectorLatentObservation", mutant)
    plan = replace(PLAN, leave=0.2)
    options = {"normalize": False, "deterministic": not mutant.__name__.startswith("Seeds")}
    subject = LatentSubject(make_noise, MODEL, **options)
    with pytest.raises(Failed) as caught:
        check_form([subject], plan, form=form)
    text = str(caught.value).removeprefix("raw: ")
    assert re.search(found, text), text


def test_terminal_observations_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from latentwrap.integrations import sb3

    class Forgets(sb3.VecLatentObservation):
        def step_wait(self) -> Any:
            latents, rewards, dones, infos = super().step_wait()
            for latent, done, info in zip(latents, dones, infos, strict=True):
                if done:
                    info["terminal_observation"] = latent
            return latents, rewards, dones, infos

    monkeypatch.setattr(sb3, "VecLatentObservation", Forgets)
    with pytest.raises(Failed, match="first at the last observation"):
        check_form([LatentSubject(make_noise, MODEL)], PLAN, form="sb3")


# Wrappers of others ----------------------------------------------------------------------------


class MemoryLeaks(Memory):
    def reset(self, **arguments: Any) -> Any:
        observation, info = self.env.reset(**arguments)
        return self.remember(observation, 0.0), info


class MemoryForgetsAtTheEnd(Memory):
    def step(self, action: Any) -> Any:
        latent, reward, terminated, truncated, info = super().step(action)
        return latent * (not (terminated or truncated)), reward, terminated, truncated, info


class MemoryShares(Memory):
    def remember(self, observation: Any, action: float) -> np.ndarray:
        latent = super().remember(observation, action)
        self.buffer = getattr(self, "buffer", latent)
        self.buffer[:] = latent
        return self.buffer


class MemoryIsOfTheProcess(Memory):
    def remember(self, observation: Any, action: float) -> np.ndarray:
        elsewhere = multiprocessing.parent_process() is not None
        return super().remember(observation, action) + np.float32(elsewhere)


class MemoryOfAnUnseededKind(Memory):
    def remember(self, observation: Any, action: float) -> np.ndarray:
        return np.random.default_rng().normal(size=1).astype(np.float32)


class MemoryWithoutArguments(gym.ObservationWrapper):
    """Is no part of the spec: its constructor is not recorded."""

    def observation(self, observation: Any) -> Any:
        return observation


@pytest.mark.parametrize(
    ("mutant", "caught"),
    [
        (MemoryLeaks, {"leakage", "single", "next_step", "same_step", "disabled", "copy"}),
        (MemoryForgetsAtTheEnd, {"single", "next_step", "same_step", "disabled"}),
        (MemoryShares, {"single", "aliasing"}),
        (MemoryOfAnUnseededKind, {"seeding", "leakage", "single"}),
        (MemoryWithoutArguments, {"spec"}),
    ],
)
def test_broken_wrappers_of_others(mutant: Any, caught: set[str]) -> None:
    with pytest.raises(ConformanceError) as error:
        check_latent_env(make_noise, wrapper=mutant, steps=25, num_envs=2, processes=())
    assert {result.name for result in error.value.report.failed} >= caught
    for name in caught:
        assert f"\n  {name}: " in str(error.value)


@pytest.mark.parametrize("mutant", [MemoryLeaks, MemoryShares, MemoryOfAnUnseededKind])
def test_broken_environments_as_a_whole(mutant: Any) -> None:
    with pytest.raises(ConformanceError) as error:
        check_latent_env(lambda: mutant(make_noise()), steps=25, num_envs=2, processes=())
    report = error.value.report
    if mutant is MemoryOfAnUnseededKind:
        assert [result.name for result in report.failed] == ["seeding"]
        assert "requires an environment that repeats itself" in report["single"].found
    else:
        assert {result.name for result in report.failed} & {"leakage", "aliasing", "single"}


def test_a_wrapper_that_differs_in_another_process() -> None:
    subject = WrapperSubject(make_noise, MemoryIsOfTheProcess)
    with pytest.raises(Failed, match=r"a single environment there: differs.*workers: differs"):
        check_process([subject], PLAN, method="fork")


def test_a_spec_that_makes_another_environment(tmp_path: Any) -> None:
    from latentwrap.models import save_model

    path = tmp_path / "tiny.safetensors"
    save_model(path, MODEL, training={})

    class Subject(LatentSubject):
        def single(self, ends: Any) -> gym.Env:
            env = super().single(ends)
            env._saved_kwargs["normalize"] = False
            return env

    with pytest.raises(Failed, match="differs"):
        check_spec([Subject(make_noise, path)], PLAN)
