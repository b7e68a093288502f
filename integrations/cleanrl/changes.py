"""What Gymnasium 1.1 and later need in CleanRL's scripts, which are written for 0.29."""

from __future__ import annotations

import re
from typing import NamedTuple


class Change(NamedTuple):
    """A pattern that a script has once, and what takes its place."""

    pattern: str
    replacement: str


SAME_STEP = Change(
    r"(SyncVectorEnv\(\s*\[make_env\([^\n]*\]),?\n",
    r"\1,\n        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,\n",
)
EPISODES = Change(
    r'( *)for info in infos\["final_info"\]:\n',
    r'\1for i in np.flatnonzero(infos["_final_info"]):\n'
    r'\1    info = {"episode": {k: v[i] for k, v in infos["final_info"]["episode"].items()}}\n',
)
CLIPPED_SPACE = Change(r"(TransformObservation\(env, [^\n]*)\)\n", r"\1, env.observation_space)\n")
LAST_OBSERVATION = Change(r'infos\["final_observation"\]', 'infos["final_obs"]')

CHANGES = {
    "ppo_continuous_action": (SAME_STEP, EPISODES, CLIPPED_SPACE),
    "sac_continuous_action": (SAME_STEP, EPISODES, LAST_OBSERVATION),
}


class DoesNotFit(Exception):
    """A script that is not the one that a change was made for."""


def changed(name: str, code: str) -> str:
    """The code of the script called `name` with its changes.

    Raises:
        DoesNotFit: a pattern is not there, or more than once.
    """
    for change in CHANGES[name]:
        code, count = re.subn(change.pattern, change.replacement, code)
        if count != 1:
            raise DoesNotFit(f"{name} has {change.pattern} {count} times")
    return code
