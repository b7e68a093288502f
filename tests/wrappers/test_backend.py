"""`backend="onnx"`: the same latents in every wrapper."""

from __future__ import annotations

import copy
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from tests.conftest import TINY, make_tiny_model

from latentwrap import LatentFilter, LatentObservation, RenderFrame, VectorLatentObservation
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError, ConfigError
from latentwrap.integrations.sb3 import VecLatentObservation
from latentwrap.models import load_model, save_model
from latentwrap.wrappers.backend import check_backend

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (4, 3, 16, 16, 3), dtype=np.uint8)
ACTIONS = RNG.uniform(-2, 2, (3, 3, 1)).astype(np.float32)

Export = Callable[[str], Path]


@pytest.fixture(params=TINY)
def checkpoint(request: pytest.FixtureRequest, exported: Export) -> Path:
    return exported(request.param)


def small() -> gym.Env:
    return RenderFrame(gym.make(PIXEL_PENDULUM), height=16, width=16)


def play(env: gym.Env, steps: int = 30) -> np.ndarray:
    latents = [env.reset(seed=0)[0]]
    env.action_space.seed(0)
    latents += [env.step(env.action_space.sample())[0] for _ in range(steps)]
    return np.stack(latents)


def test_one_environment(checkpoint: Path) -> None:
    env = LatentObservation(small(), checkpoint, backend="onnx")
    expected = play(LatentObservation(small(), checkpoint))
    np.testing.assert_allclose(play(env), expected, atol=1e-4)
    latest = LatentObservation(small(), checkpoint)
    play(latest)
    np.testing.assert_array_equal(env.frame, latest.frame)
    assert np.abs(env.reconstruct().astype(int) - latest.reconstruct()).max() <= 1
    np.testing.assert_allclose(env.imagine(ACTIONS[0]), latest.imagine(ACTIONS[0]), atol=1e-4)


@pytest.mark.parametrize("mode", gym.vector.AutoresetMode)
def test_vector_environments(exported: Export, mode: Any) -> None:
    checkpoint = exported("rssm")

    def run(backend: str) -> np.ndarray:
        makers = [lambda: gym.wrappers.TimeLimit(small(), 5)] * 3
        envs = gym.vector.SyncVectorEnv(makers, autoreset_mode=mode)
        latent_envs = VectorLatentObservation(envs, checkpoint, backend=backend)
        latents = [latent_envs.reset(seed=0)[0]]
        for t in range(12):
            found, _, _, truncated, infos = latent_envs.step(ACTIONS[t % 3])
            latents.append(found)
            latents += [np.stack(infos["final_obs"])] if "final_obs" in infos else []
            if mode is gym.vector.AutoresetMode.DISABLED and truncated.any():
                latents.append(latent_envs.reset(options={"reset_mask": truncated})[0])
        return np.stack(latents)

    np.testing.assert_allclose(run("onnx"), run("torch"), atol=1e-4)


def test_stable_baselines3(exported: Export) -> None:
    def run(backend: str) -> np.ndarray:
        makers = [lambda: gym.wrappers.TimeLimit(small(), 5)] * 3
        venv = VecLatentObservation(DummyVecEnv(makers), exported("slac"), backend=backend)
        venv.seed(0)
        latents = [venv.reset()]
        for t in range(12):
            found, _, dones, infos = venv.step(ACTIONS[t % 3])
            latents.append(found)
            if dones.all():
                latents.append(np.stack([info["terminal_observation"] for info in infos]))
        return np.stack(latents)

    np.testing.assert_allclose(run("onnx"), run("torch"), atol=1e-4)


def test_the_belief_is_the_models_own_and_can_be_exchanged(checkpoint: Path) -> None:
    latents, other = LatentFilter(checkpoint, 3, backend="onnx"), LatentFilter(checkpoint, 3)
    assert latents.belief is None
    latents.reset(FRAMES[0])
    other.reset(FRAMES[0])
    saved = latents.belief
    assert type(saved) is type(other.belief)
    for ours, theirs in zip(saved, other.belief, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    first = latents.step(ACTIONS[0], FRAMES[1])
    latents.step(ACTIONS[1], FRAMES[2])
    latents.belief = saved
    nobody = np.zeros(3, bool)
    # Where no stream moves, latents are those of the belief that was restored.
    np.testing.assert_allclose(
        latents.reset(FRAMES[3], nobody), other.reset(FRAMES[3], nobody), atol=1e-4
    )
    np.testing.assert_array_equal(latents.step(ACTIONS[0], FRAMES[1]), first)
    other.belief = saved
    np.testing.assert_allclose(other.step(ACTIONS[0], FRAMES[1]), first, atol=1e-4)
    latents.belief = None
    assert latents.belief is None


def test_the_spec_rebuilds_the_environment(exported: Export) -> None:
    env = gym.make(PIXEL_PENDULUM)
    env = LatentObservation(env, exported("rssm"), backend="onnx")
    assert env.spec is not None
    again = gym.make(env.spec)
    assert again.get_wrapper_attr("filter")._onnx is not None
    np.testing.assert_array_equal(play(again), play(env))


def test_the_registered_id_takes_it(exported: Export) -> None:
    options = {"env_id": PIXEL_PENDULUM, "ckpt": exported("rssm"), "backend": "onnx"}
    env = gym.make("latentwrap/Latent-v0", **options)
    assert env.get_wrapper_attr("filter")._onnx is not None
    envs: Any = gym.make_vec("latentwrap/Latent-v0", num_envs=2, **options)
    assert envs.filter._onnx is not None
    assert envs.reset(seed=0)[0].shape == (2, 8)
    envs.close()


def _play_in_worker(pickled: bytes, queue: Any) -> None:
    queue.put(play(cloudpickle.loads(pickled)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_give_the_same_latents(exported: Export, method: str) -> None:
    env = LatentObservation(small(), exported("rssm"), backend="onnx")
    expected = play(env)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_play_in_worker, args=(cloudpickle.dumps(env), queue))
    worker.start()
    found = queue.get(timeout=120)
    worker.join()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda f: cloudpickle.loads(cloudpickle.dumps(f))]
)
def test_copies_go_on_alike(exported: Export, clone: Any) -> None:
    latents = LatentFilter(exported("slac"), 3, backend="onnx")
    latents.reset(FRAMES[0])
    twin = clone(latents)
    expected = latents.step(ACTIONS[0], FRAMES[1])
    np.testing.assert_array_equal(twin.step(ACTIONS[0], FRAMES[1]), expected)


def test_what_it_cannot_do_is_refused(exported: Export) -> None:
    checkpoint = exported("rssm")
    with pytest.raises(ConfigError, match="no backend 'onx': did you mean 'onnx'"):
        LatentFilter(checkpoint, backend="onx")
    with pytest.raises(ConfigError, match="got deterministic=False: leave it out, or use"):
        LatentObservation(small(), checkpoint, backend="onnx", deterministic=False)
    with pytest.raises(ConfigError, match="got diagnostics=True"):
        LatentObservation(small(), checkpoint, backend="onnx", diagnostics=True)
    cuda = torch.device("cuda:0")
    with pytest.raises(ConfigError, match="on the CPU, got a model on cuda:0"):
        check_backend("onnx", deterministic=True, diagnostics=False, device=cuda)
    check_backend("torch", deterministic=False, diagnostics=True, device=cuda)


def test_graphs_that_are_missing_or_of_another_model_are_refused(
    exported: Export, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="not loaded from a file: save it"):
        LatentFilter(make_tiny_model(), backend="onnx")
    path = tmp_path / "my arm.safetensors"
    save_model(path, make_tiny_model(seed=1), training={})
    command = f"run latentwrap export '{path}' --onnx"
    with pytest.raises(CheckpointError, match=f"which are not there: {command}.$"):
        LatentFilter(path, backend="onnx")
    shutil.copytree(exported("rssm").with_suffix(".onnx"), tmp_path / "my arm.onnx")
    for ckpt in (path, load_model(path)):
        with pytest.raises(CheckpointError, match=f"of another model in .*: {command} --force.$"):
            LatentFilter(ckpt, backend="onnx")
