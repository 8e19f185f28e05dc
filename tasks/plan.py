"""Plan a step: choose the parents, render their prompts, reserve the attempts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eurekaflow.models.errors import UsageError
from eurekaflow.models.policy import Prompt
from eurekaflow.models.prompt import PromptParts, render, shrink, state_note
from eurekaflow.models.puct import (
    exploitation,
    greedy_parents,
    puct_scores,
    rank_prior,
    select_parents,
)
from eurekaflow.models.rows import NodeTable, PlannedGroup, SeedRow
from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks import session
from eurekaflow.tasks.metering import metered
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session

GREEDY_STREAM = 2  # names of the random streams derived from the run's seed
REDRAW_STREAM = 3


@stage("plan")
def plan(run_id: str, step: int) -> int:
    """Reserve the step's groups; returns how many. An existing plan is kept."""
    s = session.of(run_id)
    groups = s.archive.groups(s.run.id, step)
    if not groups:
        s.notify("stage", step=step, stage="plan")
        with s.timed(step, "plan"), metered(s, step, "plan"):
            groups = s.archive.plan(s.hold, step, choose(s, step))
    if s.changed:
        s.archive.mark_step(s.hold, step, s.changed)
    return len(groups)


@dataclass(frozen=True)
class Fitted:
    """A parent's prompt that leaves room for an answer."""

    prompt: Prompt
    ids: tuple[int, ...]


def choose(s: Session, step: int) -> list[PlannedGroup]:
    """The step's parents with their prompts; parents whose prompt cannot fit are passed over."""
    nodes = s.archive.nodes(s.run.id)
    if nodes.ids.size == 0:
        raise UsageError(f"{s.problem.name} gave no seeds, so there is nothing to build on")
    scores = score(nodes, s.config)
    allowed = np.ones(nodes.ids.size, dtype=bool)
    while allowed.any():
        picks = pick(nodes, scores, allowed, s.config, step)
        if s.problem.redraws:
            nodes = redrawn(s, step, nodes, picks)
        fitted = {i: fit(s, int(nodes.shown_ids[i])) for i in dict.fromkeys(picks)}
        groups = [
            planned(s, nodes, scores, i, index, prompt)
            for index, i in enumerate(picks)
            if (prompt := fitted[i]) is not None
        ]
        if len(groups) == len(picks):
            return groups
        for i in (i for i, prompt in fitted.items() if prompt is None):
            allowed[i] = False
            text = f"the prompt of attempt {nodes.ids[i]} does not fit; it is passed over"
            s.notify("note", step=step, metrics={"text": text})
    raise UsageError(
        f"no parent's prompt fits a window of {s.config.window} tokens",
        "widen it with --set window=… or shorten answers with --set max_new_tokens=…",
    )


def redrawn(s: Session, step: int, nodes: NodeTable, picks: list[int]) -> NodeTable:
    """The nodes after the chosen seeds were drawn anew; asked again, the draws are the same."""
    chosen = {int(nodes.ids[i]) for i in picks if nodes.is_seed[i]}
    slots = sorted(s.archive.attempt(seed).group_index for seed in chosen)
    s.archive.add_seeds(s.hold, [draw(s, step, slot) for slot in slots])
    return s.archive.nodes(s.run.id)


def draw(s: Session, step: int, slot: int) -> SeedRow:
    """The draw of a slot's seed for a step, a pure function of the run's seed and both."""
    rng = np.random.default_rng([s.config.seed, REDRAW_STREAM, step, slot])
    start = s.problem.seeds(rng, 1, brief=s.config.brief)[0]
    return SeedRow(
        slot=slot,
        draw=step + 1,
        value=start.value,
        program=start.program,
        construction=start.construction,
    )


def score(nodes: NodeTable, config: RunConfig) -> npt.NDArray[np.float64]:
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
    nodes: NodeTable,
    scores: npt.NDArray[np.float64],
    allowed: npt.NDArray[np.bool_],
    config: RunConfig,
    step: int,
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
        return [int(seeds[i % seeds.size]) for i in range(config.groups if seeds.size else 0)]
    rng = np.random.default_rng([config.seed, GREEDY_STREAM, step])
    best = greedy_parents(
        nodes.values[kept],
        nodes.is_seed[kept],
        nodes.parents[kept],
        config.groups,
        epsilon=config.epsilon,
        rng=rng,
    )
    return [int(kept[i]) for i in best]


def fit(s: Session, shown_id: int) -> Fitted | None:
    """The prompt of a parent, shrunk until an answer fits behind it; None if it never does."""
    whole = prompt_parts(s, shown_id)
    level, parts = 0, shrink(whole, 0)
    while parts is not None:
        prompt = render(parts)
        ids = s.policy.encode(prompt)
        if len(ids) + room(s.config) <= s.config.window:
            return Fitted(prompt, ids)
        level += 1
        parts = shrink(whole, level)
    return None


def room(config: RunConfig) -> int:
    """Tokens that must stay free behind the prompt."""
    if config.phase1_tokens is None:
        return config.max_new_tokens + 50
    return config.window - config.phase1_tokens + 1


def prompt_parts(s: Session, shown_id: int) -> PromptParts:
    p, brief = s.problem, s.config.brief
    parent = s.archive.attempt(shown_id)
    construction = s.archive.construction(shown_id)
    value, older = parent.value, s.archive.parent_value(shown_id)
    state = ""
    if construction is not None and p.construction_name:
        state = state_note(p.construction_name, len(construction))
    return PromptParts(
        statement=p.statement(brief=brief),
        direction=p.direction,
        metric=p.metric,
        language=p.answer,
        entry_point=p.entry_point,
        parent_program=p.excerpt(s.archive.program(shown_id) or ""),
        parent_score=None if value is None else p.score(value),
        grandparent_score=None if older is None else p.score(older),
        target=p.target,
        stdout_tail=s.archive.stdout(shown_id) or "",
        state_note=state,
        budget_s=s.config.budget_s if p.told_budget and not p.cases() else None,
        opening=p.opening() if s.config.opening else "",
        brief=brief,
    )


def planned(
    s: Session,
    nodes: NodeTable,
    scores: npt.NDArray[np.float64],
    i: int,
    index: int,
    fitted: Fitted,
) -> PlannedGroup:
    q = exploitation(nodes.values, nodes.visits, nodes.best_child)
    return PlannedGroup(
        group_index=index,
        parent_id=int(nodes.ids[i]),
        prompt=fitted.prompt.text,
        prompt_ids=fitted.ids,
        group_size=s.config.group_size,
        opening=fitted.prompt.opening,
        visits=float(nodes.visits[i]),
        q=float(q[i]),
        prior=float(rank_prior(nodes.values)[i]),
        bonus=float(scores[i] - q[i]),
        puct=float(scores[i]),
    )
