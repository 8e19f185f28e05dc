"""From the numbers of timed calls to a time that is believed, or to the reason why it is not.

A call is timed by four clocks: the program's own stream (`stream_us`, what the field's official
harness reads), the device after everything on it has ended (`event_us`), the program's host
(`host_us`) and the trusted worker's host from outside (`outer_us`); each by its median call, the
hosts' less what an empty call costs. Strict time is the larger of the first and the third; the
second, which scatters with the host, says whether anything was left when the stream ended. The
last one scatters most, differently in every process; over all cases of a trial, what it says
beyond the program's own clocks and BELIEVED_SHARE more is added: whatever is done to the inner
clocks gains no more than that. Official time is the first clock's and can be forged as far as the
others allow; claims do not rest on it. Pure functions, no device.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

STRICT, OFFICIAL = "strict", "official"
PENDING_US, PENDING_SHARE = 30.0, 0.05  # on the device after the stream, beyond an empty call
OUTER_US, OUTER_SHARE = 150.0, 0.10  # more than that and the inner clocks are no clocks
BELIEVED_SHARE = 0.10  # by which the outer clock may exceed the inner ones over a whole trial
DISAGREE_US, DISAGREE_SHARE = 10.0, 0.05  # between event and host: flagged
FLOOR_SHARE = 0.9
BUSY_SHARE = 1.2  # the interleaved reference, against its time on a quiet device
HANDED_US, HANDED_SHARE = 60.0, 0.1  # handing the inputs over, beyond a quiet device's
PEAK_OPERATIONS = {"NVIDIA H100": 990e12, "NVIDIA H200": 990e12, "NVIDIA A100": 312e12}


class Unbelievable(ValueError):
    """The measured times cannot belong to an honest program; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What one case's calls add up to, in microseconds.

    `inner_us` is the larger of stream and host, the score of strict mode; `ratio` the score over
    the reference's time on the quiet device (`quiet_us`): one that the program has slowed down
    would flatter it.
    """

    score_us: float
    official_us: float
    event_us: float
    host_us: float
    inner_us: float
    outer_us: float
    reference_us: float
    quiet_us: float
    ratio: float
    floor_us: float
    flagged: bool


def geometric_mean(values: Sequence[float]) -> float:
    """exp of the mean logarithm."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def floor_us(*, traffic: float, operations: float, bandwidth: float, gpu: str) -> float:
    """The roofline: no kernel is faster than its bytes, nor than its products on known GPUs."""
    peak = next((rate for name, rate in PEAK_OPERATIONS.items() if gpu.startswith(name)), math.inf)
    return 1e6 * max(traffic / bandwidth, operations / peak)


def timing(
    calls: Sequence[Mapping[str, float]],
    empty: Mapping[str, float],
    *,
    mode: str,
    floor: float,
) -> Timing:
    """The time of one case. Raises Unbelievable."""
    usual = {name: statistics.median(call[name] for call in calls) for name in calls[0]}
    event, stream = usual["event_us"], usual["stream_us"]
    host, outer = usual["host_us"] - empty["host_us"], usual["outer_us"] - empty["outer_us"]
    inner = max(stream, host)
    _nothing_pending(stream, event, empty)
    if outer > inner * (1 + OUTER_SHARE) + OUTER_US:
        raise Unbelievable(
            f"its own clocks say {inner:.0f} us, the clock outside its process {outer:.0f} us"
        )
    quiet = empty["reference_us"]
    if min(call["reference_us"] for call in calls) > BUSY_SHARE * quiet:
        raise Unbelievable("the device was busy while the program should have been idle")
    if usual["handed_us"] > empty["handed_us"] * (1 + HANDED_SHARE) + HANDED_US:
        raise Unbelievable("the device was busy while the program's inputs were handed over")
    if inner < FLOOR_SHARE * floor:
        raise Unbelievable(f"{inner:.0f} us is below the roofline of {floor:.0f} us")
    # The field's mean, unless a few forged calls have pulled it below the median.
    official = max(stream, math.fsum(call["stream_us"] for call in calls) / len(calls))
    score = official if mode == OFFICIAL else inner
    return Timing(
        score_us=score,
        official_us=official,
        event_us=event,
        host_us=host,
        inner_us=inner,
        outer_us=outer,
        reference_us=usual["reference_us"],
        quiet_us=quiet,
        ratio=score / quiet,
        floor_us=floor,
        flagged=abs(event - host) > max(DISAGREE_US, DISAGREE_SHARE * event),
    )


def _nothing_pending(stream: float, event: float, empty: Mapping[str, float]) -> None:
    """Device time after the end of the call's own stream, beyond what an empty call shows."""
    pending = event - stream - max(0.0, empty["event_us"] - empty["stream_us"])
    if pending > max(PENDING_US, PENDING_SHARE * event):
        raise Unbelievable(
            f"work was pending when the call's stream had ended: {stream:.0f} us of {event:.0f} us"
        )


def excess(timings: Sequence[Timing]) -> float:
    """The factor (1 or more) by which the clock outside the program exceeds its own, less what
    the outer one's scatter explains."""
    outer = geometric_mean([max(t.outer_us, 1.0) for t in timings])
    inner = geometric_mean([t.inner_us for t in timings])
    return max(1.0, outer / inner / (1 + BELIEVED_SHARE))


def metrics(
    timings: Sequence[Timing], scored: Sequence[int] | None, mode: str
) -> dict[str, float]:
    """What is kept with a verdict: means over the scored cases (all by default), and each case."""
    counted = timings if scored is None else [timings[i] for i in scored]
    factor = 1.0 if mode == OFFICIAL else excess(counted)
    found = {
        "score_us": factor * geometric_mean([t.score_us for t in counted]),
        "ratio": factor * geometric_mean([t.ratio for t in counted]),
        "inner_us": geometric_mean([t.inner_us for t in counted]),
        "outer_us": geometric_mean([max(t.outer_us, 1.0) for t in counted]),
        "official_us": geometric_mean([t.official_us for t in counted]),
        "all_cases_us": factor * geometric_mean([t.score_us for t in timings]),
        "floor_us": geometric_mean([t.floor_us for t in counted]),
        "flagged_cases": float(sum(t.flagged for t in timings)),
    }
    for number, t in enumerate(timings):
        found |= {f"case{number}_{name}": float(v) for name, v in asdict(t).items()}
    return found


def pooled(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over processes, how many there were, and how far their ratios lie apart."""
    if len(found) == 1:
        return dict(found[0])
    ratios = [metrics["ratio"] for metrics in found]
    means = {
        name: statistics.fmean(metrics[name] for metrics in found if name in metrics)
        for name in found[0]
    }
    return {**means, "processes": len(found), "spread": max(ratios) / min(ratios) - 1}


def profiled(kernel_us: float, inner: float) -> None:
    """Refuse a time below that of the kernels the profiler saw. Raises Unbelievable."""
    if inner < FLOOR_SHARE * kernel_us:
        raise Unbelievable(f"{inner:.0f} us is less than its kernels' {kernel_us:.0f} us")
