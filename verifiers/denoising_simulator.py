"""Simulated UMI counts: types, programmes and depth as in a small 10x experiment, or Splatter.

Gamma-Poisson: log-normal gene abundances with outliers; types that shift 12 % of the genes; in
each type a programme that moves 5 % of the genes along a hidden position; log-normal library
sizes. `SPLATTER` follows the defaults of Zappia, Phipson and Oshlack 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]  # cells x genes
Factors = npt.NDArray[np.float64]

ABUNDANCE_SIGMA = 2.25
OUTLIER_LOG_MEAN, OUTLIER_LOG_SIGMA = 2.5, 0.7
TYPES, TYPE_CONCENTRATION = 8, 2.0
TYPE_GENES, PROGRAMME_GENES, PROGRAMME_SIGMA = 0.12, 0.05, 0.3
DEPTH_SIGMA = 0.45
DISPERSION = 0.12


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Sizes of a simulated data set; `target_sum` is what its cells are scaled to for the MSE."""

    cells: int
    genes: int
    depth: float  # mean UMI of a cell
    outliers: int
    target_sum: float


PBMC = Preset(cells=1087, genes=15_800, depth=7460.0, outliers=25, target_sum=10_000.0)
SMALL = Preset(cells=300, genes=3_000, depth=1416.0, outliers=5, target_sum=1_899.0)


def simulate(preset: Preset, seed: int) -> Counts:
    """Counts of a preset; genes and cells without any are kept."""
    rng = np.random.default_rng(seed)
    base = rng.lognormal(0.0, ABUNDANCE_SIGMA, preset.genes)
    outliers = rng.choice(preset.genes, preset.outliers, replace=False)
    base[outliers] *= np.exp(rng.normal(OUTLIER_LOG_MEAN, OUTLIER_LOG_SIGMA, preset.outliers))
    kinds = rng.choice(TYPES, preset.cells, p=rng.dirichlet([TYPE_CONCENTRATION] * TYPES))
    position = rng.beta(2.0, 2.0, preset.cells)
    level = np.empty((preset.cells, preset.genes))
    for kind in range(TYPES):
        shift = base * np.exp(_some(rng, preset.genes, TYPE_GENES) * rng.normal(size=preset.genes))
        slope = _some(rng, preset.genes, PROGRAMME_GENES) * rng.normal(
            0.0, PROGRAMME_SIGMA, preset.genes
        )
        members = kinds == kind
        level[members] = shift * np.exp(np.outer(2.0 * position[members] - 1.0, slope))
    depth = rng.lognormal(np.log(preset.depth) - DEPTH_SIGMA**2 / 2, DEPTH_SIGMA, preset.cells)
    mean = level * (depth / level.sum(axis=1))[:, None]
    return np.asarray(rng.poisson(rng.gamma(1.0 / DISPERSION, DISPERSION * mean)))


def _some(rng: np.random.Generator, genes: int, fraction: float) -> Factors:
    """1 for a random fraction of the genes, else 0."""
    return (rng.random(genes) < fraction).astype(float)


def splatter(cells: int, genes: int, seed: int, *, groups: int = 5) -> Counts:
    """Counts by the Splatter model with its default parameters, without dropout."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(0.6, 1 / 0.3, genes)
    outlier = rng.random(genes) < 0.05
    base[outlier] = np.median(base) * rng.lognormal(4.0, 0.5, int(outlier.sum()))
    kinds = rng.integers(groups, size=cells)
    factors = np.where(
        rng.random((groups, genes)) < 0.1, rng.lognormal(0.1, 0.4, (groups, genes)), 1.0
    )
    level = (base * factors)[kinds]
    depth = rng.lognormal(11.0, 0.2, cells)
    mean = level * (depth / level.sum(axis=1))[:, None]
    variation = (0.1 + 1.0 / np.sqrt(np.maximum(mean, 1e-12))) * np.sqrt(
        60.0 / rng.chisquare(60.0, genes)
    )
    shape = 1.0 / variation**2
    return np.asarray(rng.poisson(rng.gamma(shape, mean / shape)))
