"""What is the matter with a run, in words: why it ended, what its last steps show, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Rule -> what it means for the run and what to do about it.
RULES = {
    "budget": "its budget is used up; raise it and continue: eureka resume {run}",
    "target": "it met its target; look: eureka best {run}",
    "record": "it beat the record; check it: eureka best {run} --out best.json, eureka verify",
    "flat": "it stopped improving; go on with fresh weights: eureka resume {run} --fresh-policy, "
    "or --set when_stuck=restart for a nightly schedule",
    "entropy": "the policy repeats itself; go on with fresh weights, with a lower lr or a higher "
    "kl: eureka fork {run} --at-step N --fresh-policy --set kl=0.2",
    "validity": "hardly an answer is valid; see why: select * from failures, then restart with a "
    "simpler problem statement, shorter answers or a lower lr",
    "deadline": "its night was over; the next one continues it, or: eureka resume {run}",
    "night": "the night's budget was used up; the next night continues it",
    "disk": "the disk was nearly full; free some space, then: eureka resume {run}",
    "cancelled": "it was cancelled in Prefect; Retry there continues it, or: eureka resume {run}",
    "poison": "it kept crashing at the same place and is left alone; see its message, then: "
    "eureka resume {run}",
}
FLAT_STEPS = 10  # worth a remark


def diagnose(run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences about a run, from its row and its steps as `eureka show` reads them."""
    said = _restarted(run)
    short = str(run["run"])[:8]
    if (rule := run.get("ended_by")) in RULES:
        said.append(f"{run.get('message') or rule}: {RULES[rule].format(run=short)}")
    elif run.get("state") == "crashed":
        said.append(f"its process is gone; nothing is lost: eureka resume {short}")
    done = [step for step in steps if step.get("stage") == "committed"]
    said += [sentence for sentence in (_flat(done), _invalid(done)) if sentence]
    return said + [sentence for step in steps for sentence in _failures(step)]


def _restarted(run: Mapping[str, Any]) -> list[str]:
    """Where a run's seeds are from: unlike a fork, a restart has no steps of the other run."""
    if run.get("forked_from") is None or run.get("fork_step") is not None:
        return []
    origin = str(run["forked_from"])[:8]
    return [f"restarted from {origin} with fresh weights, its best answers as seeds"]


def _failures(step: Mapping[str, Any]) -> list[str]:
    """What went wrong in a step, as its metrics remember it."""
    return [
        f"step {step['step']} failed {times} times: {reason}"
        + ("; it trained nothing" if times > 1 and reason.startswith("update: ") else "")
        for reason, times in (step.get("failures") or {}).items()
    ]


def _flat(steps: Sequence[Mapping[str, Any]]) -> str:
    best = [step["best_score"] for step in steps if step["best_score"] is not None]
    same = 0
    while same + 1 < len(best) and best[-same - 2] == best[-1]:
        same += 1
    return f"no improvement in the last {same} steps" if same >= FLAT_STEPS else ""


def _invalid(steps: Sequence[Mapping[str, Any]]) -> str:
    recent = steps[-3:]
    verified = sum(step["verified"] or 0 for step in recent)
    valid = sum(step["valid"] or 0 for step in recent)
    if not verified or valid / verified >= 0.1:
        return ""
    return f"only {valid} of the last {verified} attempts were valid: eureka sql on failures"


def amount(kind: str, value: float) -> str:
    """An amount of a budget as people read it."""
    if kind in ("attempts", "steps", "tokens"):
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"
