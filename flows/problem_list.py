"""The command `problems`: what there is to discover, and every published result."""

from __future__ import annotations

from typing import Any

from eurekaflow.flows.options import Json
from eurekaflow.flows.scoring import find


def problems(*, json: Json = False) -> int:
    """List the problems and their records.

    Parameters
    ----------
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows.rendering import print_json, print_table
    from eurekaflow.verifiers.lookup import names

    found = [described(name) for name in names()]
    if json:
        print_json(found)
        return 0
    rows = [
        (p["name"], p["title"], f"{p['direction']} {p['metric']}", p["record"], p["holder"])
        for p in found
    ]
    print_table(("problem", "title", "goal", "record", "held by"), rows)
    published = [
        (p["name"], r["role"] or r["kind"], r["holder"], r["score"], r["mode"], r["source"])
        for p in found
        for r in p["records"]
    ]
    columns = ("problem", "of", "holder", "score", "measured in", "source")
    print_table(columns, published, title="Published results", empty="")
    return 0


def described(name: str) -> dict[str, Any]:
    """A problem for listing."""
    from eurekaflow.verifiers.records import best_of

    problem = find(name)
    record = best_of(problem.records, direction=problem.direction)
    return {
        "name": problem.name,
        "aliases": list(problem.aliases),
        "title": problem.title,
        "version": problem.version,
        "direction": problem.direction,
        "metric": problem.metric,
        "answer": problem.answer,
        "modes": list(problem.modes),
        "trust": problem.trust,
        "record": record.score if record else None,
        "holder": record.holder if record else None,
        "target": problem.target,
        "records": [vars(r) for r in problem.records],
    }
