"""Filtering without torch: what filters of every backend share."""
