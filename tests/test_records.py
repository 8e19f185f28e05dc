"""The published results of every problem of the paper, as data."""

from __future__ import annotations

import pytest

from eurekaflow.verifiers.lookup import load

PAPER = (
    "erdos", "ac1", "ac2", "circle-packing-26", "circle-packing-32", "ahc039", "ahc058",
    "denoising",
)  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_the_records_name_a_human_the_previous_ai_and_the_papers_result(name: str) -> None:
    records = load(name).records
    roles = {record.role for record in records}
    assert roles >= {"human", "previous AI", "TTT-Discover"}
    assert all(record.source and record.mode for record in records)


@pytest.mark.parametrize("name", PAPER)
def test_what_is_called_newest_is_no_worse_than_what_the_paper_reports(name: str) -> None:
    problem = load(name)
    of = {r.role: problem.value(r.score) for r in problem.records if r.role}
    assert of.get("newest", of["TTT-Discover"]) >= min(of["TTT-Discover"], of["previous AI"])
