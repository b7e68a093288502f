"""How many frames MuJoCo gives, `full` and `fast`, stepping and fitting included.

    MUJOCO_GL=egl python benchmarks/mujoco_rendering.py HalfCheetah-v5 Hopper-v5

Counted by seconds of CPU time, those of the drawing threads included, so that other work on the
machine counts little. The two take turns; the best turn counts.
"""

from __future__ import annotations

import sys
import time

from latentwrap.envs.frames import RenderFrame
from latentwrap.envs.making import make_env

TURNS = 3
SECONDS = 3.0


def rate(env: RenderFrame) -> float:
    """Steps in a second of CPU time."""
    env.reset(seed=0)
    steps, started = 0, time.process_time()
    while time.process_time() < started + SECONDS:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        steps += 1
        if terminated or truncated:
            env.reset()
    return steps / (time.process_time() - started)


def main() -> None:
    """Measure every environment that is named."""
    for env_id in sys.argv[1:] or ["HalfCheetah-v5"]:
        best = {"full": 0.0, "fast": 0.0}
        for _ in range(TURNS):
            for rendering in best:
                env = RenderFrame(make_env(env_id), rendering=rendering)
                best[rendering] = max(best[rendering], rate(env))
                env.close()
        ratio = best["fast"] / best["full"]
        print(f"{env_id}: full {best['full']:.0f}/s, fast {best['fast']:.0f}/s, × {ratio:.0f}")


if __name__ == "__main__":
    main()
