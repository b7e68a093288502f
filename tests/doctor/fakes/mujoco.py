"""Stands for MuJoCo: some backends of it are broken, each in a way of its own."""

from __future__ import annotations

import os

BACKEND = os.environ.get("MUJOCO_GL", "")
if BACKEND == "osmesa":
    raise AttributeError("'NoneType' object has no attribute 'glGetError'\nand more")
