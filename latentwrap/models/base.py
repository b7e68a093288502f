"""The interface that every kind of latent model has.

Wrapper, trainer, evaluator and exporter work through it and never ask which kind they hold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from latentwrap.actions import ActionSpec
from latentwrap.config import Config
from latentwrap.devices import to_device
from latentwrap.errors import LatentwrapError
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec
from latentwrap.types import FloatArray
from latentwrap.vectors import VectorSpec

B = TypeVar("B", bound=tuple[Tensor, ...])
"""A belief, or any named tuple of tensors, each batch-first (B, ...)."""


class WindowTensors(NamedTuple):
    """A batch of windows on the model's device.

    Attributes:
        frames: uint8 (B, L+1, H, W, C).
        actions: encoded, float32 (B, L, A).
        rewards: float32 (B, L), or `None` where the dataset has none.
        terminations: float32 (B, L), 1 where the transition ended the episode.
        vectors: standardised, float32 (B, L+1, V); `None` for models that see none.
    """

    frames: Tensor
    actions: Tensor
    rewards: Tensor | None
    terminations: Tensor
    vectors: Tensor | None = None


class LossTerms(NamedTuple):
    """The loss of a batch of windows.

    Attributes:
        total: what is minimised; scalar.
        terms: its unweighted parts by name; scalars.
        features: what `LatentModel.see` gave for the windows, without gradient, float32
            (B, L+1, `seen_size`), for whoever filters the same windows.
    """

    total: Tensor
    terms: dict[str, Tensor]
    features: Tensor


class Innovation(NamedTuple):
    """What the newest frame (and vectors) brought to a belief.

    Attributes:
        kl: KL(q(s_t|x_≤t, a_<t) ‖ p(s_t|x_<t, a_<t)) in nats, summed over the stochastic
            dimensions, float32 (B,); zeros for kinds without any. Large where the frame was not
            foreseen.
        std: of each stochastic dimension under q, float32 (B, k); of categorical variables, that
            of each class's indicator, √(p (1 − p)).
    """

    kl: Tensor
    std: Tensor


@dataclass(frozen=True)
class CheckpointInfo:
    """Where a loaded model comes from.

    Attributes:
        path: the file.
        fingerprint: identifies weights and metadata; an agent stores it.
        document: all metadata of the file.
    """

    path: str
    fingerprint: str
    document: dict[str, Any] = field(repr=False)


class LatentModel(nn.Module, ABC):
    """A latent state-space model of pixel experience.

    Everything is batch-first. Frames enter as uint8 (B, H, W, C) and become float inside;
    actions enter encoded (`ActionSpec.encode`), float32 (B, A). Noise is standard normal
    (B, `noise_size`) and makes the belief a sample; without it the belief is the mean. A model
    that sees vectors takes them beside every frame, as `prepare_vectors` makes them.

    Attributes:
        kind: the name of the model kind.
        config: its hyperparameters.
        frame_spec, action_spec: what frames and actions must look like.
        frame_skip: how often an action was repeated in the pretraining data.
        normalizer: statistics of the latents over the pretraining data, once trained.
        vector_spec: the vectors that the pretraining data has, whether the model sees them or not.
        vector_normalizer: their statistics over the pretraining data; `None` where there are none.
        checkpoint: where the model was loaded from, if it was.
    """

    kind: ClassVar[str]
    config: Config

    def __init__(
        self,
        frame_spec: FrameSpec,
        action_spec: ActionSpec,
        frame_skip: int,
        vector_spec: VectorSpec | None = None,
    ) -> None:
        super().__init__()
        self.frame_spec = frame_spec
        self.action_spec = action_spec
        self.frame_skip = frame_skip
        self.normalizer: LatentNormalizer | None = None
        self.checkpoint: CheckpointInfo | None = None
        self.vector_spec = vector_spec or VectorSpec()
        self.vector_normalizer: LatentNormalizer | None = None

    @property
    def sees_vectors(self) -> bool:
        """Whether the model sees vectors beside frames."""
        return False

    @property
    @abstractmethod
    def latent_size(self) -> int:
        """Dimensions d of the latent that is handed out."""

    @property
    @abstractmethod
    def noise_size(self) -> int:
        """Standard normal numbers that one step of the filter needs."""

    @property
    def loss_noise_size(self) -> int:
        """Standard normal numbers that the loss needs for each frame."""
        return self.noise_size

    @property
    @abstractmethod
    def seen_size(self) -> int:
        """Features that `see` gives."""

    @abstractmethod
    def see(self, frames: Tensor, vectors: Tensor | None = None) -> Tensor:
        """All that is seen at once, whatever came before it.

        Args:
            frames: uint8 (N, H, W, C).
            vectors: as `prepare_vectors` gives them, float32 (N, V), or `None`.

        Returns:
            Features, float32 (N, `seen_size`).

        Raises:
            LatentwrapError: `vectors` are missing where the model sees them, or given where it
                does not.
        """

    @abstractmethod
    def believe_first(self, features: Tensor, noise: Tensor | None = None) -> Any:
        """The belief after the first frame of an episode, from its features (B, `seen_size`)."""

    @abstractmethod
    def believe_next(
        self, belief: Any, action: Tensor, features: Tensor, noise: Tensor | None = None
    ) -> Any:
        """The belief after one more action and the features of the frame that followed."""

    def initial(
        self, frame: Tensor, noise: Tensor | None = None, vectors: Tensor | None = None
    ) -> Any:
        """The belief after the first frame of an episode.

        Raises:
            LatentwrapError: as of `see`.
        """
        return self.believe_first(self.see(frame, vectors), noise)

    def filter(
        self,
        belief: Any,
        action: Tensor,
        frame: Tensor,
        noise: Tensor | None = None,
        vectors: Tensor | None = None,
    ) -> Any:
        """The belief after one more action and the frame that followed: a posterior step.

        Raises:
            LatentwrapError: as of `see`.
        """
        return self.believe_next(belief, action, self.see(frame, vectors), noise)

    @abstractmethod
    def predict(self, belief: Any, action: Tensor, noise: Tensor | None = None) -> Any:
        """The belief after one more action, without its frame: a prior step."""

    @abstractmethod
    def latent(self, belief: Any) -> Tensor:
        """The raw latent, float32 (B, d)."""

    @abstractmethod
    def decode(self, belief: Any) -> Tensor:
        """The frames that the belief expects, uint8 (B, H, W, C)."""

    @abstractmethod
    def loss(self, windows: WindowTensors, noise: Tensor) -> LossTerms:
        """The training loss.

        Args:
            windows: a batch of windows.
            noise: standard normal, float32 (B, L+1, `loss_noise_size`).
        """

    def kl_per_dimension(self, windows: WindowTensors, noise: Tensor) -> Tensor:  # noqa: ARG002
        """How much each stochastic dimension learns from a frame that was not foreseen.

        KL_i = mean over windows and t ≥ 1 of KL(q(z_i | x_1..x_{t+1}, a) ‖ p(z_i | x_1..x_t, a))

        Args:
            windows: a batch of windows.
            noise: as `loss` takes it, float32 (B, L+1, `loss_noise_size`).

        Returns:
            In nats, float32 (k,) on the model's device; (0,) for kinds without stochastic
            dimensions, which need not override this.
        """
        return torch.zeros(0, device=self.device)

    def innovation(
        self,
        belief: Any | None,  # noqa: ARG002
        action: Tensor | None,  # noqa: ARG002
        frame: Tensor,
        vectors: Tensor | None = None,  # noqa: ARG002
    ) -> Innovation:
        """What a frame brings to the belief before it.

        Args:
            belief: after the last frame; `None` if the frame is an episode's first.
            action: taken since, encoded, float32 (B, A); `None` likewise.
            frame: that followed, uint8 (B, H, W, C).
            vectors: as `filter` takes them.

        Returns:
            Zeros (B,) and (B, 0) for kinds without distributions, which need not override this.
        """
        nothing = torch.zeros(len(frame), 0, device=self.device)
        return Innovation(nothing.sum(dim=1), nothing)

    def prepare_vectors(self, vectors: FloatArray | None) -> Tensor | None:
        """What `initial`, `filter` and `loss` take of vectors, on the model's device.

        Args:
            vectors: as observed, joined in the order of `vector_spec`, float32 (..., V).

        Returns:
            Standardised, float32 (..., V); `None` for a model that sees none.

        Raises:
            LatentwrapError: the model sees vectors, but there are none, or other ones.
        """
        if not self.sees_vectors:
            return None
        if vectors is None or vectors.shape[-1] != self.vector_spec.size:
            found = "none" if vectors is None else f"an array {vectors.shape}"
            raise LatentwrapError(
                f"The model sees {self.vector_spec.size} numbers in the vectors "
                f"{', '.join(self.vector_spec.names)} beside each frame, got {found}: pass them."
            )
        if self.vector_normalizer is None:
            raise LatentwrapError(
                "The model sees vectors but has no statistics of them: train it, or load it."
            )
        scaled = torch.from_numpy(self.vector_normalizer.normalize(vectors))
        return to_device(scaled, self.device)

    @abstractmethod
    def fit_frames(self, frames: Tensor) -> None:
        """Show the model some frames, uint8 (N, H, W, C), before training starts."""

    @abstractmethod
    def fit_rewards(self, mean: float, std: float) -> None:
        """Tell the model the scale of the rewards before training starts."""

    @property
    def fingerprint(self) -> str | None:
        """Identifies weights and metadata; `None` for a model that was not loaded from a file."""
        return None if self.checkpoint is None else self.checkpoint.fingerprint

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def map_belief(function: Callable[..., Tensor], *beliefs: B) -> B:
    """Apply `function` to corresponding tensors of beliefs of the same kind.

    Example:
        >>> from typing import NamedTuple
        >>> class Pair(NamedTuple):
        ...     a: torch.Tensor
        ...     b: torch.Tensor
        >>> map_belief(lambda x: x[:1], Pair(torch.zeros(2, 3), torch.ones(2, 4))).b.shape
        torch.Size([1, 4])
    """
    kind = cast(Any, type(beliefs[0]))
    return cast(B, kind(*(function(*tensors) for tensors in zip(*beliefs, strict=True))))
