"""Measured times become a score, or a reason why they are not believed."""

from __future__ import annotations

import pytest

from eurekaflow.verifiers import gpu_verdict
from eurekaflow.verifiers.gpu_verdict import (
    OFFICIAL,
    STRICT,
    Unbelievable,
    excess,
    metrics,
    timing,
)

EMPTY = {"stream_us": 5.0, "event_us": 20.0, "host_us": 30.0, "outer_us": 400.0,
         "handed_us": 900.0, "reference_us": 8000.0}  # fmt: skip


def calls(count: int = 20, **changed: float) -> list[dict[str, float]]:
    """Calls of a program that takes 1000 us, as four honest clocks see it."""
    honest = {"stream_us": 1000.0, "event_us": 1010.0, "host_us": 1045.0, "outer_us": 1420.0,
              "handed_us": 950.0, "reference_us": 8000.0, "worst": 0.1}  # fmt: skip
    return [{**honest, **changed}] * count


def test_strict_time_is_the_larger_of_the_programs_clocks() -> None:
    found = timing(calls(), EMPTY, mode=STRICT, floor=500.0)
    assert (found.inner_us, found.outer_us) == pytest.approx((1045.0 - 30.0, 1420.0 - 400.0))
    assert found.score_us == found.inner_us
    assert found.ratio == pytest.approx(1015.0 / 8000.0)
    assert not found.flagged
    assert excess([found]) == 1.0


@pytest.mark.parametrize("forged", [440.0, 420.0, 380.0, 350.0])
def test_a_slightly_forged_inner_clock_gains_no_more_than_the_outer_ones_scatter(
    forged: float,
) -> None:
    """A program that takes 480 us, outside 500 with the noise of the outer clock."""
    lie = calls(stream_us=forged, event_us=forged, host_us=forged + 30.0, outer_us=900.0)
    found = metrics([timing(lie, EMPTY, mode=STRICT, floor=100.0)], None, STRICT)
    assert found["score_us"] == pytest.approx(500.0 / 1.1)
    assert found["ratio"] == pytest.approx(500.0 / 1.1 / 8000.0)
    assert (found["inner_us"], found["outer_us"]) == pytest.approx((forged, 500.0))


def test_clocks_forged_in_some_cases_only_are_found_over_all_of_them() -> None:
    lie = timing(
        calls(event_us=800.0, host_us=830.0, stream_us=800.0), EMPTY, mode=STRICT, floor=1
    )
    both = metrics([lie, lie, timing(calls(), EMPTY, mode=STRICT, floor=1)], None, STRICT)
    assert both["score_us"] == pytest.approx(1020.0 / 1.1)


def test_an_outer_clock_that_scatters_from_case_to_case_costs_an_honest_program_nothing() -> None:
    outers = (1520.0, 1330.0, 1420.0)
    cases = [timing(calls(outer_us=o), EMPTY, mode=STRICT, floor=1.0) for o in outers]
    found = metrics(cases, None, STRICT)
    assert found["score_us"] == pytest.approx(found["inner_us"]) == pytest.approx(1015.0)


def test_calls_that_are_each_honest_once_outside_cannot_hide_the_others() -> None:
    lie = calls(stream_us=350.0, event_us=350.0, host_us=380.0, outer_us=880.0)
    lie = [*lie[:12], *calls(8, stream_us=350.0, event_us=350.0, host_us=380.0, outer_us=760.0)]
    assert timing(lie, EMPTY, mode=STRICT, floor=1.0).outer_us == pytest.approx(480.0)


def test_a_hiccup_of_the_outer_clock_in_a_few_calls_costs_an_honest_program_nothing() -> None:
    noisy = [*calls(14), *calls(6, outer_us=1520.0)]
    assert timing(noisy, EMPTY, mode=STRICT, floor=1.0).outer_us == pytest.approx(1020.0)


def test_a_reference_that_the_program_slows_down_does_not_flatter_its_ratio() -> None:
    slowed = timing(calls(reference_us=9400.0), EMPTY, mode=STRICT, floor=1.0)
    assert slowed.ratio == pytest.approx(1015.0 / 8000.0)
    with pytest.raises(Unbelievable, match="device was busy"):
        timing(calls(reference_us=9700.0), EMPTY, mode=STRICT, floor=1.0)


def test_official_time_has_no_room_for_work_behind_the_streams_end() -> None:
    empty_shows = EMPTY["event_us"] - EMPTY["stream_us"]  # of any call, an honest one too
    honest = calls(stream_us=300.0, event_us=300.0 + empty_shows + 29.0)
    late = calls(stream_us=300.0, event_us=300.0 + empty_shows + 31.0)
    assert timing(honest, EMPTY, mode=OFFICIAL, floor=1.0).score_us == pytest.approx(300.0)
    with pytest.raises(Unbelievable, match="work was pending"):
        timing(late, EMPTY, mode=OFFICIAL, floor=1.0)
    large = calls(stream_us=940.0, event_us=1010.0)
    with pytest.raises(Unbelievable, match="work was pending"):
        timing(large, EMPTY, mode=OFFICIAL, floor=1.0)


def test_a_few_calls_that_end_at_once_do_not_lower_the_official_mean() -> None:
    forged = [*calls(18), *calls(2, stream_us=0.0)]
    assert timing(forged, EMPTY, mode=OFFICIAL, floor=1.0).score_us == pytest.approx(1000.0)


def test_official_time_is_what_the_calls_own_stream_shows() -> None:
    found = timing(calls(), EMPTY, mode=OFFICIAL, floor=500.0)
    assert found.score_us == pytest.approx(1000.0)


@pytest.mark.parametrize(
    ("changed", "floor", "reason"),
    [
        ({"stream_us": 30.0}, 500.0, "work was pending"),
        ({"outer_us": 3000.0}, 500.0, "the clock outside its process 2600 us"),
        ({"event_us": 10.0, "stream_us": 9.0, "host_us": 45.0}, 5.0, "the clock outside"),
        ({"reference_us": 16000.0}, 500.0, "device was busy while the program should"),
        ({"handed_us": 1300.0}, 500.0, "device was busy while the program's inputs"),
        ({}, 1500.0, "below the roofline"),
    ],
    ids=[
        "side stream",
        "late work",
        "patched clocks",
        "resident kernel",
        "waiting kernel",
        "impossible",
    ],
)
@pytest.mark.parametrize("mode", [STRICT, OFFICIAL])
def test_times_that_cannot_be_honest_are_refused_in_both_modes(
    changed: dict[str, float], floor: float, reason: str, mode: str
) -> None:
    with pytest.raises(Unbelievable, match=reason):
        timing(calls(**changed), EMPTY, mode=mode, floor=floor)


def test_one_disturbed_call_does_not_move_the_strict_time() -> None:
    disturbed = [*calls(19), *calls(1, event_us=9e5, host_us=9e5, outer_us=9e5, stream_us=9e5)]
    found = timing(disturbed, EMPTY, mode=STRICT, floor=500.0)
    assert (found.score_us, found.outer_us) == pytest.approx((1015.0, 1020.0))


def test_clocks_that_disagree_are_flagged() -> None:
    assert timing(calls(host_us=1150.0), EMPTY, mode=STRICT, floor=1.0).flagged


def test_a_time_below_that_of_its_kernels_is_refused() -> None:
    gpu_verdict.profiled(1000.0, 950.0)
    with pytest.raises(Unbelievable, match="less than its kernels'"):
        gpu_verdict.profiled(1000.0, 850.0)


def test_the_roofline_is_the_larger_of_traffic_and_products() -> None:
    h200 = {"bandwidth": 4e12, "gpu": "NVIDIA H200"}
    assert gpu_verdict.floor_us(traffic=4e9, operations=0, **h200) == pytest.approx(1000.0)
    assert gpu_verdict.floor_us(traffic=0, operations=990e9, **h200) == pytest.approx(1000.0)
    unknown = gpu_verdict.floor_us(traffic=4e9, operations=1e18, bandwidth=4e12, gpu="another")
    assert unknown == pytest.approx(1000.0)


def test_means() -> None:
    assert gpu_verdict.geometric_mean([1.0, 100.0]) == pytest.approx(10.0)
