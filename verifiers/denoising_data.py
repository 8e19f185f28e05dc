"""The data sets of the denoising problem: real counts that ship with it, simulated ones, files.

The real counts are 700 cells and 765 genes of the 68k PBMC experiment of 10x Genomics, from
`10x_pbmc68k_reduced.h5ad` of scanpy 1.11.5 (BSD-3-Clause, see NOTICE): its log-normalised values
turned back into the integer UMI counts they came from. So few genes distort the MSE when a cell
is scaled to 10,000, so the target shrinks with them.
"""

from __future__ import annotations

import hashlib
import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eurekaflow.verifiers import denoising_simulator as simulator
from eurekaflow.verifiers.denoising_metrics import TARGET_SUM, Benchmark, Counts, filtered, split

FILE = Path(__file__).resolve().parent / "pbmc68k_reduced.xz"
SHA256 = "9140f27db8f3699bc8ff9c5f222172bfdbb476b94a031949ebd81088cc21bdf0"
CELLS, GENES = 700, 765
OFFICIAL_GENES = 15_099  # of the data set that the target sum 10,000 is used with
CLOSE = 1e-4


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Filtered counts and what their cells are scaled to for the MSE."""

    name: str
    counts: Counts  # cells x genes
    target_sum: float = TARGET_SUM

    def split(self, seed: int) -> Benchmark:
        """The molecular cross-validation split with a seed."""
        return split(self.counts, seed, target_sum=self.target_sum)


@dataclass(frozen=True, kw_only=True)
class Official:
    """What an official data set gives under one split seed: shape, and the reference losses."""

    name: str
    seed: int
    shape: tuple[int, int]
    none: tuple[float, float]  # MSE, Poisson
    perfect: float  # Poisson

    def matches(self, benchmark: Benchmark) -> bool:
        """Whether a split has these losses, to 1e-4."""
        none, perfect = benchmark.none, benchmark.perfect
        pairs = ((none.mse, self.none[0]), (none.poisson, self.none[1]),
                 (perfect.poisson, self.perfect))  # fmt: skip
        return all(abs(ours - theirs) < CLOSE for ours, theirs in pairs)


OFFICIAL = (
    Official(name="pancreas", seed=42, shape=(1937, 15502), none=(0.304721, 0.257575),
             perfect=0.031739),
    Official(name="pbmc", seed=0, shape=(1087, 15099), none=(0.270974, 0.301199),
             perfect=0.043644),
    Official(name="pbmc", seed=42, shape=(1087, 15099), none=(0.270945, 0.300447),
             perfect=0.043569),
    Official(name="tabula", seed=0, shape=(24540, 16122), none=(0.262132, 0.206879),
             perfect=0.027011),
    Official(name="tabula", seed=42, shape=(24540, 16122), none=(0.261763, 0.206542),
             perfect=0.026961),
)  # fmt: skip


def real() -> DataSet:
    """The counts that ship with the problem. Raises ValueError when the file is not ours."""
    planes = lzma.decompress(FILE.read_bytes())
    if hashlib.sha256(planes).hexdigest() != SHA256:
        raise ValueError(f"{FILE} is not the file that was shipped: install eurekaflow again")
    low, high = np.frombuffer(planes, dtype=np.uint8).reshape(2, GENES, CELLS).astype(np.int64)
    counts = filtered(np.ascontiguousarray((low + 256 * high).T))
    return DataSet(
        name="pbmc68k", counts=counts, target_sum=TARGET_SUM * counts.shape[1] / OFFICIAL_GENES
    )


def simulated() -> DataSet:
    """The small preset of the simulator."""
    preset = simulator.SMALL
    counts = filtered(simulator.simulate(preset, 1))
    return DataSet(name="simulated", counts=counts, target_sum=preset.target_sum)


BUILT_IN = {"pbmc68k": real, "simulated": simulated}


def official_name(benchmark: Benchmark, seed: int) -> str:
    """The official data set that a split is of, or ""."""
    known = (o for o in OFFICIAL if o.seed == seed and o.matches(benchmark))
    return next((o.name for o in known), "")


def description(data: DataSet, benchmark: Benchmark, seed: int) -> list[str]:
    """What a user should see of a data set before a run: shape, reference losses, its name."""
    none, perfect = benchmark.none, benchmark.perfect
    cells, genes = data.counts.shape
    found = official_name(benchmark, seed)
    asked = [o for o in OFFICIAL if o.name == data.name and o.seed == seed]
    lines = [
        f"{data.name}: {cells} cells x {genes} genes, {int(data.counts.sum())} UMIs",
        f"split {seed}: no denoising MSE {none.mse:.6f}, Poisson {none.poisson:.6f}; "
        f"perfect Poisson {perfect.poisson:.6f}",
        f"this is the official data set {found}" if found else "none of the official data sets",
    ]
    if asked and not found:
        (mse, poisson), right = asked[0].none, asked[0].perfect
        lines.append(
            f"the official {data.name} is {asked[0].shape[0]} x {asked[0].shape[1]}, no denoising "
            f"{mse} / {poisson}, perfect {right}: see --layer, --obs-key and --obs-value"
        )
    return lines
