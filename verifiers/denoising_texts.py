"""What the model is told about denoising, the records, and where runs start."""

from typing import Literal

Kind = Literal["human", "ai", "claim"]
Role = Literal["human", "previous AI", "TTT-Discover", "newest", ""]

FULL = """\
Write a better denoiser for single-cell RNA counts.

X is a cells x genes matrix of UMI counts: of the molecules of each cell, 90 % drawn at random. The
other 10 % are kept from you. Return a matrix D of the same shape, finite and not negative, that
says what the held-out molecules look like.

The score is measured on the held-out counts T. Each cell of T and of D is scaled to the same total
(about {target:.0f}), log1p is taken, and the mean squared difference over all entries is computed.
The value is 1 - MSE(D) / MSE(X): 0 for no denoising, 1 for perfect knowledge. A second loss, of
Poisson kind, is reported beside it. Rules: no entry above the sum of X, no cell whose counts all
vanish. Reported results count no more than what is left with every cell rescaled to its total in
X, and refuse genes that more than double their share: scale is worth nothing.

Write `magic_denoise(X, **kwargs)`; kwargs holds budget_s, random_state and n_jobs. numpy (as `np`)
and scipy may be used. Defined for you, and a reasonable start:
`diffuse(X, t=3, knn=5, n_pca=100, decay=1.0, knn_max=15, seed=0, power=0.5)` smooths over similar
cells; `principal_components(Y, count)`, `neighbours(points, knn)` and `rescale(D, X)` are its
parts. Ideas: choose the transformation and its inverse with the metric in mind (the held-out
counts are sparse, so their logarithms are smaller than those of the means); mix smoothing at
several scales; low-rank models; shrink each gene by its own reliability; average over several
methods. Other data sets decide in the end, so fit no constant to this one.
"""

BRIEF = """\
diffuse(X, t, knn, n_pca, power) smooths counts X over similar cells. t is 1 to 6, knn 3 to 30,
n_pca 5 to 100, power 0.2 to 1. The score is 0 to 1, higher is better.
"""

# The model completes the arguments and closes the block: about twenty tokens.
OPENING = """\
```python
def magic_denoise(X):
    return diffuse(X, t="""

EXAMPLE = """\
def magic_denoise(X):
    return diffuse(X, t=3, knn=5, n_pca=20, power=0.5)
"""

NO_DENOISING = """\
def magic_denoise(X):
    return X
"""

# holder, score, kind, role, data set
RECORDS: tuple[tuple[str, float, Kind, Role, str], ...] = (
    ("MAGIC", 0.42, "human", "", "PBMC"),
    ("MAGIC, reversed normalisation", 0.64, "human", "human", "PBMC"),
    ("ALRA", 0.50, "human", "", "PBMC"),
    ("Best of 25 600", 0.62, "ai", "", "PBMC"),
    ("OpenEvolve", 0.70, "ai", "previous AI", "PBMC"),
    ("TTT-Discover", 0.71, "ai", "TTT-Discover", "PBMC"),
    ("TTT-Discover", 0.73, "ai", "", "Tabula Muris Senis lung"),
)
