"""What the observations of some episodes must be, told without the code that is checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from latentwrap.models import LatentModel
from latentwrap.pixels import fit_images
from latentwrap.testing.notes import Flat, Played, PlayedEpisode
from latentwrap.testing.recording import RecordedEpisode, Replay
from latentwrap.training.statistics import filter_sequences
from latentwrap.types import FloatArray, Frame
from latentwrap.wrappers.choosing import choose_inputs
from latentwrap.wrappers.workers import OneEnvironment, made_frames

Expected = list[list[list[Flat]]]
"""Observations of each environment, of each of its episodes, float64 (D,)."""

Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


class Reference(Protocol):
    """Tells what should have been observed."""

    def expected(self, played: Played) -> Expected:
        """For all that was played."""


class EpisodeInputs(NamedTuple):
    """One episode as the model is given it.

    Attributes:
        frames: T+1, each uint8 (1, H, W, C), `None` where the camera gave none.
        actions: T, each encoded, float32 (1, A).
        seen: T+1, arguments of a model that sees vectors.
        vectors: T+1, as they were observed, float32 (V,).
    """

    frames: list[Tensor | None]
    actions: list[Tensor]
    seen: list[dict[str, Tensor]]
    vectors: list[FloatArray]


class ModelReference:
    """Calls the model step by step, on recorded frames and actions.

    Args:
        model: the model.
        env: a pixel environment like those that were recorded.
        deterministic: the means; else samples, whose noise is drawn anew from each seed.
        compose: makes observations of raw latents and vectors; `None` leaves them as they are.
        image_keys, vector_keys, layout, frame_skip: as of `LatentObservation`.
    """

    def __init__(
        self,
        model: LatentModel,
        env: gym.Env[Any, Any],
        *,
        deterministic: bool = True,
        compose: Callable[[FloatArray, FloatArray], FloatArray] | None = None,
        image_keys: Sequence[str] | None = None,
        vector_keys: Sequence[str] | None = None,
        layout: str | None = None,
        frame_skip: int | None = None,
    ) -> None:
        self._model, self._compose, self.deterministic = model, compose, deterministic
        self._given = choose_inputs(
            model,
            env.observation_space,
            image_keys=image_keys,
            vector_keys=vector_keys,
            layout=layout,
            made=made_frames(OneEnvironment(env)),
        )
        self._skip = model.frame_skip if frame_skip is None else frame_skip

    def expected(self, played: Played) -> Expected:
        """Filtered anew from each first frame, one episode at a time."""
        pairs = zip(played.episodes, played.recorded, strict=True)
        return [self._environment(*pair) for pair in pairs]

    def drops(self, recorded: Sequence[Sequence[RecordedEpisode]]) -> bool:
        """Whether a camera gave no frame somewhere."""
        episodes = [episode for environment in recorded for episode in environment]
        return any(f is None for episode in episodes for f in self._inputs(episode).frames)

    @torch.inference_mode()
    def offline(self, recorded: Sequence[RecordedEpisode]) -> list[list[Flat]]:
        """The same by `filter_sequences`, as datasets are filtered: all at once, means only."""
        inputs = [self._inputs(episode) for episode in recorded]
        frames = [torch.cat([f for f in each.frames if f is not None]) for each in inputs]
        size = self._model.action_spec.size
        actions = [torch.cat([torch.zeros(0, size), *each.actions]) for each in inputs]
        vectors = None
        if self._model.sees_vectors:
            vectors = _padded([torch.cat([s["vectors"] for s in each.seen]) for each in inputs])
        series = filter_sequences(self._model, _padded(frames), _padded(actions), vectors)
        return [
            self._hand_out(latents[: len(each.frames)].cpu().numpy(), each)
            for latents, each in zip(series, inputs, strict=True)
        ]

    def _environment(
        self, episodes: Sequence[PlayedEpisode], recorded: Sequence[RecordedEpisode]
    ) -> list[list[Flat]]:
        noise, found = _Noise(self._model.noise_size), []
        for episode, record in zip(episodes, recorded, strict=False):
            noise.seed(episode.seed)
            found.append(self._episode(record, None if self.deterministic else noise))
        return found

    @torch.inference_mode()
    def _episode(self, record: RecordedEpisode, noise: _Noise | None) -> list[Flat]:
        """z_1 from x_1, then z_{t+1} from z_t, a_t and x_{t+1}."""
        model, inputs = self._model, self._inputs(record)
        belief, latents = None, []
        for t, (frame, seen) in enumerate(zip(inputs.frames, inputs.seen, strict=True)):
            drawn = None if noise is None else noise.draw().to(model.device)
            if t == 0:
                belief = model.initial(_present(frame), drawn, **seen)
            elif frame is None:
                belief = model.predict(belief, inputs.actions[t - 1], drawn)
            else:
                belief = model.filter(belief, inputs.actions[t - 1], frame, drawn, **seen)
            latents.append(model.latent(belief).cpu().numpy()[0])
        return self._hand_out(np.stack(latents), inputs)

    def _hand_out(self, latents: FloatArray, inputs: EpisodeInputs) -> list[Flat]:
        vectors = np.stack(inputs.vectors)
        composed = (
            np.concatenate([latents, vectors], axis=1)
            if self._compose is None
            else self._compose(latents, vectors)
        )
        return list(composed.astype(np.float64))

    def _inputs(self, record: RecordedEpisode) -> EpisodeInputs:
        model, spec, rows = self._model, self._model.action_spec, record.frames_at(self._skip)
        frames = [self._frame(record.observations[t], record.images[t]) for t in rows]
        vectors = [self._given.vectors(record.observations[t]) for t in rows]
        actions = [spec.encode(spec.flatten(record.actions[t])[None]) for t in rows[:-1]]
        prepared = [model.prepare_vectors(v[None]) for v in vectors]
        return EpisodeInputs(
            [None if f is None else torch.from_numpy(f[None]).to(model.device) for f in frames],
            [torch.from_numpy(action).to(model.device) for action in actions],
            [{} if v is None else {"vectors": v} for v in prepared],
            vectors,
        )

    def _frame(self, observation: Any, image: Any) -> Frame | None:
        spec = self._model.frame_spec
        if not self._given.reader.shapes:
            return fit_images((image,), spec)
        images = self._given.reader.images(observation)
        if images is None:
            return None
        return np.ascontiguousarray(images[0]) if self._given.fitted else fit_images(images, spec)


class FreshReference:
    """Plays each recorded episode once more, alone, in a wrapper that is new for it.

    Args:
        wrapper: puts the wrapper around an environment.
        env: an environment like those that were recorded.
    """

    def __init__(self, wrapper: Wrapper, env: gym.Env[Any, Any]) -> None:
        self._wrapper, self._like = wrapper, env

    def expected(self, played: Played) -> Expected:
        """What the new wrappers observe."""
        pairs = zip(played.episodes, played.recorded, strict=True)
        return [
            [self._episode(*pair) for pair in zip(episodes, recorded, strict=False)]
            for episodes, recorded in pairs
        ]

    def _episode(self, episode: PlayedEpisode, recorded: RecordedEpisode) -> list[Flat]:
        env = self._wrapper(Replay(recorded, self._like))
        found = [_flat(env, env.reset(seed=episode.seed)[0])]
        found += [_flat(env, env.step(copy.deepcopy(action))[0]) for action in episode.actions]
        return found


class SeededReference:
    """Plays the same in new environments with the same seeds; they must repeat themselves.

    Args:
        make: makes an environment.
    """

    def __init__(self, make: Callable[[], gym.Env[Any, Any]]) -> None:
        self._make = make

    def expected(self, played: Played) -> Expected:
        """What the new environments observe."""
        return [self._environment(episodes) for episodes in played.episodes]

    def _environment(self, episodes: Sequence[PlayedEpisode]) -> list[list[Flat]]:
        env, found = self._make(), []
        for episode in episodes:
            series = [_flat(env, env.reset(seed=episode.seed)[0])]
            series += [_flat(env, env.step(copy.deepcopy(action))[0]) for action in episode.actions]
            found.append(series)
        env.close()
        return found


class _Noise:
    """Standard normal numbers of one environment."""

    def __init__(self, size: int) -> None:
        self._size, self._generator = size, torch.Generator()

    def seed(self, seed: int | None) -> None:
        if seed is not None:
            self._generator.manual_seed(seed)

    def draw(self) -> Tensor:
        return torch.randn(self._size, generator=self._generator)[None]


def _flat(env: gym.Env[Any, Any], observation: Any) -> Flat:
    flat: Flat = np.array(spaces.flatten(env.observation_space, observation), np.float64)
    return flat.reshape(-1)


def _padded(sequences: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)


def _present(frame: Tensor | None) -> Tensor:
    assert frame is not None  # noqa: S101 - the wrapper refuses to begin without a frame
    return frame
