"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# A slow machine is no failure.
settings.register_profile("latentwrap", deadline=None, max_examples=50)
settings.load_profile("latentwrap")
