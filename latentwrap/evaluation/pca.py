"""Principal components of many more numbers than samples, as pixels are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentwrap.types import AnyArray, FloatArray

_SMALLEST = 1e-7


@dataclass(frozen=True)
class PCA:
    """y = (x − mean) · components.

    Attributes:
        mean: float32 (d,).
        components: orthonormal columns, the largest variance first, float32 (d, k).
        explained: share of the variance of each, float64 (k,).
    """

    mean: FloatArray
    components: FloatArray
    explained: AnyArray

    def apply(self, values: AnyArray) -> FloatArray:
        """Coordinates, float32 (N, k), of values (N, d)."""
        centred: AnyArray = values.astype(np.float32) - self.mean
        coordinates: FloatArray = centred @ self.components
        return coordinates


def pca_fit(samples: AnyArray, count: int) -> PCA:
    """Principal components by the smaller of the two Gram matrices.

    Args:
        samples: (n, d), any real dtype.
        count: components at most; directions without variance are left out.
    """
    mean = np.asarray(samples.mean(axis=0, dtype=np.float64), np.float32)
    x: FloatArray = samples.astype(np.float32)
    x -= mean
    wide = x.shape[0] < x.shape[1]
    gram = (x @ x.T if wide else x.T @ x).astype(np.float64)
    variances, vectors = np.linalg.eigh(gram)
    order = np.argsort(variances)[::-1][:count]
    order = order[variances[order] > _SMALLEST * max(variances.max(initial=0), 1e-30)]
    kept = variances[order]
    components: FloatArray = vectors[:, order].astype(np.float32)
    if wide:
        # X = U S Vᵀ, so V = Xᵀ U / S.
        components = x.T @ (vectors[:, order] / np.sqrt(kept)).astype(np.float32)
    explained = kept / max(float(np.trace(gram)), 1e-30)
    return PCA(mean, components, explained)
