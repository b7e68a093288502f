"""Hyperparameters of learning model and agent together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from latentwrap.agents.config import SACConfig

_INITIAL = 1000


class JointConfig(SACConfig):
    """Hyperparameters beside those of the model and of `SACConfig`.

    Attributes:
        buffer_size: transitions that the replay holds, with their frames; bounds the memory.
        learning_starts: random actions before anything is learned; where no episode has the length
            of the model's window by then, learning waits for at most that many steps more.
        initial_model_updates: updates of the model after these, before the agent acts; `None` is
            1,000 for a new model and none for one that has learned before.
        model_updates: updates of the model for each environment step; 0.5 is one every second.
        actor_input: what the actor sees: `latent`, or `history`, the features of the latest frames
            and the actions between them, as published. The critics see the latent. `None` is
            `history` for a new model and `latent` for one that has learned before.
        history: frames in that history.
        sample_latents: latents are samples of the posterior; else means.
        fresh: features and latents of a batch are computed anew for every update of the agent, as
            published; else they are those that the replay keeps, which every update of the model
            renews for the windows it saw.
        burn_in: steps of the filter, from the belief that the replay keeps, before a latent that is
            computed anew counts.
        rescale_every: environment steps between measurements of the latents' scale.
    """

    buffer_size: int = Field(100_000, ge=1)
    learning_starts: int = Field(1000, ge=1)
    initial_model_updates: int | None = Field(None, ge=0)
    model_updates: float = Field(1.0, ge=0)
    actor_input: Literal["latent", "history"] | None = None
    history: int = Field(8, ge=1)
    sample_latents: bool = True
    fresh: bool = False
    burn_in: int = Field(8, ge=1)
    rescale_every: int = Field(1000, ge=1)

    def settled(self, *, new_model: bool) -> JointConfig:
        """With everything decided that depends on what the model begins as."""
        updates = self.initial_model_updates
        return self.replace(
            actor_input=self.actor_input or ("history" if new_model else "latent"),
            initial_model_updates=updates if updates is not None else _INITIAL * new_model,
        )
