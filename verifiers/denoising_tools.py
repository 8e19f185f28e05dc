"""A diffusion over similar cells that candidates may call; numpy and scipy only.

The idea of MAGIC (van Dijk et al. 2018), written anew: cells become points by principal
components of their root counts, near points are linked, and each cell is averaged over where a
random walk of `t` steps from it ends.
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

Matrix = npt.NDArray[np.float64]


def principal_components(Y: Matrix, count: int, seed: int = 0) -> Matrix:
    """The rows of Y as points in `count` dimensions (randomised, two power iterations)."""
    centred = Y - Y.mean(axis=0)
    count = min(count, min(Y.shape) - 1)
    basis = np.random.RandomState(seed).normal(size=(Y.shape[1], min(count + 10, Y.shape[1])))
    for _ in range(3):
        basis = np.linalg.qr(centred.T @ np.linalg.qr(centred @ basis)[0])[0]
    left, values, _ = np.linalg.svd(centred @ basis, full_matrices=False)
    return np.asarray(left[:, :count] * values[:count])


def neighbours(points: Matrix, knn: int = 5, decay: float = 1.0, knn_max: int = 15) -> csr_matrix:
    """Sparse cells x cells matrix of the steps of a random walk between near points."""
    n = len(points)
    distance, index = cKDTree(points).query(points, k=min(knn_max + 1, n))
    width = np.maximum(distance[:, min(knn, n - 1)], 1e-12)
    weight = np.exp(-((distance / width[:, None]) ** decay))
    weight[weight < 1e-4] = 0
    rows = np.repeat(np.arange(n), index.shape[1])
    kernel = csr_matrix((weight.ravel(), (rows, index.ravel())), shape=(n, n))
    kernel = (kernel + kernel.T) / 2
    return csr_matrix(kernel.multiply(1 / kernel.sum(axis=1)))


def rescale(D: Matrix, X: Matrix) -> Matrix:
    """Each cell of D scaled to its total in X."""
    total = D.sum(axis=1, keepdims=True)
    return np.asarray(D * (X.sum(axis=1, keepdims=True) / np.where(total > 0, total, 1)))


def diffuse(
    X: Matrix,
    t: float = 3,
    knn: int = 5,
    n_pca: int = 100,
    decay: float = 1.0,
    knn_max: int = 15,
    seed: int = 0,
    power: float = 0.5,
) -> Matrix:
    """X smoothed over similar cells, every cell with its own total: counts to the `power`, rows
    divided by their sum, a random walk of t steps, the inverse of the power."""
    roots = np.asarray(X, dtype=float) ** power
    size = roots.sum(axis=1, keepdims=True)
    Y = roots / np.where(size > 0, size, 1)
    walk = neighbours(principal_components(Y, n_pca, seed), knn, decay, knn_max)
    for _ in range(int(t)):
        Y = walk @ Y
    return rescale(Y ** (1 / power), X)
