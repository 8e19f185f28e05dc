"""Whether a problem is safe to run and fit for discovery: what `eureka problem check` finds out.

Safe: seeds are finite, the verifier answers the same question the same way, refuses what is no
answer and says why, and the limits hold. Fit: values of nearby answers differ (a search cannot
climb a staircase of two steps), and by more than the verifier's own noise. Every finding names its
remedy. What it cannot see is a rule that the verifier forgot: write cheats against your own.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
import time
from collections.abc import Iterator

import numpy as np

from eurekaflow.verifiers import contest_check, safety
from eurekaflow.verifiers.contest import Contest
from eurekaflow.verifiers.mutations import refuses_mutations
from eurekaflow.verifiers.problem import Outcome, Seed
from eurekaflow.verifiers.safety import Bench, Finding

REPEATS = 5
PERTURBATIONS = 24
SCALES = (1e-4, 1e-3, 1e-2)  # of a perturbation, relative to the construction's own spread
VARIANTS, FEW = 12, 3  # of a program, where its answers cannot be varied
NUMBER = re.compile(r"(?<![\w.])(?:\d+\.\d*|\d*\.?\d+)(?:[eE][-+]?\d+)?(?![\w.])")
SLOW_S = 10.0  # per verification; the judge gives up at 30


def examine(bench: Bench) -> Iterator[Finding]:
    """All findings, in order; the later ones need a seed whose answer is known."""
    yield safety.statement(bench.problem)
    seeds, found = safety.starting_points(bench.problem)
    yield found
    yield safety.refuses_no_answer(bench)
    yield safety.refuses_hostile_bytes(bench)
    if isinstance(bench.problem, Contest):
        yield contest_check.limits_hold(bench, bench.problem)
    else:
        yield safety.limits_hold(bench)
    answer = next((a for seed in seeds if (a := answer_of(bench, seed)) is not None), None)
    if answer is None:
        yield Finding(
            name="fitness",
            status="warn",
            message="no seed has a construction or a program that returns an answer, so nothing "
            "about values was measured",
            fix="give `seeds` one simple valid start, also for small models to build on",
        )
        return
    yield refuses_mutations(bench, answer)
    yield from measured(bench, seeds, answer)


def answer_of(bench: Bench, seed: Seed) -> bytes | None:
    """A valid answer of a seed as bytes: its construction, or what its program returns."""
    if seed.construction is not None:
        data = json.dumps(bench.problem.answer_of(seed.construction)).encode()
        if bench.judged(data).outcome is Outcome.VALID:
            return data
    if not seed.program:
        return None
    if isinstance(bench.problem, Contest):
        return contest_check.answer_of(bench, bench.problem, seed.program)
    if bench.problem.answer != "python":
        return seed.program.encode()
    result = bench.executed(seed, 1).result
    valid = result is not None and bench.judged(result).outcome is Outcome.VALID
    return result if valid else None


def measured(bench: Bench, seeds: list[Seed], answer: bytes) -> Iterator[Finding]:
    """Noise, speed, distinct values, and noise against typical differences."""
    started = time.monotonic()
    repeats = [bench.judged(answer).value for _ in range(REPEATS)]
    seconds = (time.monotonic() - started) / REPEATS
    values = [value for value in repeats if value is not None]
    noise = statistics.pstdev(values) if len(values) == REPEATS else math.inf
    size = abs(statistics.fmean(values)) if values else 0.0
    yield deterministic(noise, declared=bench.problem.noise * size)
    yield fast_enough(seconds)
    foreign = bench.problem.trust == "foreign"
    if foreign or bench.problem.answer == "cpp":  # what varies is the program, not its output
        if foreign:
            yield evaluator_noise(perturbed_values(bench, seeds, answer))
        yield distinct_programs(bench, seeds[-1])
        return
    nearby = perturbed_values(bench, seeds, answer)
    yield distinct(nearby)
    yield above_noise(noise, nearby)


def deterministic(noise: float, *, declared: float) -> Finding:
    """The same answer must be worth the same, up to the noise that the problem declares."""
    message = f"{REPEATS} verifications of one answer gave one value"
    if noise > 0.0:
        message = f"{REPEATS} verifications of one answer scatter by {noise:.3g}"
        message += f", declared is {declared:.3g}"
    if noise <= declared:
        return Finding(name="deterministic", status="pass", message=message)
    return Finding(
        name="deterministic",
        status="fail",
        message=message,
        fix="take the seed from the answer, not from a clock; average what is timed and declare "
        "what scatter is left: noise = 0.05",
    )


def fast_enough(seconds: float) -> Finding:
    """Verification must not be what a step waits for."""
    message = f"{1000 * seconds:.1f} ms per answer"
    if seconds < SLOW_S:
        return Finding(name="verifier speed", status="pass", message=message)
    return Finding(
        name="verifier speed",
        status="warn",
        message=f"{message}; it is given up after 30 s",
        fix="check with a faster method in training and an exact one for claims",
    )


def perturbed_values(bench: Bench, seeds: list[Seed], answer: bytes) -> list[float]:
    """Values of the valid ones among answers near a seed."""
    values = _values(bench, perturbations(json.loads(answer)) if _numeric(answer) else [])
    if values or bench.problem.answer != "python":
        return values
    runs = [bench.executed(s, n) for n in range(1, 9) for s in seeds[-1:] if s.program]
    return _values(bench, [run.result for run in runs if run.result is not None])


def distinct_programs(bench: Bench, seed: Seed) -> Finding:
    """Whether programs near a seed's differ in value: one of its numbers is changed each time."""
    problem = bench.problem
    programs = [problem.complete(part) for part in variants(problem.excerpt(seed.program))]
    if not programs:
        return Finding(
            name="distinct values",
            status="warn",
            message="not measured: the program to start from holds no number to change",
            fix="start from a program with parameters, or try a few programs by hand",
        )
    answers = [answer_of(bench, Seed(value=seed.value, program=p)) for p in programs]
    found = _values(bench, [answer for answer in answers if answer is not None])
    if len(found) < FEW:
        return Finding(
            name="distinct values",
            status="warn",
            message=f"not measured: of {len(programs)} programs with one number changed "
            f"{len(found)} are valid, {FEW} are needed",
            fix="start from a program with parameters that may be changed without breaking it",
        )
    return distinct(found)


def variants(program: str) -> list[str]:
    """The program with one of its numbers changed a little, each time another or otherwise."""
    found, rng = list(NUMBER.finditer(program)), np.random.default_rng(0)
    changed = []
    for _ in range(VARIANTS if found else 0):
        place = found[rng.integers(len(found))]
        text, step = place.group(), float(rng.normal(0, 0.05))
        if text.isdigit():
            new = str(max(0, int(text) + (1 if step > 0 else -1)))
        else:
            new = repr(float(text) * (1 + step) or step)
        changed.append(program[: place.start()] + new + program[place.end() :])
    return list(dict.fromkeys(changed))


def evaluator_noise(values: list[float]) -> Finding:
    """How far a foreign evaluator's values of one and the same program lie apart."""
    name, mean = "evaluator noise", statistics.fmean(values) if values else 0.0
    noise = statistics.pstdev(values) if values else math.inf
    message = f"{len(values)} evaluations of the initial program scatter by {noise:.3g}"
    if noise <= 0.01 * abs(mean):
        return Finding(name=name, status="pass", message=message)
    fix = "let the evaluator average more runs or fix its seeds: a search climbs its noise"
    return Finding(name=name, status="warn", message=message, fix=fix)


def _values(bench: Bench, answers: list[bytes]) -> list[float]:
    return [v for data in answers if (v := bench.judged(data).value) is not None]


def _numeric(answer: bytes) -> bool:
    try:
        return np.asarray(json.loads(answer), dtype=float).ndim >= 1
    except (TypeError, ValueError):
        return False


def perturbations(answer: object) -> list[bytes]:
    """The answer's numbers with a little noise, on several scales."""
    numbers = np.asarray(answer, dtype=float)
    spread = float(numbers.std()) or float(np.abs(numbers).max()) or 1.0
    rng = np.random.default_rng(0)
    return [
        json.dumps((numbers + rng.normal(0, scale * spread, numbers.shape)).tolist()).encode()
        for scale in SCALES
        for _ in range(PERTURBATIONS // len(SCALES))
    ]


def distinct(values: list[float]) -> Finding:
    """A search needs differences to climb."""
    name, found = "distinct values", len(set(values))
    if not values:
        message, fix = "no answer near a seed is valid", "let `judge` repair what rounding breaks"
    elif found <= 2:
        message = f"{found} over {len(values)} answers near a seed: pass or fail"
        fix = "score how far an answer gets, not whether it does"
    elif found < len(values) / 2:
        message = f"{found} over {len(values)} answers near a seed: many ties"
        fix = "break ties with a secondary measure that means progress"
    else:
        message = f"{found} over {len(values)} answers near a seed"
        return Finding(name=name, status="pass", message=message)
    return Finding(name=name, status="warn", message=message, fix=fix)


def above_noise(noise: float, values: list[float]) -> Finding:
    """Improvements must not drown in the verifier's own scatter."""
    ordered = sorted(set(values))
    gaps = [b - a for a, b in itertools.pairwise(ordered)]
    typical = statistics.median(gaps) if gaps else 0.0
    message = f"noise {noise:.3g}, typical difference {typical:.3g}"
    if noise == 0.0 or noise < 0.1 * typical:
        return Finding(name="signal over noise", status="pass", message=message)
    return Finding(
        name="signal over noise",
        status="warn",
        message=message,
        fix="average more repetitions, or measure something steadier than time",
    )
