"""Standardising latents by hand-computed cases."""

from __future__ import annotations

import numpy as np

from latentwrap.normalizer import LatentNormalizer

NORMALIZER = LatentNormalizer(np.float32([1, 0, 0]), np.float32([2, 0.001, 1]))


def test_values_are_standardised_floored_and_clipped() -> None:
    latents = np.float32([[3, 0.02, -50], [1, -0.05, 2]])
    # Second column: the std is floored at 0.01. Third: clipped at -10.
    expected = [[1, 2, -10], [0, -5, 2]]
    np.testing.assert_allclose(NORMALIZER.normalize(latents), expected, rtol=1e-6)


def test_the_result_is_new_float32() -> None:
    latents = np.zeros(3, np.float32)
    normalized = NORMALIZER.normalize(latents)
    assert normalized.dtype == np.float32
    assert not np.shares_memory(latents, normalized)


def test_json_is_exact() -> None:
    rng = np.random.default_rng(0)
    normalizer = LatentNormalizer(rng.normal(size=9).astype("f4"), rng.random(9).astype("f4"))
    rebuilt = LatentNormalizer.from_json(normalizer.to_json())
    np.testing.assert_array_equal(rebuilt.mean, normalizer.mean)
    np.testing.assert_array_equal(rebuilt.std, normalizer.std)
