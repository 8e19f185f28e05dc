"""Eligibility and counters of random histories: step by step, by the rules, and from scratch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eurekaflow.models.archive import Archive
from tests.archives import expand, new_run, seeds

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services


@dataclass
class Oracle:
    """The tree's rules read naively: everything is recomputed from all attempts at each step."""

    topk_children: int
    archive_cap: int
    retention_scope: str
    rows: list[dict[str, Any]] = field(default_factory=list)  # in sequence order
    eligible: set[int] = field(default_factory=set)

    def settle(self, step: int) -> None:
        for row in self.rows:
            held = {r["program"] for r in self.rows if r["id"] in self.eligible}
            if row["step"] == step and row["value"] is not None and row["program"] not in held:
                self.eligible.add(row["id"])
        by_value = sorted(self._nodes(), key=lambda r: (-r["value"], r["id"]))
        for row in by_value if self.topk_children else []:
            better = [r for r in by_value[: by_value.index(row)] if self._related(r, row)]
            if len(better) >= self.topk_children:
                self.eligible.discard(row["id"])
        surplus = len(self.eligible) - self.archive_cap
        for row in sorted(self._nodes(), key=lambda r: (r["value"], -r["id"]))[: max(0, surplus)]:
            self.eligible.discard(row["id"])

    def _nodes(self) -> list[dict[str, Any]]:
        return [r for r in self.rows if r["id"] in self.eligible and r["step"] >= 0]

    def _related(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        if self.retention_scope == "parent":
            return bool(one["parent"] == other["parent"])
        return bool((one["step"], one["group"]) == (other["step"], other["group"]))

    def below(self, number: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for row in self.rows:
            if row["parent"] == number or row["parent"] in {r["id"] for r in found}:
                found.append(row)
        return found


VALUES = st.one_of(st.none(), st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from("abcd")))
HISTORIES = st.lists(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(VALUES, min_size=1, max_size=4)),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    history=HISTORIES,
    topk=st.integers(0, 2),
    cap=st.integers(2, 7),
    scope=st.sampled_from(["parent", "expansion"]),
    unit=st.sampled_from(["expansion", "rollout"]),
)
def test_settling_step_by_step_equals_the_rules_and_the_rebuild(
    archive: Archive, history: list[Any], topk: int, cap: int, scope: str, unit: str
) -> None:
    rules = {"topk_children": topk, "archive_cap": cap, "retention_scope": scope}
    run = new_run(archive, visit_unit=unit, **rules)
    oracle = Oracle(topk, cap, scope)
    with archive.hold(run.id, owner="the test") as hold:
        archive.add_seeds(hold, seeds(0.0, 2.0))
        _remember(oracle, archive.attempts(run.id, -1), ["seed 0", "seed 1"])
        oracle.eligible = {row["id"] for row in oracle.rows}
        for step, groups in enumerate(history):
            ids = archive.nodes(run.id).ids.tolist()
            children = [(ids[choice % len(ids)], values) for choice, values in groups]
            expand(archive, hold, step, children, visit_unit=unit, **rules)
            programs = [v[1] if v else "" for _, values in children for v in values]
            _remember(oracle, archive.attempts(run.id, step), programs)
            oracle.settle(step)
    table = archive.nodes(run.id)
    assert set(table.ids.tolist()) == oracle.eligible
    for number, visits, best in zip(table.ids, table.visits, table.best_child, strict=True):
        below = oracle.below(int(number))
        groups_below = {(row["step"], row["group"]) for row in below}
        assert visits == (len(below) if unit == "rollout" else len(groups_below))
        children_values = [r["value"] for r in below if r["parent"] == number and r["value"]]
        assert np.array_equal(best, max(children_values, default=np.nan), equal_nan=True)
    assert archive.check_rebuild(run.id) == []


def _remember(oracle: Oracle, rows: list[Any], programs: list[str]) -> None:
    for row, program in zip(rows, programs, strict=True):
        oracle.rows.append(
            {
                "id": row.id,
                "step": row.step,
                "group": row.group_index,
                "parent": row.parent_id,
                "value": row.value,
                "program": program,
            }
        )
