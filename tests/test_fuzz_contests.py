"""Two thousand fuzzed outputs per contest, always the same ones; `make fuzz` asks 100,000."""

from __future__ import annotations

import pytest

from tests.fuzz_contests import FUZZERS


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZERS)
def test_no_fuzzed_output_crashes_hangs_or_is_given_another_score(name: str) -> None:
    tally = FUZZERS[name](2000, 1)
    assert tally.faults == []
    assert tally.accepted > 200  # the valid ones among them still are
    assert tally.refused > 200
