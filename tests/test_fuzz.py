"""Two thousand fuzzed answers per verifier, always the same ones; `make fuzz` asks 100,000."""

from __future__ import annotations

import pytest

from tests.fuzz import PROBLEMS, fuzz


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_no_fuzzed_answer_crashes_hangs_or_is_accepted_against_the_rules(name: str) -> None:
    tally = fuzz(name, 2000, seed=1)
    assert tally.faults == []
    assert tally.accepted > 100  # the valid ones among them still are
    assert tally.refused > 500
