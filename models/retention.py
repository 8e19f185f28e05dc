"""Which attempts are nodes: insertion, dedupe and retention as a pure function.

Eligibility follows from the ordered attempts and the configuration alone, so it can be replayed
from scratch. In sequence order an attempt is inserted when it is valid, admitted by the problem,
and no node that is eligible now (seeds, and this step's insertions, included) has its dedupe key.
At the end of the step the best `topk_children` of each direct parent stay ("parent", over the
parent's life) or of each group ("expansion", as the paper words it); then, above `archive_cap`
nodes, all seeds and the best of the others stay. Equal values: the lower sequence number wins.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from eurekaflow.models.rows import RetentionScope


@dataclass(frozen=True, slots=True)
class Candidate:
    """What retention knows of an attempt."""

    id: int
    seq: int
    step: int
    group_index: int
    parent_id: int | None  # None: a seed
    value: float
    dedupe_key: bytes | None

    @property
    def is_seed(self) -> bool:
        return self.step < 0


def next_nodes(
    nodes: Sequence[Candidate],
    candidates: Iterable[Candidate],
    *,
    topk_children: int,
    archive_cap: int,
    retention_scope: RetentionScope,
) -> list[Candidate]:
    """The eligible nodes after a step, from those before it and its valid, admitted attempts."""
    inserted = _insert(nodes, candidates)
    kept = _best_of_each(inserted, topk_children, retention_scope) if topk_children else inserted
    return _capped(kept, archive_cap)


def _insert(nodes: Sequence[Candidate], candidates: Iterable[Candidate]) -> list[Candidate]:
    result = list(nodes)
    held = {node.dedupe_key for node in nodes}
    for candidate in sorted(candidates, key=lambda c: c.seq):
        if candidate.dedupe_key is None or candidate.dedupe_key not in held:
            result.append(candidate)
            held.add(candidate.dedupe_key)
    return result


def _best_of_each(
    nodes: Sequence[Candidate], count: int, scope: RetentionScope
) -> list[Candidate]:
    taken: dict[Hashable, int] = {}
    kept = [node for node in nodes if node.is_seed]
    for node in _best_first(nodes):
        family = node.parent_id if scope == "parent" else (node.step, node.group_index)
        if taken.get(family, 0) < count:
            taken[family] = taken.get(family, 0) + 1
            kept.append(node)
    return kept


def _capped(nodes: Sequence[Candidate], cap: int) -> list[Candidate]:
    if len(nodes) <= cap:
        return list(nodes)
    seeds = [node for node in nodes if node.is_seed]
    return seeds + _best_first(nodes)[: max(0, cap - len(seeds))]


def _best_first(nodes: Sequence[Candidate]) -> list[Candidate]:
    return sorted((node for node in nodes if not node.is_seed), key=lambda n: (-n.value, n.seq))
