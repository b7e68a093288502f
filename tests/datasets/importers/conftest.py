"""Leaves out what cannot be installed on an old Python."""

from __future__ import annotations

import sys

# The first minari that can write images as they are, 0.5.4, requires Python 3.11.
collect_ignore = ["test_minari.py"] if sys.version_info < (3, 11) else []
