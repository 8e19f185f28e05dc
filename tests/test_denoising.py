"""The denoising metrics against an independent computation, and the data they are applied to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurekaflow.verifiers import denoising_simulator as simulator
from eurekaflow.verifiers import denoising_tools as tools
from eurekaflow.verifiers.denoising import Denoising
from eurekaflow.verifiers.denoising_data import OFFICIAL, real
from eurekaflow.verifiers.denoising_metrics import Benchmark, filtered, split
from eurekaflow.verifiers.lookup import UnknownProblem, load
from eurekaflow.verifiers.problem import InvalidAnswer

RNG = np.random.default_rng(0)
SMALL = RNG.poisson(RNG.gamma(0.5, 2.0, (30, 40)))


def by_hand(train: Any, test: Any, denoised: Any, target: float) -> tuple[float, float, float]:
    """MSE, Poisson as the benchmark has it, and Poisson in the right order, entry by entry."""
    scale = test.sum() / train.sum()
    mse = poisson = correct = 0.0
    for t, d in zip(test.tolist(), np.asarray(denoised, float).tolist(), strict=True):
        sum_t, sum_d = math.fsum(t) or 1.0, math.fsum(d) or 1.0
        for x, y in zip(t, d, strict=True):
            mse += (math.log1p(x * target / sum_t) - math.log1p(y * target / sum_d)) ** 2
            poisson += x - y * scale * math.log(x + 1e-6)
            correct += y * scale - x * math.log(y * scale + 1e-6)
    return mse / test.size, poisson / test.size, correct / test.size


@pytest.mark.parametrize("kind", ["none", "zeros", "tiny", "random", "with empty cells"])
@pytest.mark.parametrize("target", [10_000.0, 507.0])
def test_the_losses_are_those_computed_entry_by_entry(kind: str, target: float) -> None:
    b = split(filtered(SMALL), 7, target_sum=target)
    random = RNG.random(b.train.shape)
    random[3] = 0 if kind == "with empty cells" else random[3]
    given = {"none": b.train * 1.0, "zeros": b.train * 0.0, "tiny": b.train * 1e-6}
    denoised = given.get(kind, random)
    found, expected = b.losses(denoised), by_hand(b.train, b.test, denoised, target)
    assert (found.mse, found.poisson, found.correct_poisson) == pytest.approx(expected, abs=1e-9)
    none = by_hand(b.train, b.test, b.train, target)
    perfect = by_hand(b.train, b.test, b.test, target)
    score = b.score(denoised)
    assert score.mse == pytest.approx((none[0] - expected[0]) / none[0], abs=1e-9)
    assert score.poisson == pytest.approx((none[1] - expected[1]) / (none[1] - perfect[1]))
    assert score.official == pytest.approx((score.mse + score.poisson) / 2)


def test_the_split_draws_for_every_entry_of_the_dense_matrix_in_row_major_order() -> None:
    """Also for the zeros: a generator of its own, one draw after another."""
    counts = filtered(SMALL)
    rng = np.random.RandomState(7)
    train = np.array([[rng.binomial(int(n), 0.9) for n in row] for row in counts])
    kept = train.sum(axis=0) > 0
    b = split(counts, 7)
    assert np.array_equal(b.train, train[:, kept])
    assert np.array_equal(b.test, (counts - train)[:, kept])


def test_a_large_matrix_is_split_in_parts_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = split(filtered(SMALL), 7)
    monkeypatch.setattr("eurekaflow.verifiers.denoising_metrics.BLOCK", 100)
    parts = split(filtered(SMALL), 7)
    assert np.array_equal(whole.train, parts.train)
    noise = RNG.random(whole.train.shape)
    assert parts.losses(noise).mse == pytest.approx(whole.losses(noise).mse, rel=1e-12)


def test_genes_without_counts_go_before_cells_with_too_few() -> None:
    counts = np.array([[0, 1, 0], [0, 2, 1], [0, 0, 0], [0, 5, 0]])
    assert filtered(counts).tolist() == [[2, 1], [5, 0]]


@pytest.fixture(scope="module")
def bundled() -> Benchmark:
    return real().split(0)


def test_the_real_counts_are_those_of_the_package(bundled: Benchmark) -> None:
    counts = real().counts
    assert (counts.shape, int(counts.sum()), int((counts > 0).sum())) == (
        (700, 765), 486_651, 174_400,
    )  # fmt: skip
    assert bundled.none.mse == pytest.approx(0.3767, abs=1e-4)
    assert bundled.score(np.zeros(bundled.train.shape)).official == pytest.approx(0.524, abs=1e-3)


def reversed_magic(train: Any) -> Any:
    """MAGIC in the order of the published 0.64: roots, then rows by their sum; sizes restored."""
    roots = np.sqrt(train)
    sizes = roots.sum(axis=1, keepdims=True)
    smooth = roots / np.maximum(sizes, 1)
    walk = tools.neighbours(tools.principal_components(smooth, 100))
    for _ in range(3):
        smooth = walk @ smooth
    return smooth**2 * sizes


def test_magic_reversed_fools_the_official_score_and_not_the_strict_one(
    bundled: Benchmark,
) -> None:
    denoised = reversed_magic(bundled.train)
    assert bundled.score(denoised).official == pytest.approx(0.565, abs=0.02)
    assert denoised.sum() < 0.01 * bundled.train.sum()
    assert bundled.strict(denoised) == pytest.approx(
        bundled.score(bundled.rescaled(denoised)).official
    )
    assert bundled.strict(denoised) < 0.2


def test_an_honest_method_keeps_its_score_in_strict_mode(bundled: Benchmark) -> None:
    denoised = tools.diffuse(bundled.train.astype(float))
    assert bundled.strict(denoised) == pytest.approx(bundled.score(denoised).official)
    assert bundled.score(denoised).official > 0.1
    assert bundled.largest_gain(denoised)[1] < 2.0


@pytest.mark.parametrize("factor", [0.499, 0.501, 0.51, 0.75, 1.5, 2.0, 2.1])
def test_no_scale_of_the_cells_raises_the_strict_score(bundled: Benchmark, factor: float) -> None:
    denoised = tools.diffuse(bundled.train.astype(float), n_pca=20)
    uneven = np.where(np.arange(len(denoised)) % 2, factor, 1.0)[:, None]
    honest = bundled.strict(denoised)
    assert bundled.strict(denoised * factor) <= honest + 1e-12
    assert bundled.strict(denoised * uneven) <= honest + 1e-12


def test_no_denoising_is_worth_nothing_and_the_held_out_counts_one(bundled: Benchmark) -> None:
    assert bundled.score(bundled.train).official == 0.0
    assert bundled.score(bundled.test).official == pytest.approx(1.0)
    assert bundled.score(bundled.rank_one).correct_poisson == pytest.approx(0.0)


def test_the_small_simulation_has_the_calibrated_losses() -> None:
    preset = simulator.SMALL
    b = split(filtered(simulator.simulate(preset, 1)), 0, target_sum=preset.target_sum)
    found = (b.none.mse, b.none.poisson, b.perfect.poisson)
    assert found == pytest.approx((0.3080, 0.3474, 0.0464), abs=0.02)
    assert b.score(np.zeros(b.train.shape)).official == pytest.approx(0.538, abs=0.02)
    assert b.score(reversed_magic(b.train)).official == pytest.approx(0.598, abs=0.02)


@pytest.mark.slow
def test_the_pbmc_simulation_has_the_losses_of_the_official_data() -> None:
    b = split(filtered(simulator.simulate(simulator.PBMC, 1)), 0)
    assert (b.none.mse, b.none.poisson, b.perfect.poisson) == pytest.approx(
        (0.2663, 0.3170, 0.0459), abs=0.02
    )
    official = next(o for o in OFFICIAL if (o.name, o.seed) == ("pbmc", 0))
    assert b.none.mse == pytest.approx(official.none[0], abs=0.02)
    assert abs(b.train.shape[1] - 14_986) < 100
    zeros = b.score(np.zeros(b.train.shape))
    assert zeros.official == pytest.approx(0.5171, abs=0.02)
    tiny = b.score(b.train * 1e-6)
    assert tiny.official == pytest.approx(0.4888, abs=0.02)


def test_splatter_is_sparse_at_low_depth_and_reproducible() -> None:
    counts = simulator.splatter(50, 200, 3)
    assert np.array_equal(counts, simulator.splatter(50, 200, 3))
    assert counts.shape == (50, 200)
    assert np.median(counts.sum(axis=1)) == pytest.approx(math.exp(11), rel=0.25)


def test_the_reward_is_one_over_the_raw_mse() -> None:
    problem = load("denoising")
    found = problem.measure(problem.benchmark.train.astype(float) + 0.1, mode="training")  # type: ignore[attr-defined]
    assert found.value > 0
    assert problem.reward(found.value) == pytest.approx(1 / found.metrics["raw_mse"])
    assert problem.baseline_reward(found.value) == found.value


def test_the_start_has_the_value_that_its_program_gets() -> None:
    problem = load("denoising")
    seed = problem.seeds(RNG, 2)[0]
    space: dict[str, Any] = {"np": np}
    exec(problem.prelude() + seed.program, space)
    denoised = space["magic_denoise"](problem.benchmark.train.astype(float))  # type: ignore[attr-defined]
    assert problem.judge(denoised).value == pytest.approx(seed.value, abs=1e-9)


def test_held_out_material_is_another_split_and_other_data() -> None:
    problem = load("denoising")
    assert isinstance(problem, Denoising)
    specs = problem.held_out()
    benchmarks = [load(spec).benchmark for spec in specs]  # type: ignore[attr-defined]
    assert len({b.train.tobytes() for b in [*benchmarks, problem.benchmark]}) == 3


@pytest.mark.parametrize(
    "spec", ["denoising?x=1", "denoising?split=-1", "denoising?data=mine", "erdos?split=1"]
)
def test_an_option_that_does_not_exist_is_named(spec: str) -> None:
    with pytest.raises(UnknownProblem):
        load(spec)


@pytest.mark.parametrize(
    "bad", [None, [], [[1.0]], "x", np.zeros((2, 2)), [[True] * 765] * 700], ids=repr
)
def test_what_is_no_matrix_is_refused(bad: object) -> None:
    with pytest.raises(InvalidAnswer):
        load("denoising").judge(bad)


def test_published_scores_are_not_compared_with_other_data() -> None:
    problem = load("denoising")
    assert problem.record() is None
    assert max(r.score for r in problem.records) == 0.73


def h5ad(path: Path, counts: Any, *, layout: str) -> Path:
    """A file as anndata writes it: dense, CSR, CSC, or the old sparse form."""
    import h5py
    from scipy.sparse import csc_matrix, csr_matrix

    with h5py.File(path, "w") as file:
        if layout == "dense":
            file["X"] = counts
        else:
            stored = (csc_matrix if layout == "csc" else csr_matrix)(counts)
            group = file.create_group("X" if layout != "layer" else "layers/counts")
            if layout == "old":
                group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", counts.shape
            else:
                group.attrs["encoding-type"] = f"{stored.format}_matrix"
                group.attrs["shape"] = counts.shape
            group["data"], group["indices"], group["indptr"] = (
                stored.data.astype(np.float32), stored.indices, stored.indptr,
            )  # fmt: skip
        if layout == "layer":
            file["X"] = np.log1p(counts)
        column = file.create_group("obs/tech")
        column["categories"] = np.array([b"a", b"b"])
        column["codes"] = np.arange(len(counts)) % 2
        file["obs/batch"] = np.array([b"one"] * len(counts))
    return path


@pytest.mark.parametrize("layout", ["dense", "csr", "csc", "old", "layer"])
def test_counts_of_a_users_file_are_read(layout: str, tmp_path: Path) -> None:
    path = h5ad(tmp_path / "mine.h5ad", SMALL, layout=layout)
    options = {"h5ad": str(path), **({"layer": "counts"} if layout == "layer" else {})}
    problem = Denoising().configured(options)
    assert isinstance(problem, Denoising)
    assert np.array_equal(problem.data.counts, filtered(SMALL))
    assert problem.data.target_sum == 10_000.0
    chosen = Denoising().configured({**options, "obs_key": "tech", "obs_value": "b"})
    assert isinstance(chosen, Denoising)
    assert np.array_equal(chosen.data.counts, filtered(SMALL[1::2]))
    assert any("none of the official" in line for line in problem.describe())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "not whole numbers"),
        ({"layer": "no"}, "layers: counts"),
        ({"layer": "counts", "obs_key": "age"}, "no column 'age'"),
        ({"layer": "counts", "obs_key": "tech", "obs_value": "c"}, "there are: a, b"),
        ({"layer": "counts", "obs_key": "batch", "obs_value": "two"}, "there are: one"),
    ],
)
def test_a_file_without_such_counts_is_refused_with_the_reason(
    options: dict[str, str], said: str, tmp_path: Path
) -> None:
    path = h5ad(tmp_path / "mine.h5ad", SMALL, layout="layer")
    problem = Denoising().configured({"h5ad": str(path), **options})
    assert isinstance(problem, Denoising)
    with pytest.raises(ValueError, match=said):
        _ = problem.data


def test_a_missing_reader_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    from eurekaflow.verifiers.denoising_h5ad import read
    from eurekaflow.verifiers.problem import PrerequisiteAbsent

    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(PrerequisiteAbsent, match="h5py") as caught:
        read(tmp_path / "mine.h5ad")
    assert "eurekaflow[h5ad]" in caught.value.fix


def test_a_file_that_is_an_official_data_set_is_recognised() -> None:
    official = OFFICIAL[1]
    b = split(filtered(SMALL), 0)
    b.__dict__["none"] = b.none.__class__(
        mse=official.none[0] + 5e-5, poisson=official.none[1], correct_poisson=0.0
    )
    b.__dict__["perfect"] = b.none.__class__(
        mse=0.0, poisson=official.perfect, correct_poisson=0.0
    )
    assert official.matches(b)
    assert not OFFICIAL[2].matches(b)
