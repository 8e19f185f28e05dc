"""Whose word a score is: what every report says of a foreign evaluator's."""

from __future__ import annotations

FOREIGN = "foreign: the program and its evaluator share one sandbox, so nothing can be claimed"


def told(trust: str | None) -> str | None:
    """The note for people; None where our verifier scores."""
    return FOREIGN if trust == "foreign" else None
