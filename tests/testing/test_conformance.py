"""What holds passes the suite: our own forms, in all patterns of ends, and others' wrappers."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from hypothesis import given, settings
from hypothesis import strategies as st
from latentwrap_test_noise import SIDE, CameraNoise, Memory, NoiseEnv, RenderedNoise
from tests.conftest import TINY, make_tiny_model

from latentwrap.errors import LatentwrapError
from latentwrap.models import save_model
from latentwrap.pixels import Camera, FrameSpec
from latentwrap.testing import ConformanceError, End, Plan, Report, check_latent_env
from latentwrap.testing.forms import FORMS, check_form, check_offline
from latentwrap.testing.subjects import LatentSubject

FRAME = FrameSpec(height=SIDE, width=SIDE)
MODELS = {kind: make_tiny_model(kind=kind, frame=FRAME) for kind in TINY}
CORE = ["single", "next_step", "same_step", "disabled"]
check_briefly = partial(check_latent_env, steps=12, num_envs=2, processes=())
HERE = [form for form in FORMS if form != "torchrl" or importlib.util.find_spec("torchrl")]


def make_noise() -> gym.Env:
    return gym.make("latentwrap-test/Noise-v0")


def names(report: Report, *, skipped: bool) -> set[str]:
    return {r.name for r in report.results if (r in report.skipped) == skipped}


def test_a_checkpoint_passes_in_every_way(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_model(path, MODELS["slac"], training={})
    report = check_latent_env(make_noise, path, steps=15, num_envs=2)
    assert not report.failed
    assert names(report, skipped=True) <= {"torchrl", "sb3"}
    assert {*CORE, "offline", "aliasing", "copy", "pickle", "spec", "fork", "spawn"} <= names(
        report, skipped=False
    )


def test_a_loaded_model_passes_and_needs_no_spec() -> None:
    report = check_briefly(make_noise, MODELS["deterministic"])
    assert "a loaded model has no spec" in report["spec"].found


ends = st.builds(
    lambda after, how: End(after, *how),
    st.integers(1, 6),
    st.sampled_from([(True, False), (False, True), (True, True)]),
)
plans = st.builds(
    Plan,
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 12),
    ends=st.lists(st.lists(ends, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3).map(
        tuple
    ),
    leave=st.sampled_from([0.0, 0.2]),
)


@pytest.mark.parametrize("form", [*HERE, "offline"])
@settings(max_examples=10)
@given(
    plan=plans,
    kind=st.sampled_from(list(TINY)),
    options=st.sampled_from(
        [
            {"normalize": True},
            {"normalize": False},
            {"normalize": False, "deterministic": False},
        ]
    ),
)
def test_every_pattern_of_ends_gives_the_same_latents(
    form: str, plan: Plan, kind: str, options: dict[str, bool]
) -> None:
    subject = LatentSubject(NoiseEnv, MODELS[kind], **options)
    if form != "offline":
        assert "largest difference" in check_form([subject], plan, form=form)
    elif subject.deterministic:
        assert "largest difference" in check_offline([subject], plan)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (2, 2)),
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(2),
    ],
    ids=str,
)
def test_every_kind_of_action_passes(space: spaces.Space) -> None:
    model = make_tiny_model(frame=FRAME, action_space=space)
    check_briefly(partial(NoiseEnv, space), model)


def test_an_environment_that_never_repeats_itself_passes() -> None:
    report = check_briefly(partial(NoiseEnv, repeats=False), MODELS["rssm"])
    assert names(report, skipped=True) >= {"seeding", "leakage"}
    assert "does not repeat itself" in report["seeding"].found


def test_pictures_that_are_only_rendered_pass() -> None:
    check_briefly(RenderedNoise, MODELS["rssm"])


def test_repeated_actions_pass() -> None:
    check_briefly(make_noise, make_tiny_model(frame=FRAME, frame_skip=3))


def test_cameras_and_vectors_pass() -> None:
    cameras = tuple(
        Camera(name=name, source_height=SIDE, source_width=SIDE) for name in ("left", "right")
    )
    frame = FrameSpec(height=SIDE, width=2 * SIDE, cameras=cameras)
    model = make_tiny_model(frame=frame)
    # Workers send frames and vectors joined, all others send what they observe.
    check_briefly(CameraNoise, model, vector_keys=["joints"], processes=["fork"])


@pytest.mark.parametrize("wrapper", [Memory, partial(FrameStackObservation, stack_size=3)])
@pytest.mark.parametrize("outside", [True, False])
def test_wrappers_of_others_pass(wrapper: Callable[[Any], gym.Env], outside: bool) -> None:
    if outside:
        report = check_briefly(make_noise, wrapper=wrapper)
    else:
        report = check_briefly(lambda: wrapper(make_noise()))
    assert names(report, skipped=True) <= {"offline", "torchrl", "sb3"}


def test_other_processes_run_wrappers_of_others() -> None:
    report = check_latent_env(make_noise, wrapper=Memory, steps=8, processes=["fork"])
    assert "workers: largest difference" in report["fork"].found


def test_an_environment_that_cannot_be_copied_or_made_again_is_no_fault_of_the_wrapper() -> None:
    class Unique(NoiseEnv):
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise TypeError("there is only one")

    report = check_briefly(Unique, wrapper=Memory)
    assert names(report, skipped=True) >= {"copy", "pickle", "spec"}
    assert "cannot be copied: TypeError: there is only one" in report["copy"].found


def test_nor_is_one_that_cannot_be_copied_once_it_rendered() -> None:
    class Windowed(RenderedNoise):
        def render(self) -> np.ndarray:
            self.window = threading.Lock()
            return super().render()

    report = check_briefly(Windowed, MODELS["rssm"])
    assert "cannot be copied: TypeError: cannot pickle" in report["copy"].found


def test_arguments_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(LatentwrapError, match="either ckpt or wrapper"):
        check_latent_env(make_noise, MODELS["rssm"], wrapper=Memory)
    with pytest.raises(LatentwrapError, match="fork, spawn, forkserver, got spoon"):
        check_latent_env(make_noise, processes=["spoon", "fork"])
    with pytest.raises(LatentwrapError, match="requires ckpt for the options stretch"):
        check_latent_env(make_noise, stretch=True)


def test_an_error_in_what_is_checked_is_a_failure_that_says_so() -> None:
    class Broken(Memory):
        def step(self, action: Any) -> Any:
            raise KeyError("camera")

    with pytest.raises(ConformanceError, match=r"single: raised KeyError: 'camera'") as caught:
        check_briefly(make_noise, wrapper=Broken)
    assert "spec" not in str(caught.value).splitlines()[0]
    assert isinstance(caught.value, LatentwrapError)
    assert caught.value.report["single"] in caught.value.report.failed
