"""Plan a step: choose the parents, render their prompts, reserve the attempts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from eurekaflow.models.errors import UsageError
from eurekaflow.models.policy import Prompt
from eurekaflow.models.prompt import PromptParts, render, shrink
from eurekaflow.models.puct import greedy_parents, puct_scores, select_parents
from eurekaflow.models.rows import NodeTable, PlannedGroup
from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks import session
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session

GREEDY_STREAM = 2  # name of the random stream derived from the run's seed



@stage("plan")
def plan(run_id: str, step: int) -> int:
    """Reserve the step's groups; returns how many. An existing plan is kept."""
    s = session.of(run_id)
    if not s.archive.groups(s.run.id, step):
        s.archive.plan(s.hold, step, choose(s, step), group_size=s.config.group_size)
    return len(s.archive.groups(s.run.id, step))


def choose(s: Session, step: int) -> list[PlannedGroup]:
    """The step's parents with their prompts; parents whose prompt cannot fit are passed over."""
    nodes = s.archive.nodes(s.run.id)
    if nodes.ids.size == 0:
        raise UsageError(f"{s.problem.name} gave no seeds, so there is nothing to build on")
    allowed = np.ones(nodes.ids.size, dtype=bool)
    while allowed.any():
        scores = score(nodes, s.config)
        picks = pick(nodes, scores, allowed, s.config, step)
        fitting = {i: fit(s, int(nodes.ids[i])) for i in dict.fromkeys(picks)}
        for i, prompt in fitting.items():
            if prompt is None:
                allowed[i] = False
                s.notify("note", step=step, metrics={"text": f"prompt of {i} does not fit"})
        if all(fitting.values()):
            return [
                planned(s, nodes, scores, i, index, fitting[i]) for index, i in enumerate(picks)
            ]
    raise UsageError(
        f"no parent's prompt fits a window of {s.config.window} tokens",
        "raise --set window=… or lower --set max_new_tokens=…",
    )


def score(nodes: NodeTable, config: RunConfig) -> Any:
    return puct_scores(
        nodes.values,
        nodes.visits,
        nodes.best_child,
        nodes.is_seed,
        total=nodes.total,
        c=config.puct_c,
        scale_over=config.scale_over,
    )


def pick(
    nodes: NodeTable, scores: Any, allowed: Any, config: RunConfig, step: int
) -> list[int]:
    """Indices of the parents by the configured reuse, among the allowed nodes."""
    kept = np.flatnonzero(allowed)
    if config.reuse == "puct":
        place = {int(i): at for at, i in enumerate(kept)}
        ancestors = [[place[a] for a in nodes.ancestors[i] if a in place] for i in kept]
        chosen = select_parents(scores[kept], nodes.values[kept], ancestors, config.groups)
        return [int(kept[i]) for i in chosen]
    if config.reuse == "fixed":
        seeds = kept[nodes.is_seed[kept]]
        return [int(seeds[i % seeds.size]) for i in range(config.groups)]
    rng = np.random.default_rng([config.seed, GREEDY_STREAM, step])
    best = greedy_parents(
        nodes.values[kept], nodes.is_seed[kept], config.groups, epsilon=config.epsilon, rng=rng
    )
    return [int(kept[i]) for i in best]


def fit(s: Session, attempt_id: int) -> tuple[Prompt, tuple[int, ...]] | None:
    """The prompt of a parent, shrunk until an answer fits behind it; None if it never does."""
    parts: PromptParts | None = prompt_parts(s, attempt_id)
    level = 0
    while parts is not None:
        prompt = render(parts)
        ids = s.policy.encode(prompt)
        if len(ids) + room(s.config) <= s.config.window:
            return prompt, ids
        level += 1
        parts = shrink(parts, level)
    return None


def room(config: RunConfig) -> int:
    """Tokens that must stay free behind the prompt."""
    if config.phase1_tokens is None:
        return config.max_new_tokens + 50
    return config.window - config.phase1_tokens + 1


def prompt_parts(s: Session, attempt_id: int) -> PromptParts:
    parent = s.archive.parent_context(attempt_id)
    p, brief = s.problem, s.config.brief
    parts = PromptParts(
        statement=p.statement(brief=brief),
        parent_program=parent.program,
        value=None if parent.value is None else p.score(parent.value),
        parent_value=None if parent.parent_value is None else p.score(parent.parent_value),
        direction=p.direction,
        metric=p.metric,
        target=p.target,
        stdout_tail=parent.stdout,
        state_note=p.construction_name if parent.has_construction else "",
        entry_point=p.entry_point,
        language=p.answer,
        budget_s=s.config.budget_s,
        brief=brief,
    )
    return replace(parts, opening=p.opening()) if s.config.opening else parts


def planned(
    s: Session,
    nodes: NodeTable,
    scores: Any,
    i: int,
    index: int,
    fitted: tuple[Prompt, tuple[int, ...]] | None,
) -> PlannedGroup:
    assert fitted is not None
    prompt, ids = fitted
    best = float(nodes.best_child[i])
    return PlannedGroup(
        group_index=index,
        parent_id=int(nodes.ids[i]),
        prompt=prompt.text,
        opening=prompt.opening,
        prompt_ids=ids,
        puct={
            "visits": float(nodes.visits[i]),
            "value": float(nodes.values[i]),
            "best_child": None if np.isnan(best) else best,
            "score": float(scores[i]),
        },
    )
