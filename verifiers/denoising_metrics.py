"""The OpenProblems v1.0.0 denoising metrics, and a score beside them that scale cannot fool.

Counts X are split by molecules into train and test (Batson, Royer and Webber, "Molecular
cross-validation", 2019); a method sees train and is measured on test:

- MSE: each cell of test and denoised D scaled to `target_sum`, log1p, mean squared difference.
- Poisson: D' = D sum(test) / sum(train), mean(test - D' ln(test + 1e-6)). The benchmark passes its
  arguments in this order, the wrong one for a likelihood: shrinking D towards 0 looks almost
  perfect. `correct_poisson` is mean(D' - test ln(D' + 1e-6)).
- Each is normalised, 0 for the train counts themselves and 1 for the test counts; the official
  score is the mean of MSE and Poisson, unclipped.

Strict: the lower score of the matrix as it is and with each cell rescaled to its train total; as
soon as one cell's total leaves [0.5, 2] times its train total, the rescaled one alone. Inside that
band too the losses pay for scale: half of everything has a smaller D' where test is 0. The Poisson
part counts only as far as the correct order confirms it (the lower of the two normalised losses).
Honest methods keep their score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]  # cells x genes
Counts = npt.NDArray[np.integer]

TRAIN_FRACTION = 0.9
TARGET_SUM = 10_000.0
TINY = 1e-6
LEAST_COUNTS = 2  # of a cell
SCALE_RANGE = (0.5, 2.0)  # of a cell's total over its train total, to count as it is at all
MOST_SHARE = 2.0  # of a gene, over its share of the train counts
SHARE_COUNTS = 100  # train counts of a gene from which its share is known well enough
BLOCK = 1 << 20  # entries handled at a time, so that large matrices need little beside themselves


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The three losses of one matrix, raw; lower is better."""

    mse: float
    poisson: float  # as the benchmark computes it
    correct_poisson: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """Losses normalised: 0 for the train counts, 1 for the test counts."""

    mse: float
    poisson: float
    correct_poisson: float  # here 0 is the product of depth and gene frequency
    raw: Losses

    @property
    def official(self) -> float:
        return (self.mse + self.poisson) / 2


def filtered(counts: Counts) -> Counts:
    """Without genes that have no counts, then without cells that have fewer than two."""
    kept = counts[:, counts.sum(axis=0) > 0]
    return np.asarray(kept[kept.sum(axis=1) >= LEAST_COUNTS])


@dataclass(frozen=True)
class Benchmark:
    """One split of one data set: what a method is given and what it is measured on."""

    train: Counts
    test: Counts
    target_sum: float = TARGET_SUM

    @cached_property
    def scale(self) -> float:
        """sum(test) / sum(train)."""
        return float(self.test.sum() / self.train.sum())

    @cached_property
    def none(self) -> Losses:
        """The losses of no denoising: the train counts."""
        return self.losses(self.train)

    @cached_property
    def perfect(self) -> Losses:
        """The losses of the held-out counts themselves."""
        return self.losses(self.test)

    @cached_property
    def null(self) -> Losses:
        """The losses of depth times gene frequency, which knows nothing of cell types."""
        return self.losses(self.rank_one)

    @property
    def rank_one(self) -> Matrix:
        """Depth times gene frequency."""
        cells, genes = self.train.sum(axis=1), self.train.sum(axis=0)
        return np.outer(cells, genes / self.train.sum())

    def losses(self, denoised: Matrix | Counts) -> Losses:
        """The three losses of a matrix of the shape of `train`."""
        mse = poisson = correct = 0.0
        for rows in _blocks(*self.test.shape):
            test, d = self.test[rows].astype(float), np.asarray(denoised[rows], dtype=float)
            difference = _logged(test, self.target_sum) - _logged(d, self.target_sum)
            scaled = d * self.scale
            mse += float(np.einsum("ij,ij", difference, difference))
            poisson += float((test - scaled * np.log(test + TINY)).sum())
            correct += float((scaled - test * np.log(scaled + TINY)).sum())
        size = self.test.size
        return Losses(mse=mse / size, poisson=poisson / size, correct_poisson=correct / size)

    def score(self, denoised: Matrix | Counts) -> Score:
        """The normalised losses of a matrix."""
        raw, none, perfect = self.losses(denoised), self.none, self.perfect
        return Score(
            mse=_normalised(raw.mse, none.mse, perfect.mse),
            poisson=_normalised(raw.poisson, none.poisson, perfect.poisson),
            correct_poisson=_normalised(
                raw.correct_poisson, self.null.correct_poisson, perfect.correct_poisson
            ),
            raw=raw,
        )

    def confirmed(self, score: Score) -> float:
        """The Poisson part that the correct order confirms: never above its own normalised loss.

        Normalised like the official one, 0 for the train counts and 1 for the test counts.
        """
        correct = _normalised(
            score.raw.correct_poisson, self.none.correct_poisson, self.perfect.correct_poisson
        )
        return min(score.poisson, correct)

    def strict(self, denoised: Matrix) -> float:
        """The score that scale cannot fool. Every cell must have a positive total."""
        ratio = denoised.sum(axis=1) / np.maximum(self.train.sum(axis=1), 1)
        low, high = SCALE_RANGE
        rescaled = self._confirmed_mean(self.rescaled(denoised))
        if not ((ratio >= low) & (ratio <= high)).all():
            return rescaled
        return min(rescaled, self._confirmed_mean(denoised))

    def _confirmed_mean(self, denoised: Matrix) -> float:
        score = self.score(denoised)
        return (score.mse + self.confirmed(score)) / 2

    def largest_gain(self, denoised: Matrix) -> tuple[int, float]:
        """(gene, factor) by which a well-counted gene's share grew most over the train counts."""
        counts = self.train.sum(axis=0)
        total = denoised.sum()
        if total <= 0:
            return 0, 0.0
        gain = (denoised.sum(axis=0) / total) / (counts / counts.sum())
        gain[counts < SHARE_COUNTS] = 0.0
        gene = int(gain.argmax())
        return gene, float(gain[gene])

    def rescaled(self, denoised: Matrix) -> Matrix:
        """Each cell scaled to its train total; cells without any stay as they are."""
        # the maximum first, so that neither tiny nor huge entries overflow or vanish in the sum
        highest = denoised.max(axis=1, keepdims=True)
        shares = denoised / np.where(highest > 0, highest, 1.0)
        totals = shares.sum(axis=1, keepdims=True)
        wanted = self.train.sum(axis=1, keepdims=True)
        return np.asarray(shares * (wanted / np.where(totals > 0, totals, 1.0)))


def split(counts: Counts, seed: int, *, target_sum: float = TARGET_SUM) -> Benchmark:
    """The molecular cross-validation split of filtered counts, and the benchmark on it.

    numpy's legacy generator draws for every entry of the dense matrix in row-major order, zeros
    included; splitting only stored entries would give another split. Genes without train counts
    are dropped from both parts.
    """
    rng = np.random.RandomState(seed)
    train = np.empty(counts.shape, dtype=np.int32)
    for rows in _blocks(*counts.shape):  # in parts the stream is the same
        train[rows] = rng.binomial(counts[rows], TRAIN_FRACTION)
    kept = train.sum(axis=0) > 0
    test = (counts - train)[:, kept]
    return Benchmark(
        np.ascontiguousarray(train[:, kept]), np.ascontiguousarray(test, np.int32), target_sum
    )


def _normalised(loss: float, none: float, perfect: float) -> float:
    return (none - loss) / (none - perfect)


def _blocks(cells: int, genes: int) -> Iterator[slice]:
    height = max(1, BLOCK // max(1, genes))
    return (slice(start, start + height) for start in range(0, cells, height))


def _logged(block: Matrix, target_sum: float) -> Matrix:
    """log1p of each row scaled to `target_sum`; rows without counts stay zero."""
    totals = block.sum(axis=1, keepdims=True)
    return np.asarray(np.log1p(block / np.where(totals > 0, totals, 1.0) * target_sum))
