"""TorchRL: the transform gives the latents of the filter, whatever ends when, and SAC trains."""

from __future__ import annotations

import copy
import doctest
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from latent_toys import BOX, KINDS, NoiseBatch, NoiseEnv, filtered, noisy, tiny_model
from tensordict import TensorDict, TensorDictBase
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import (
    Compose,
    EnvBase,
    FrameSkipTransform,
    GymWrapper,
    ParallelEnv,
    RewardSum,
    SerialEnv,
    StepCounter,
    ToTensorImage,
    Transform,
    TransformedEnv,
    check_env_specs,
)

import latentwrap
from latentwrap.errors import EnvironmentMismatch, LatentwrapError
from latentwrap.integrations import torchrl_spaces
from latentwrap.integrations.torchrl import LatentTransform
from latentwrap.models import LatentModel, save_model

PATTERNS = 1000
RAW, STANDARDISED = 1e-5, 1e-4


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> LatentModel:
    return tiny_model(request.param)


def difference(got: Any, expected: Any, *, normalize: bool) -> float:
    """The largest difference, as a share of what is allowed."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    allowed = STANDARDISED if normalize else RAW * np.maximum(1, np.abs(expected))
    return float(np.max(np.abs(got - expected) / allowed))


def run_at_random(env: EnvBase, seed: int, steps: int = 10) -> list[list[np.ndarray]]:
    """Step and reset some of the environments at random; the latents of each, in order."""
    rng, count = np.random.default_rng(seed), env.batch_size.numel()
    tensordict, latents = env.reset(), [[] for _ in range(count)]
    append(latents, tensordict, np.ones(count, bool))
    for _ in range(steps):
        stepped = rng.random(count) < 0.8
        tensordict = env.rand_action(tensordict)
        if not stepped.all():
            tensordict["_step"] = shaped(stepped, env)[..., 0]
        before, tensordict = tensordict, env.step(tensordict)
        unchanged(before, tensordict["next"], ~stepped)
        append(latents, tensordict["next"], stepped)
        tensordict = env.step_mdp(tensordict.exclude("_step"))
        done = tensordict["done"].reshape(count).numpy()
        resets = done | (rng.random(count) < 0.1)
        if resets.any():
            before = tensordict.clone()
            tensordict["_reset"] = shaped(resets, env)
            tensordict = env.reset(tensordict)
            unchanged(before, tensordict, ~resets)
            append(latents, tensordict, resets)
    return latents


def shaped(mask: np.ndarray, env: EnvBase) -> torch.Tensor:
    return torch.as_tensor(mask).reshape(*env.batch_size, 1)


def append(latents: list[list[np.ndarray]], tensordict: TensorDictBase, chosen: Any) -> None:
    rows = tensordict["observation"].reshape(len(latents), -1).numpy().copy()
    for i in np.flatnonzero(chosen):
        latents[i].append(rows[i])


def unchanged(before: TensorDictBase, after: TensorDictBase, chosen: np.ndarray) -> None:
    """Environments that neither step nor reset keep latent and belief bit for bit."""
    rows = torch.as_tensor(chosen)
    for key in ("observation", *(("belief", name) for name in before["belief"].to_dict())):
        old, new = (x[key].reshape(len(rows), -1)[rows] for x in (before, after))
        assert torch.equal(old, new), key


@pytest.mark.parametrize("normalize", [True, False])
def test_latents_are_those_of_the_filter_whatever_ends_when(
    normalize: bool, record_property: Callable[[str, object], None]
) -> None:
    worst, kinds, encodings = 0.0, list(KINDS), ["box", "onehot", "categorical"]
    models = {
        (kind, encoding): tiny_model(kind, BOX if encoding == "box" else spaces.Discrete(3))
        for kind in kinds
        for encoding in encodings
    }
    for pattern in range(PATTERNS // 2):
        kind, encoding = kinds[pattern % 3], encodings[pattern // 3 % 3]
        batch = [(3,), (1,), (2, 2), (4,), ()][pattern % 5]
        model = models[kind, encoding]
        torch.manual_seed(pattern)
        inside = NoiseBatch(pattern, batch, encoding)
        env = TransformedEnv(inside, LatentTransform(model, normalize=normalize))
        latents = run_at_random(env, pattern)
        for got, log in zip(latents, inside.log, strict=True):
            expected = filtered(log, model, normalize=normalize)
            worst = max(worst, difference(got, expected, normalize=normalize))
    record_property("share of what is allowed", worst)
    assert worst <= 1


def twin(env: gym.Env, actions: np.ndarray, done: np.ndarray) -> tuple[list, list]:
    """What a single environment observes when the same actions are taken: roots and nexts."""
    roots, nexts = [env.reset()[0]], []
    for action, over in zip(actions, done, strict=True):
        latent, _, terminated, truncated, _ = env.step(action)
        assert (terminated or truncated) == over
        nexts.append(latent)
        roots.append(env.reset()[0] if over else latent)
    return roots[:-1], nexts


def outside(count: int, seed: int, **options: Any) -> EnvBase:
    return TransformedEnv(SerialEnv(count, made(seed, count)), LatentTransform(**options))


def inside(count: int, seed: int, **options: Any) -> EnvBase:
    return SerialEnv(count, made(seed, count, **options))


def scaled(count: int, seed: int, **options: Any) -> EnvBase:
    """Frames as floats (C, H, W), and other transforms before and after."""
    transforms = Compose(
        ToTensorImage(), StepCounter(), LatentTransform(**options), RewardSum(), StepCounter(4)
    )
    return TransformedEnv(SerialEnv(count, made(seed, count)), transforms)


def parallel_outside(count: int, seed: int, **options: Any) -> EnvBase:
    return TransformedEnv(ParallelEnv(count, made(seed, count)), LatentTransform(**options))


def parallel_inside(count: int, seed: int, **options: Any) -> EnvBase:
    return ParallelEnv(count, made(seed, count, **options))


def made(seed: int, count: int, **options: Any) -> list[Callable[[], EnvBase]]:
    return [partial(noisy, 10 * seed + i, **options) for i in range(count)]


def check_rollout(env: EnvBase, seed: int, model: LatentModel, *, normalize: bool = True) -> None:
    """Roots and nexts are what the wrapper observes around each environment."""
    torch.manual_seed(seed)
    data = env.rollout(20, break_when_any_done=False)
    compare(data, seed, model, normalize=normalize)


def compare(data: TensorDictBase, seed: int, model: LatentModel, *, normalize: bool = True) -> None:
    for i in range(len(data)):
        single = latentwrap.LatentObservation(NoiseEnv(10 * seed + i), model, normalize=normalize)
        done = data["next", "done"][i, :, 0].numpy()
        assert done.sum() >= 3
        roots, nexts = twin(single, data["action"][i].numpy(), done)
        assert difference(data["observation"][i], roots, normalize=normalize) <= 1
        assert difference(data["next", "observation"][i], nexts, normalize=normalize) <= 1


@pytest.mark.parametrize("form", [outside, inside])
@pytest.mark.parametrize("normalize", [True, False])
def test_rollouts_are_those_of_the_wrapper(form: Any, normalize: bool, model: LatentModel) -> None:
    for seed in range(4):
        env = form(3, seed, ckpt=model, normalize=normalize)
        check_rollout(env, seed, model, normalize=normalize)


@pytest.mark.parametrize("form", [parallel_outside, parallel_inside])
def test_workers_give_the_same_latents(form: Any, tmp_path: Path) -> None:
    path, model = tmp_path / "tiny.safetensors", tiny_model()
    save_model(path, model, training={})
    env = form(2, 1, ckpt=path)
    check_rollout(env, 1, model)
    check_env_specs(env, break_when_any_done="both")
    env.close()


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_vector_environments_of_gymnasium(mode: AutoresetMode, model: LatentModel) -> None:
    singles = [NoiseEnv(i) for i in range(3)]
    vector = SyncVectorEnv(
        [partial(lambda x: x, single) for single in singles], autoreset_mode=mode
    )
    env = TransformedEnv(
        GymWrapper(vector),
        LatentTransform(model, in_keys=["observation"]),
        auto_unwrap=False,
    )
    assert env.specs is not None  # TorchRL tries the environment out to know them
    for single in singles:
        single.log.clear()
    data = env.rollout(20, break_when_any_done=False)
    for i, single in enumerate(singles):
        follows = [*single.log[1:], (0, None)]
        # Where all end at once, TorchRL resets once more than Gymnasium did.
        log = [
            x
            for x, after in zip(single.log, follows, strict=True)
            if x[0] is not None or after[0] is not None
        ]
        expected = iter(filtered(log, model))
        root = next(expected)
        for step in data[i]:
            assert difference(step["observation"], root, normalize=True) <= 1
            root = next(expected)
            assert difference(step["next", "observation"], root, normalize=True) <= 1
            root = next(expected, None) if step["next", "done"] else root


def test_floats_as_to_tensor_image_leaves_them(model: LatentModel) -> None:
    torch.manual_seed(0)
    data = scaled(2, 0, ckpt=model).rollout(3, break_when_any_done=False)
    torch.manual_seed(0)
    expected = outside(2, 0, ckpt=model).rollout(3, break_when_any_done=False)
    assert torch.equal(data["next", "observation"], expected["next", "observation"])


def test_rollout_until_all_are_done_keeps_those_that_wait(model: LatentModel) -> None:
    env = outside(3, 4, ckpt=model)
    data = env.rollout(20, break_when_all_done=True, break_when_any_done=False)
    lengths = data["next", "done"][..., 0].int().argmax(dim=1)
    assert len(set(lengths.tolist())) > 1
    for i, last in enumerate(lengths.tolist()):
        waiting = data["next", "observation"][i, last:]
        assert torch.equal(waiting, waiting[:1].expand_as(waiting))


@pytest.mark.parametrize("form", [outside, inside, scaled])
@pytest.mark.parametrize("count", [1, 3])
def test_specs(form: Any, count: int, model: LatentModel) -> None:
    check_env_specs(form(count, 0, ckpt=model), break_when_any_done="both")


@pytest.mark.parametrize("encoding", ["box", "onehot", "categorical"])
@pytest.mark.parametrize("options", [{"normalize": False}, {"del_keys": False}, {"seed": 3}])
def test_specs_of_a_batch_and_of_options(encoding: str, options: Any) -> None:
    model = tiny_model(space=BOX if encoding == "box" else spaces.Discrete(3))
    options = {**options, "deterministic": "seed" not in options}
    env = TransformedEnv(NoiseBatch(0, (2, 2), encoding), LatentTransform(model, **options))
    check_env_specs(env, break_when_any_done="both")
    kept = set(env.observation_spec.keys())
    assert ("pixels" in kept) == (options.get("del_keys") is False)
    assert env.observation_spec["observation"].shape == (2, 2, 8)


def actions_of(space: spaces.Space, *, categorical: bool) -> tuple[np.ndarray, Any]:
    """Latents of the transform and of the wrapper on the same actions of `space`."""
    model = tiny_model(space=space)
    wrapped = GymWrapper(NoiseEnv(5, space), categorical_action_encoding=categorical)
    env = TransformedEnv(wrapped, LatentTransform(model))
    data = env.rollout(8, break_when_any_done=False)
    taken = [env.base_env.read_action(action) for action in data["action"]]
    single = latentwrap.LatentObservation(NoiseEnv(5, space), model)
    return data["next", "observation"].numpy(), twin(single, taken, data["next", "done"])[1]


@pytest.mark.parametrize("categorical", [True, False])
@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiDiscrete([3, 3]),
        spaces.MultiBinary(3),
        spaces.Box(-1, 3, (2, 2), np.float32),
        spaces.Box(-np.inf, np.inf, (2,), np.float32),
    ],
    ids=str,
)
def test_actions_of_every_kind(space: spaces.Space, categorical: bool) -> None:
    got, expected = actions_of(space, categorical=categorical)
    assert difference(got, expected, normalize=True) <= 1


def test_the_example_of_the_spaces_runs() -> None:
    assert doctest.testmod(torchrl_spaces) == (0, 2)


class Half(Transform):
    """Halves the action on its way to the environment."""

    def __init__(self) -> None:
        super().__init__(in_keys_inv=["action"], out_keys_inv=["action"])

    def _inv_apply_transform(self, action: torch.Tensor) -> torch.Tensor:
        return action / 2


@pytest.mark.parametrize("before", [True, False])
def test_the_model_is_told_the_action_that_the_environment_took(before: bool) -> None:
    model = tiny_model()
    order = [Half(), LatentTransform(model)] if before else [LatentTransform(model), Half()]
    inside = NoiseBatch(0, (2,))
    env = TransformedEnv(inside, Compose(*order))
    data = env.rollout(3, break_when_any_done=False)
    for i, log in enumerate(inside.log):
        np.testing.assert_array_equal(log[1][0], data["action"][i, 0] / 2)
        last = filtered([step for step in log if step[0] is not None or step is log[0]][:2], model)
        assert difference(data["next", "observation"][i, 0], last[-1], normalize=True) <= 1


def test_samples_follow_the_seed_of_each_environment() -> None:
    model = tiny_model()

    def sampled(seed: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        transform = LatentTransform(model, deterministic=False, seed=seed)
        env = TransformedEnv(SerialEnv(2, made(0, 2)), transform)
        return env.rollout(12, break_when_any_done=False)

    data = sampled(3)
    assert torch.equal(data["observation"], sampled(3)["observation"])
    assert not torch.equal(data["observation"], sampled(4)["observation"])
    assert not torch.equal(data["observation"], sampled(None)["observation"])
    for i in range(2):
        single = latentwrap.LatentObservation(NoiseEnv(i), model, deterministic=False)
        single.filter.seed(3 + i)
        done = data["next", "done"][i, :, 0].numpy()
        nexts = twin(single, data["action"][i].numpy(), done)[1]
        assert difference(data["next", "observation"][i], nexts, normalize=True) <= 1


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize(
    "clone",
    [copy.deepcopy, LatentTransform.clone, lambda t: pickle.loads(pickle.dumps(t))],  # noqa: S301
    ids=["deepcopy", "clone", "pickle"],
)
def test_copies_go_on_alike(clone: Any, deterministic: bool) -> None:
    transform = LatentTransform(tiny_model(), deterministic=deterministic, seed=1)
    first = TransformedEnv(NoiseBatch(0, (2,)), transform)
    first.rollout(2)
    second = TransformedEnv(copy.deepcopy(first.base_env), clone(transform.clone()))
    runs = []
    for env in (first, second):
        torch.manual_seed(0)
        runs.append(env.rollout(9, break_when_any_done=False)["next", "observation"])
    assert torch.equal(*runs)


def test_a_step_without_the_belief_is_refused(model: LatentModel) -> None:
    env = outside(3, 0, ckpt=model)
    first = env.rand_action(env.reset())
    with pytest.raises(LatentwrapError, match=r"belief under 'belief'.*environments \[0, 1, 2\]"):
        env.step(first.exclude("belief"))
    lost = first.clone()
    lost["belief"][1] = torch.zeros_like(lost["belief"][1])
    with pytest.raises(LatentwrapError, match=r"none for environments \[1\]"):
        env.step(lost)


def test_a_partial_reset_does_not_invent_beliefs(model: LatentModel) -> None:
    env = outside(2, 0, ckpt=model)
    env.reset()
    mask = torch.tensor([[True], [False]])
    partly = env.reset(TensorDict({"_reset": mask}, batch_size=[2]))
    with pytest.raises(LatentwrapError, match=r"none for environments \[1\]"):
        env.step(env.rand_action(partly))


def test_the_model_is_no_part_of_the_environments_parameters(model: LatentModel) -> None:
    env = outside(2, 0, ckpt=model)
    assert list(env.parameters()) == []
    assert not env.rollout(2)["next", "observation"].requires_grad


def test_gradients_flow_through_a_policy_on_latents(model: LatentModel) -> None:
    latents = outside(2, 0, ckpt=model).rollout(2)["observation"]
    layer = torch.nn.Linear(8, 1)
    layer(latents).sum().backward()  # an inference tensor could not be saved for this
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


def refusal(inside: EnvBase, model: LatentModel, **options: Any) -> str:
    with pytest.raises(LatentwrapError) as caught:
        TransformedEnv(inside, LatentTransform(model, **options)).rollout(2)
    return str(caught.value)


def test_what_the_transform_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, nothing = tiny_model(), TensorDict(batch_size=[2])
    with pytest.raises(EnvironmentMismatch, match="native_autoreset=False"):
        LatentTransform(model)._reset_on_native_autoreset(nothing, nothing)
    with pytest.raises(LatentwrapError, match="LatentFilter"):
        LatentTransform(model)(TensorDict(pixels=torch.zeros(3, 32, 32, 3, dtype=torch.uint8)))
    monkeypatch.setattr(type(model), "sees_vectors", True)
    with pytest.raises(EnvironmentMismatch, match="images alone"):
        LatentTransform(model)


def test_mistakes_are_told_in_one_sentence() -> None:
    model, batch = tiny_model(), NoiseBatch(0, (2,))
    assert "images under 'camera', the environment gives 'pixels'" in refusal(
        batch, model, in_keys=["camera"]
    )
    assert "1 in_keys and one of out_keys" in refusal(batch, model, in_keys=["a", "b"])
    assert "expects the action space" in refusal(NoiseBatch(0, (2,), "onehot"), model)
    assert "Discrete(3)" in refusal(NoiseBatch(0, (2,)), tiny_model(space=spaces.Discrete(3)))
    assert "FrameSkipTransform(4)" in refusal(batch, tiny_model(frame_skip=4))
    assert "layout" in refusal(batch, model, layout="CHWT")
    wide = tiny_model()
    wide.frame_spec = wide.frame_spec.model_copy(update={"source_width": 64})
    assert "aspect ratio" in refusal(batch, wide)
    TransformedEnv(batch, LatentTransform(wide, stretch=True)).rollout(2)
    wide.normalizer = None
    assert "without latent statistics" in refusal(batch, wide, stretch=True)


def test_repeated_actions_are_filtered_once() -> None:
    model = tiny_model(frame_skip=2)
    transforms = Compose(FrameSkipTransform(2), LatentTransform(model, frame_skip=2))
    inside = NoiseBatch(0, (1,))
    with pytest.raises(EnvironmentMismatch):
        LatentTransform(model)
    data = TransformedEnv(inside, transforms).rollout(1)
    taken = inside.log[0]
    expected = filtered([taken[0], taken[2]], model)[-1]
    assert difference(data["next", "observation"][0, 0], expected, normalize=True) <= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_collector_carries_the_belief_over_its_batches(model: LatentModel, workers: int) -> None:
    env = outside(workers, 2, ckpt=model)
    collector = Collector(env, frames_per_batch=5 * workers, total_frames=40 * workers)
    data = torch.cat([batch.clone() for batch in collector], dim=1)
    collector.shutdown()
    compare(data, 2, model)


def test_the_wrapper_in_a_gym_wrapper(model: LatentModel, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_model(path, model, training={})
    env = GymWrapper(latentwrap.LatentObservation(NoiseEnv(0), path))
    check_env_specs(env, break_when_any_done="both")
    collector = Collector(env, frames_per_batch=50, total_frames=1000)
    buffer = ReplayBuffer(storage=LazyTensorStorage(1000), batch_size=32)
    for batch in collector:
        buffer.extend(batch)
    collector.shutdown()
    assert len(buffer) == 1000
    assert buffer.sample()["observation"].shape == (32, model.latent_size)


def test_sac_trains(checkpoint: Path, run_example: Any, record: Any) -> None:
    printed = run_example("torchrl_sac", "--model", checkpoint, "--steps", 1500)
    record(algorithm="SAC (LatentTransform)", steps=1500, result=printed.splitlines()[-1])
