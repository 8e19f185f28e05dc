"""The tree in the database: the published vectors, and replay of random histories."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurekaflow.models.archive import Archive, Hold, NodeTable, PlannedGroup, SeedRow
from eurekaflow.models.puct import puct_scores, select_parents
from tests.archives import expand, new_run, planned, sample, seeds, settle, verdict

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services

VECTORS = {
    block["title"]: block
    for block in json.loads((Path(__file__).parent / "vectors.json").read_text())["puct"]
}
Named = dict[str, int]


def history_p1(archive: Archive, hold: Hold) -> Named:
    archive.add_seeds(hold, seeds(0.0, 0.0, 0.0))
    return _seed_names(archive, hold)


def history_p2(archive: Archive, hold: Hold) -> Named:
    archive.add_seeds(hold, seeds(0.0, 0.0))
    names = _seed_names(archive, hold)
    ids = expand(archive, hold, 0, [(names["I0"], [1.0, 3.0, 2.0, None])])[0]
    return names | dict(zip("ABC", ids, strict=False))


def history_p3(archive: Archive, hold: Hold) -> Named:
    names = history_p2(archive, hold)
    of_b = (names["B"], [2.5, 3.5, None, None])
    ids = expand(archive, hold, 1, [of_b, (names["C"], [None] * 4)])[0]
    return names | dict(zip("DE", ids, strict=False))


def history_p4(archive: Archive, hold: Hold) -> Named:
    archive.add_seeds(hold, seeds(-2.0, -2.0))
    names = _seed_names(archive, hold)
    names |= dict(
        zip("AB", expand(archive, hold, 0, [(names["I0"], [-1.0, -1.1])])[0], strict=True)
    )
    ids = expand(archive, hold, 1, [(names["A"], [-0.9, -0.95])])[0]
    return names | dict(zip(("A1", "A2"), ids, strict=True))


def _seed_names(archive: Archive, hold: Hold) -> Named:
    return {f"I{row.group_index}": row.id for row in archive.attempts(hold.run_id, -1)}


def _scores(table: NodeTable) -> np.ndarray[Any, Any]:
    return puct_scores(
        table.values, table.visits, table.best_child, table.is_seed, total=table.total
    )


@pytest.mark.parametrize(
    ("title", "history"),
    [
        ("P1", history_p1),
        ("P2", history_p2),
        ("P3 ask 1", history_p3),
        ("P3 ask 2", history_p3),
        ("P3 ask 3", history_p3),
        ("P3 ask 5", history_p3),
        ("P4", history_p4),
    ],
)
def test_the_database_reproduces_the_published_tree(
    archive: Archive, title: str, history: Callable[[Archive, Hold], Named]
) -> None:
    run = new_run(archive, visit_unit="rollout")
    with archive.hold(run.id, owner="the test") as hold:
        names = history(archive, hold)
    block = VECTORS[title]
    table = archive.nodes(run.id)
    name_of = {number: name for name, number in names.items()}
    score = dict(zip((name_of[i] for i in table.ids.tolist()), _scores(table), strict=True))
    assert table.total == block["T"]
    assert score == pytest.approx({row["id"]: row["score"] for row in block["rows"]}, rel=1e-12)
    picked = select_parents(_scores(table), table.values, table.ancestors, block["ask"])
    assert [name_of[int(table.ids[i])] for i in picked] == block["picked"]


def test_the_database_counts_finished_groups_as_expansions(archive: Archive, hold: Hold) -> None:
    names = history_p3(archive, hold)
    block = VECTORS["P3-G4"]
    table = archive.nodes(hold.run_id)
    name_of = {number: name for name, number in names.items()}
    score = dict(zip((name_of[i] for i in table.ids.tolist()), _scores(table), strict=True))
    assert table.total == block["T"]
    assert score == pytest.approx(block["scores"], rel=1e-12)


def test_the_tree_view_gives_the_same_scores_and_order(archive: Archive, hold: Hold) -> None:
    history_p3(archive, hold)
    table = archive.nodes(hold.run_id)
    _, found = archive.query("select attempt, puct from tree order by rank")
    order = np.lexsort((table.seqs, -table.values, -_scores(table)))
    assert [row[0] for row in found] == table.ids[order].tolist()
    assert [row[1] for row in found] == pytest.approx(_scores(table)[order].tolist(), rel=1e-12)


def test_blocking_runs_through_ancestors_that_are_no_nodes(archive: Archive, hold: Hold) -> None:
    archive.add_seeds(hold, seeds(0.0))
    seed = archive.nodes(hold.run_id).ids.tolist()[0]
    middle = expand(archive, hold, 0, [(seed, [1.0])])[0][0]
    leaf = expand(archive, hold, 1, [(middle, [5.0])])[0][0]
    expand(archive, hold, 2, [(seed, [2.0, 3.0])])  # pushes `middle` out: two children stay
    table = archive.nodes(hold.run_id)
    ids = table.ids.tolist()
    assert middle not in ids
    assert [ids[i] for i in table.ancestors[ids.index(leaf)]] == [seed]
    assert table.parents[ids.index(leaf)] == middle


def test_a_lost_attempt_counts_for_its_group_only(archive: Archive) -> None:
    run = new_run(archive, visit_unit="rollout")
    with archive.hold(run.id, owner="the test") as hold:
        archive.add_seeds(hold, seeds(0.0))
        seed = archive.attempts(run.id, -1)[0].id
        sample(archive, hold, archive.plan(hold, 0, [planned(seed, size=3)]))
        rows = archive.attempts(run.id, 0)
        archive.store_verdicts(hold, 0, [verdict(rows[0].id, 1.0)])
        assert archive.abandon(hold, 0, [row.id for row in rows], "worker lost") == 2
        settle(archive, hold, 0)
        parent = archive.attempt(seed)
    assert (parent.visits_expansion, parent.visits_rollout) == (1, 1)
    assert archive.nodes(run.id).total == 1
    assert archive.check_rebuild(run.id) == []


def test_a_redrawn_seed_keeps_its_id_and_shows_its_last_draw(archive: Archive, hold: Hold) -> None:
    archive.add_seeds(hold, seeds(0.0))
    seed = archive.attempts(hold.run_id, -1)[0].id
    draw = SeedRow(slot=0, draw=1, value=0.25, construction=np.array([1.0, 2.0]))
    group = PlannedGroup(
        group_index=0, parent_id=seed, prompt="p", prompt_ids=(1,), group_size=1, draw=draw
    )
    shown = archive.plan(hold, 0, [group])[0].shown_id
    table = archive.nodes(hold.run_id)
    assert (table.ids.tolist(), table.values.tolist()) == ([seed], [0.25])
    assert table.shown_ids.tolist() == [shown] != [seed]
    construction = archive.construction(shown)
    assert construction is not None
    assert construction.tolist() == [1.0, 2.0]


def test_an_answer_equal_to_a_seeds_draw_is_no_node(archive: Archive, hold: Hold) -> None:
    archive.add_seeds(hold, [SeedRow(slot=0, value=0.0, program="same")])
    seed = archive.attempts(hold.run_id, -1)[0].id
    ids = expand(archive, hold, 0, [(seed, [(1.0, "same"), (1.0, "other")])])[0]
    assert archive.nodes(hold.run_id).ids.tolist() == [seed, ids[1]]


def test_a_redrawn_seed_holds_the_key_of_its_newest_draw_only(
    archive: Archive, hold: Hold
) -> None:
    archive.add_seeds(hold, [SeedRow(slot=0, value=0.0, program="draw 0")])
    seed = archive.attempts(hold.run_id, -1)[0].id
    for step in (0, 1):
        number = step + 1
        draw = SeedRow(slot=0, draw=number, value=0.0, program=f"draw {number}")
        archive.plan(hold, step, [replace(planned(seed, size=2), draw=draw)])
        values = [(1.0 + step, f"draw {number}"), (2.0 + step, f"draw {step}")]
        ids = expand(archive, hold, step, [(seed, values)])[0]
        assert [archive.attempt(i).eligible for i in ids] == [False, True]
    assert archive.check_rebuild(hold.run_id) == []


def test_rebuild_repairs_damaged_counters(archive: Archive, hold: Hold) -> None:
    history_p3(archive, hold)
    before = archive.nodes(hold.run_id)
    hold.release()
    with archive._read() as connection:
        connection.exec_driver_sql(
            "update archive.attempts set visits_expansion = 9, eligible = not eligible,"
            " best_child = 1 where step = 0 and outcome = 'valid'"
        )
        connection.exec_driver_sql("update archive.runs set total_rollouts = 5")
    fields = {difference.field for difference in archive.check_rebuild(hold.run_id)}
    assert fields == {"visits_expansion", "eligible", "best_child", "total_rollouts"}
    assert archive.rebuild(hold.run_id)
    after = archive.nodes(hold.run_id)
    assert archive.check_rebuild(hold.run_id) == []
    assert after.ids.tolist() == before.ids.tolist()
    assert after.visits.tolist() == before.visits.tolist()
