"""The charts of a report draw what the documented questions answer, where they say they do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psycopg
import pytest

from eurekaflow.flows import report
from eurekaflow.flows.report_charts import HEALTH
from eurekaflow.models.archive import Archive, RunRow
from tests.archives import expand, new_run, seeds
from tests.generated_archive import Sizes, generate
from tests.report_reading import Plot, Row, asked, figures

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services

SHOWN = (0, 9, 24, 49)
CLOSE = 0.3  # units of a chart, whose places are rounded to tenths
RECORDS = [
    {"holder": holder, "score": score, "kind": kind, "source": "a paper"}
    for holder, score, kind in (("A", 0.8, "human"), ("B", 0.5, "human"), ("C", 0.45, "ai"))
]


def searched(archive: Archive, steps: list[list[float | None]], **settings: str) -> RunRow:
    """A run of Erdős' problem whose steps have these values, all from one seed."""
    run = new_run(archive, problem="erdos", **settings)
    archive.add_problem("toy", "1", "min", "length", RECORDS)
    with archive.hold(run.id, owner="the test") as hold:
        archive.add_seeds(hold, seeds(-1.0))
        [seed] = (row.id for row in archive.attempts(run.id, -1))
        for step, values in enumerate(steps):
            expand(archive, hold, step, [(seed, values)])
            archive.stage_done(hold, step, "sample", 1.0 + step % 7)
            archive.commit_step(hold, step)
    return run


@dataclass(frozen=True)
class Told:
    """The page of a run, what its questions answer, and the archive."""

    html: str
    answers: dict[str, list[Row]]
    run: RunRow

    def histograms(self) -> dict[int, Plot]:
        """The distributions by step, as their captions name it."""
        found = figures(self.html, "reward-distributions")
        return {int(words.split(":")[0].removeprefix("step ")): Plot(svg) for words, svg in found}

    def bins(self, step: int | None) -> dict[int, int]:
        """Attempts by bin, the failed ones left out."""
        rows = self.answers["Reward distributions"]
        return {r["bin"]: r["attempts"] for r in rows if r["step"] == step and r["bin"] > 0}

    def edges(self) -> list[float]:
        """The edges of the bins, the same in every row."""
        [(low, high)] = {(r["low"], r["high"]) for r in self.answers["Reward distributions"]}
        return [low + place * (high - low) / 20 for place in range(21)]


def told(archive: Archive, run: RunRow) -> Told:
    uuid = str(run.uuid)
    return Told(report.of_run(archive.url, uuid).html(), asked(archive.url, uuid), run)


@pytest.fixture
def long(archive: Archive) -> Told:
    """Fifty steps of sixteen; one that is not shown goes farther than those that are."""
    generate(archive.url, Sizes(runs=1, steps=50, groups=2, size=8))
    with psycopg.connect(archive.url) as connection:
        connection.execute("update archive.attempts set reward = 9 where step = 30")
    return told(archive, archive.run("last"))


def test_the_distributions_of_steps_0_9_24_and_49_are_bars_on_the_same_bins(
    long: Told, archive: Archive
) -> None:
    plots, edges = long.histograms(), long.edges()
    assert tuple(plots) == SHOWN
    assert len({(plot.x, plot.y) for plot in plots.values()}) == 1
    _, found = archive.query("select step, reward from attempts where outcome = 'valid'")
    rewards = {step: [reward for at, reward in found if at == step] for step in SHOWN}
    for step, plot in plots.items():
        bins = long.bins(step)
        counted, _ = np.histogram(rewards[step], bins=20, range=(edges[0], edges[-1]))
        assert bins == {i + 1: n for i, n in enumerate(counted) if n}
        expected = [
            (plot.x.at(edges[i - 1]), plot.x.at(edges[i]), plot.y.at(n)) for i, n in bins.items()
        ]
        assert plot.bars() == [pytest.approx(bar, abs=CLOSE) for bar in expected]
    shown = [reward for step in SHOWN for reward in rewards[step]]
    assert (edges[0], edges[-1]) == (min(shown), max(shown))


def test_the_points_of_every_curve_are_the_answers(long: Told) -> None:
    [(_, best)] = figures(long.html, "best-so-far")
    names = {words: name for name, words in HEALTH}
    curves = [(best, 0, "Best so far", "best_score"), (best, 1, "Best so far", "score")]
    curves += [(svg, 0, "Health", names[c]) for c, svg in figures(long.html, "health")]
    drawn = {name for *_, name in curves}
    assert drawn > {"score", "valid_fraction", "beta", "kl", "distinct_programs", "seconds"}
    for svg, series, title, name in curves:
        plot = Plot(svg)
        rows = [row for row in long.answers[title] if row[name] is not None]
        places = [(plot.x.at(row["step"]), plot.y.at(float(row[name]))) for row in rows]
        found = plot.dots(series)
        assert found == [pytest.approx(place, abs=CLOSE) for place in places], name
        assert len(found) == 50


def test_the_best_human_is_a_line_at_the_reward_of_the_human_record(archive: Archive) -> None:
    run = told(archive, searched(archive, [[-0.9, -0.6, None]]))
    human = next(r for r in run.answers["Records"] if r["kind"] == "human")
    assert (human["holder"], human["score"]) == ("B", 0.5)
    [plot] = run.histograms().values()
    reward = 1 / human["score"]  # Erdős' reward
    assert plot.levels("x") == {"best human": pytest.approx(plot.x.at(reward), abs=CLOSE)}


def test_the_records_are_lines_at_their_scores_over_the_best_so_far(archive: Archive) -> None:
    run = told(archive, searched(archive, [[-0.9, -0.6, None]]))
    [(_, svg)] = figures(run.html, "best-so-far")
    plot = Plot(svg)
    assert plot.levels("y") == {
        "best AI 0.45": pytest.approx(plot.y.at(0.45), abs=CLOSE),
        "best human 0.5": pytest.approx(plot.y.at(0.5), abs=CLOSE),
    }


@pytest.fixture
def beside(archive: Archive) -> Told:
    """Two steps of six and two attempts, with a best-of-N run of ten beside them."""
    other: list[float | None] = [-0.9, -0.3, None, -0.45, -0.45, -0.45, None, -0.9, -0.1, -0.1]
    searched(archive, [other], advantage="none", reuse="fixed")
    run = searched(archive, [[-0.5, None, -0.4, -0.7, None, None], [-0.6, -0.4]])
    return told(archive, run)


def test_best_of_n_is_an_outline_scaled_to_the_attempts_of_the_step(beside: Told) -> None:
    rows = beside.answers["Reward distributions"]
    n = sum(row["attempts"] for row in rows if row["step"] is None)
    assert n == 8  # cut at this run's number
    plots, edges, counts = beside.histograms(), beside.edges(), beside.bins(None)
    assert sorted(counts.values()) == [1, 2, 3]
    for step, total in ((0, 6), (1, 2)):
        plot = plots[step]
        heights = [counts.get(place, 0) * total / n for place in range(1, 21)]
        expected = [
            (plot.y.at(height), plot.x.at(edge))
            for height, edge in zip(heights, edges[1:], strict=True)
        ]
        assert plot.outline() == [pytest.approx(place, abs=CLOSE) for place in expected]
        assert min(top for top, _ in plot.outline()) >= 16  # inside the plot


def test_the_best_of_best_of_n_is_a_line_at_its_reward(beside: Told) -> None:
    [other] = beside.answers["Best of N"]
    assert (other["attempts"], other["score"]) == (8, 0.3)  # 0.1 came later
    for plot in beside.histograms().values():
        assert plot.levels("x")["best of N"] == pytest.approx(plot.x.at(1 / 0.3), abs=CLOSE)
