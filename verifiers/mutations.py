"""A valid answer shortened, lengthened, nested and emptied: which of these does `judge` accept?

Part of what `eureka problem check` finds out. Accepting one is no fault where answers may have
any length, so it is a warning to think about.
"""

from __future__ import annotations

import json
from typing import Any

from eurekaflow.verifiers.problem import Outcome
from eurekaflow.verifiers.safety import Bench, Finding
from eurekaflow.verifiers.stub import ARRAY

LARGEST = 1 << 20  # bytes of an answer whose mutations are tried


def mutations(answer: bytes, *, text: bool) -> dict[str, bytes]:
    """Wrong answers near a valid one, by what was done to it."""
    if text or answer.startswith(ARRAY):
        half = len(answer) // 2
        return {"shortened": answer[:half], "lengthened": answer + answer, "emptied": b""}
    value = json.loads(answer)
    found: dict[str, Any] = {"nested": [value], "emptied": type(value)()}
    if isinstance(value, list) and value:
        found |= {"shortened": value[:-1], "lengthened": [*value, value[-1]]}
        inner = next((i for i, part in enumerate(value) if isinstance(part, list) and part), None)
        if inner is not None:
            for what, part in _inside(value[inner]).items():
                found[f"{what} inside"] = [*value[:inner], part, *value[inner + 1 :]]
    if isinstance(value, dict):
        found |= {f"without {key}": _without(value, key) for key in value}
    return {what: json.dumps(changed).encode() for what, changed in found.items()}


def _inside(part: list[Any]) -> dict[str, Any]:
    return {
        "shortened": part[:-1], "lengthened": [*part, part[-1]], "nested": [part], "emptied": [],
    }  # fmt: skip


def _without(value: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: kept for name, kept in value.items() if name != key}


def refuses_mutations(bench: Bench, answer: bytes) -> Finding:
    """Whether answers of another shape are refused, and how."""
    name = "rejects other shapes"
    if len(answer) > LARGEST:
        return Finding(name=name, status="pass", message="not tried: the answer is too large")
    text = bench.problem.answer in ("json", "text")
    tried = mutations(answer, text=text)
    verdicts = {what: bench.judged(data) for what, data in tried.items()}
    tripped = [w for w, v in verdicts.items() if v.message.startswith("the verifier")]
    accepted = [w for w, v in verdicts.items() if v.outcome is Outcome.VALID]
    if accepted or tripped:
        words = [("accepted", accepted), ("refused by an unforeseen exception", tripped)]
        return Finding(
            name=name,
            status="warn",
            message="; ".join(f"{said}: {', '.join(which)}" for said, which in words if which),
            fix="refuse it, unless answers of any shape are meant; check length and nesting first",
        )
    return Finding(name=name, status="pass", message=f"{len(tried)} of {len(tried)}")
