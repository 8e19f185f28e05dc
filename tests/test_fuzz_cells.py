"""Two thousand fuzzed matrices and queries, always the same ones; `make fuzz` asks 100,000."""

from __future__ import annotations

import pytest

from tests.fuzz_cells import fuzz_denoising, fuzz_queries


@pytest.mark.slow
def test_no_fuzzed_matrix_crashes_hangs_or_is_given_a_wrong_score() -> None:
    tally = fuzz_denoising(2000, seed=1)
    assert tally.faults == []
    assert tally.accepted > 100
    assert tally.refused > 500


@pytest.mark.slow
@pytest.mark.services
def test_no_fuzzed_query_crashes_hangs_or_is_accepted_with_another_result(sql_url: str) -> None:
    tally = fuzz_queries(2000, seed=1, url=sql_url)
    assert tally.faults == []
    assert tally.accepted > 100
    assert tally.refused > 500
