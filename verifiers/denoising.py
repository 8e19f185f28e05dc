"""Denoising single-cell counts: a program gets the train counts alone, its matrix is measured.

Modes. `training`: the MSE, normalised to 0 (no denoising) .. 1 and clipped; no per-cell scale
changes it. `official`: the OpenProblems score exactly, the mean of both normalised losses.
`strict`: the same where scale and the swapped Poisson loss earn nothing (denoising_metrics).
Training and strict refuse emptied cells and genes that more than double their share: piling half
of every cell on one gene raises even the normalised MSE, from 0.14 to 0.26 on our data.

The split's seed is not the program's; the candidate's process holds neither the counts nor a path
to them.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from eurekaflow.verifiers import denoising_texts as texts
from eurekaflow.verifiers import denoising_tools as tools
from eurekaflow.verifiers.answers import rows
from eurekaflow.verifiers.denoising_data import BUILT_IN, DataSet, description, official_name
from eurekaflow.verifiers.denoising_h5ad import read
from eurekaflow.verifiers.denoising_metrics import MOST_SHARE, Benchmark, Matrix, Score
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.problem import (
    JUDGE_BYTES,
    TRAINING,
    Construction,
    InvalidAnswer,
    Judgement,
    Problem,
    Record,
    Remeasurement,
    Seed,
)
from eurekaflow.verifiers.sandbox import Job, Limits, Sandbox

OFFICIAL, STRICT = "official", "strict"
TRAINING_SPLIT, HELD_OUT_SPLIT = 42, 0
SETUP_S = 6.0  # reading a matrix in, and importing scipy's parts
HELD_OUT_BUDGET_S = 60.0
WHOLE_DATA_S = 600.0  # to measure a matrix of a user's data: a minute for 400 million entries
OPTIONS = ("data", "split", "h5ad", "layer", "obs_key", "obs_value", "name", "held_out")


class Denoising(Problem):
    """Predict the held-out molecules of single cells."""

    name = "denoising"
    version = "1"
    title = "Denoising single-cell RNA counts"
    direction = "max"
    metric = "normalised score"
    entry_point = "magic_denoise"
    returns = "array"
    modes = (TRAINING, OFFICIAL, STRICT)
    claim_mode = STRICT
    records = tuple(
        Record(holder=f"{holder}, {data}", score=score, kind=kind, role=role,
               mode="official, split 0", source="arXiv 2601.16175 and OpenProblems")
        for holder, score, kind, role, data in texts.RECORDS
    )  # fmt: skip

    options: Mapping[str, str] = {}

    def configured(self, options: Mapping[str, str]) -> Problem:
        """With a data set (`data`, or `h5ad` and where in it), a split seed, a held-out file."""
        unknown = sorted(options.keys() - set(OPTIONS))
        if unknown:
            raise ValueError(f"no option {unknown[0]!r}; there are: {', '.join(OPTIONS)}")
        if options.get("data", "pbmc68k") not in BUILT_IN:
            raise ValueError(f"data is one of: {', '.join(BUILT_IN)}")
        if not options.get("split", "0").isdecimal():
            raise ValueError(f"split is {options['split']!r}, not a whole number")
        made = type(self)()  # a copy would share the loaded data
        made.options = dict(options)
        if "h5ad" in options:  # of any size
            made.verification_s = WHOLE_DATA_S
        return made

    @property
    def split_seed(self) -> int:
        """The seed of the split that programs are tried on."""
        return int(self.options.get("split", TRAINING_SPLIT))

    @cached_property
    def data(self) -> DataSet:
        """The counts. Raises ValueError and PrerequisiteAbsent for a file that cannot be used."""
        chosen = self.options
        if "h5ad" not in chosen:
            return BUILT_IN[chosen.get("data", "pbmc68k")]()
        places = {k: chosen[k] for k in ("layer", "obs_key", "obs_value", "name") if k in chosen}
        return read(Path(chosen["h5ad"]), **places)

    @cached_property
    def benchmark(self) -> Benchmark:
        """The split that programs are tried on."""
        return self.data.split(self.split_seed)

    def describe(self) -> list[str]:
        """The data set's shape and reference losses, and which official one it is."""
        return description(self.data, self.benchmark, self.split_seed)

    def prepare(self) -> None:
        """Load, split and measure the references before an answer's time starts."""
        _ = self.benchmark.none, self.benchmark.perfect, self.benchmark.null

    def comparable(self, *, mode: str) -> Sequence[Record]:
        """Published scores are of other data, unless a file of the user's is that data.

        The training value is no score of theirs.
        """
        if "h5ad" not in self.options or mode == TRAINING:
            return ()
        found = official_name(self.benchmark, self.split_seed)
        wanted = {"pbmc": "PBMC", "tabula": "Tabula Muris Senis lung"}.get(found)
        return [r for r in self.records if wanted and r.holder.endswith(wanted)]

    def statement(self, *, brief: bool = False) -> str:
        return texts.BRIEF if brief else texts.FULL.format(target=self.data.target_sum)

    def opening(self) -> str:
        return texts.OPENING

    def prelude(self) -> str:
        return inspect.getsource(tools)

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """A diffusion over similar cells, with the value it has on these counts."""
        return [Seed(value=self._example_value, program=texts.EXAMPLE)] * count

    @cached_property
    def _example_value(self) -> float:
        train = self.benchmark.train.astype(float)
        return _clipped(self.benchmark.score(tools.diffuse(train, t=3, knn=5, n_pca=20)))

    def job(self, program: str, *, parent: Construction | None, seed: int, budget_s: float) -> Job:
        return Job(
            program=program,
            entry_point=self.entry_point,
            prelude=self.prelude(),
            arrays={"X": self.benchmark.train.astype(float)},
            inputs=("X",),
            arguments={"random_state": seed, "seed": seed, "budget_s": budget_s, "n_jobs": 1},
            returns="array",
            seed=seed,
        )

    def limits(self, *, budget_s: float) -> Limits:
        seconds = 1.1 * budget_s + SETUP_S
        size = 8 * self.benchmark.train.size + 1024
        return Limits(
            wall_s=seconds,
            cpu_s=seconds,
            memory_bytes=max(3 << 30, self.memory()[0]),
            result_bytes=size,
        )

    def memory(self) -> tuple[int, int]:
        """Copies of the matrix in float64: six for a candidate, eight to measure one."""
        copy = 8 * self.benchmark.train.size
        return 6 * copy, max(JUDGE_BYTES, 8 * copy)

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        return self.measure(answer, mode=TRAINING)

    def measure(self, answer: object, *, mode: str) -> Judgement:
        """The value of a matrix in a mode; the other ways to look at it are in the metrics."""
        denoised = self._matrix(answer)
        benchmark = self.benchmark
        score = benchmark.score(denoised)
        rescaled = benchmark.score(benchmark.rescaled(denoised))
        metrics = {
            "mse": score.mse,
            "poisson": score.poisson,
            "official": score.official,
            "raw_mse": score.raw.mse,
            "raw_poisson": score.raw.poisson,
            "correct_poisson": score.correct_poisson,
            "official_rescaled": rescaled.official,
            "total_over_train": float(denoised.sum() / benchmark.train.sum()),
        }
        if mode == OFFICIAL:
            return Judgement(value=score.official, metrics=metrics)
        refuse(benchmark, denoised)
        metrics["strict"] = benchmark.strict(denoised)
        value = metrics["strict"] if mode == STRICT else _clipped(score)
        return Judgement(value=value, metrics=metrics)

    def reward(self, value: float) -> float:
        """1 / MSE, raw."""
        left = (1.0 - value) * self.benchmark.none.mse
        if left <= 0.0:
            raise InvalidAnswer("the held-out counts cannot be known exactly")
        return 1.0 / left

    def baseline_reward(self, value: float) -> float:
        return value

    def remeasure(
        self, program: str, *, spec: str, sandbox: Sandbox, judge: Judge
    ) -> Sequence[Remeasurement]:
        """Official and strict scores on another split, and on data that training never saw."""
        return [
            found
            for name in self.held_out()
            for found in self._measured_on(name, program, sandbox)
        ]

    def held_out(self) -> list[str]:
        """The specs of the held-out material."""
        from urllib.parse import urlencode

        others = [{"data": "simulated"}]
        if "held_out" in self.options:
            kept = {k: v for k, v in self.options.items() if k == "layer"}
            files = self.options["held_out"].split(os.pathsep)
            others = [{"h5ad": file, **kept} for file in files]
        same = {k: v for k, v in self.options.items() if k != "held_out"}
        other_split = HELD_OUT_SPLIT if self.split_seed != HELD_OUT_SPLIT else TRAINING_SPLIT
        return [
            f"{self.name}?{urlencode({**chosen, 'split': str(seed)})}"
            for chosen, seed in [(same, other_split), *((o, HELD_OUT_SPLIT) for o in others)]
        ]

    def _measured_on(self, spec: str, program: str, sandbox: Sandbox) -> Iterator[Remeasurement]:
        """One run of the program, measured officially and strictly by a judge large enough."""
        from eurekaflow.verifiers.lookup import load

        problem = load(spec)
        job = problem.job(program, parent=None, seed=0, budget_s=HELD_OUT_BUDGET_S)
        execution = sandbox.run(job, problem.limits(budget_s=HELD_OUT_BUDGET_S))
        with Judge(1, wall_s=problem.verification_s, memory_bytes=problem.memory()[1]) as judge:
            for mode in (OFFICIAL, STRICT):
                verdict = judge.verdict(spec, execution, mode=mode)
                if verdict.value is None:
                    raise InvalidAnswer(f"{spec}, {mode}: {verdict.message}")
                yield Remeasurement(mode=mode, value=verdict.value, message=f"held out: {spec}")

    def _matrix(self, answer: object) -> Matrix:
        cells, genes = self.benchmark.train.shape
        if not isinstance(answer, np.ndarray):
            answer = np.array(rows(answer, what="the matrix", count=cells, width=genes))
        if answer.shape != (cells, genes):
            raise InvalidAnswer(f"the matrix has shape {answer.shape}, needed: {(cells, genes)}")
        if not np.isfinite(answer).all():
            raise InvalidAnswer("the matrix is not finite")
        if answer.min() < 0.0:
            raise InvalidAnswer(f"the matrix has a negative entry: {answer.min():.6g}")
        most = float(self.benchmark.train.sum())
        if answer.max() > most:
            raise InvalidAnswer(f"an entry, {answer.max():.6g}, is above the sum of X, {most:g}")
        return np.asarray(answer, dtype=float)


def refuse(benchmark: Benchmark, denoised: Matrix) -> None:
    """Refuse emptied cells and mass piled on few genes. Raises InvalidAnswer."""
    empty = np.flatnonzero((denoised.sum(axis=1) <= 0) & (benchmark.train.sum(axis=1) > 0))
    if empty.size:
        raise InvalidAnswer(f"{empty.size} cells are empty, the first is cell {empty[0]}")
    gene, gain = benchmark.largest_gain(benchmark.rescaled(denoised))
    if gain > MOST_SHARE:
        raise InvalidAnswer(
            f"gene {gene} has {gain:.3g} times its share of the counts, allowed is {MOST_SHARE:g}"
        )


def _clipped(score: Score) -> float:
    return min(max(score.mse, 0.0), 1.0)
