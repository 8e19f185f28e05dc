"""The autocorrelation tools that judge and candidate share: numpy and each other only.

The judge imports this module; the candidate gets its source as prelude. a holds the n heights of a
step function f >= 0 on equal cells; c = a * a holds the 2n - 1 knots of f * f, which is linear
between them, so the maximum and the norms over the knots are those of f * f itself.
"""

from collections.abc import Callable

import numpy as np

Heights = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def heights(sequence: object) -> Heights:
    """The sequence as float64 with tiny negatives as 0; raises ValueError for an illegal one."""
    a = np.asarray(sequence, dtype=float)
    if a.ndim != 1 or not 1 <= len(a) <= 100_000 or not np.isfinite(a).all():
        raise ValueError(f"f must be 1 to 100000 finite heights, not of shape {a.shape}")
    if a.max() <= 0 or a.min() < -1e-12 * a.max():
        raise ValueError(f"f must be >= 0 and not zero; it reaches from {a.min()} to {a.max()}")
    scaled: Heights = np.maximum(a, 0.0) / a.max()
    return scaled


def autoconvolution(a: Heights) -> Heights:
    """c = a * a by fast Fourier transform: 2n - 1 numbers, each off by rounding only."""
    size = 1 << (2 * len(a) - 2).bit_length()
    spectrum = np.fft.rfft(a, size)
    c: Heights = np.fft.irfft(spectrum * spectrum, size)[: 2 * len(a) - 1]
    return np.maximum(c, 0.0)


def c1(a: Heights, c: Heights) -> float:
    """2n max(c) / sum(a)^2: the bound on C1 that f certifies, to be small."""
    return float(2 * len(a) * c.max() / a.sum() ** 2)


def c2(a: Heights, c: Heights) -> float:
    """||f*f||_2^2 / (||f*f||_1 ||f*f||_inf): the bound on C2 that f certifies, to be large."""
    squares = 2 * np.dot(c, c) + np.dot(c[1:], c[:-1])
    return float(squares / (3 * a.sum() ** 2 * c.max()))


def bump(a: Heights) -> Heights:
    """A random smooth bump, as long as a and about as high, of either sign."""
    place, width = np.random.uniform(0, 1), 10 ** np.random.uniform(-2, 0)
    shape = np.exp(-(((np.linspace(0, 1, len(a)) - place) / width) ** 2))
    signed: Heights = float(np.random.choice((-1.0, 1.0)) * np.max(a)) * shape
    return signed


def climb_by(
    score: Callable[[Heights], float],
    a: Heights,
    change: Callable[[Heights], Heights],
    steps: int,
) -> Heights:
    """The best a after `steps` tries: `change(a)`, negatives cut to 0, is kept if it scores more.

    `score` is higher for better heights. A change of the wrong shape counts as no improvement.
    """
    best = np.array(a, dtype=float)
    reached = score(best)
    for _ in range(steps):
        trial = np.maximum(np.asarray(change(best.copy()), dtype=float), 0.0)
        if trial.shape != best.shape or not trial.max() > 0:
            continue
        now = score(trial)
        if now > reached:
            best, reached = trial, now
    return best
