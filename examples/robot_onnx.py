"""A robot's control loop on numpy and onnxruntime alone: neither torch nor latentwrap is there.

    latentwrap export arm.safetensors --onnx    # where the model was trained
    python robot_onnx.py arm.onnx               # on the robot

`BareFilter` is all that a loop needs, for one stream, frames that have the model's size already
and a model that sees no vectors. `latentwrap.OnnxFilter` does more: it resizes and checks images,
scales actions of every kind, takes several streams and vectors, saves and restores beliefs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class BareFilter:
    """Turns frames and actions into the latents that a policy was trained on.

    Args:
        folder: that `latentwrap export` wrote.
    """

    def __init__(self, folder: str | Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # small graphs are fastest on one
        self.graphs = {
            name: onnxruntime.InferenceSession(Path(folder) / f"{name}.onnx", options)
            for name in ("encoder", "first", "step", "predict")
        }
        self.card = json.loads((Path(folder) / "filter.json").read_text(encoding="utf-8"))
        self.mean = np.float32(self.card["latent"]["mean"])
        self.std = np.maximum(np.float32(self.card["latent"]["std"]), np.float32(0.01))
        self.belief: dict[str, Any] = {}

    def reset(self, frame: Any) -> Any:
        """Begin an episode with its first frame, uint8 (H, W, C); the latent, float32 (d,)."""
        return self._believe("first", features=self._see(frame))

    def step(self, action: Any, frame: Any) -> Any:
        """Filter an action in [-1, 1], float32 (A,), and the frame that followed, if any."""
        encoded = np.float32(action)[None]
        if frame is None:
            return self._believe("predict", action=encoded, **self.belief)
        return self._believe("step", features=self._see(frame), action=encoded, **self.belief)

    def _see(self, frame: Any) -> Any:
        return self.graphs["encoder"].run(["features"], {"frame": frame[None]})[0]

    def _believe(self, graph: str, **inputs: Any) -> Any:
        parts = list(self.card["belief"])
        names = [*(f"next_{part}" for part in parts), "latent"]
        *belief, latent = self.graphs[graph].run(names, inputs)
        self.belief = dict(zip(parts, belief, strict=True))
        return np.clip((latent[0] - self.mean) / self.std, -10, 10)


def main(folder: str) -> None:
    """Filter noise, as if a camera had seen it."""
    latents, rng = BareFilter(folder), np.random.default_rng(0)
    frame = latents.card["frame"]
    shape = frame["height"], frame["width"], frame["channels"]
    inputs = {each.name: each for each in latents.graphs["step"].get_inputs()}
    size = inputs["action"].shape[1]
    z = latents.reset(rng.integers(0, 256, shape, np.uint8))
    for _ in range(100):
        action = rng.uniform(-1, 1, size)  # here a policy takes z
        z = latents.step(action, rng.integers(0, 256, shape, np.uint8))
    print(f"latent of {len(z)} numbers, the first {z[:4].round(3)}")


if __name__ == "__main__":
    main(sys.argv[1])
