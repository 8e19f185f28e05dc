"""The values that cross the archive's edge: frozen rows in, frozen rows out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt

Construction = npt.NDArray[np.float64]
VisitUnit = Literal["expansion", "rollout"]
RetentionScope = Literal["parent", "expansion"]


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run as it stands."""

    id: int
    uuid: UUID
    problem: str
    problem_version: str
    direction: Literal["min", "max"]
    config: dict[str, Any]
    seed: int
    versions: dict[str, Any]
    fingerprint: dict[str, Any]
    hardware: dict[str, Any]
    flow_run_id: str | None
    state: str
    message: str
    ended_by: str | None  # the rule that ended it before its steps were used up
    epoch: int
    version: int  # committed policy version
    owner: str | None  # of a lease that has not expired
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    forked_from: int | None
    fork_step: int | None
    policy_from: int  # first step trained by the policy in use
    discarded_at: datetime | None  # when its weights were given up


@dataclass(frozen=True, kw_only=True)
class SeedRow:
    """A starting point: draw `draw` of slot `slot`."""

    slot: int
    value: float
    draw: int = 0
    program: str = ""
    construction: Construction | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedGroup:
    """A group to be sampled; the parent's numbers are those of the choice."""

    group_index: int
    parent_id: int
    prompt: str
    prompt_ids: tuple[int, ...]
    group_size: int
    opening: str = ""
    visits: float | None = None
    q: float | None = None
    prior: float | None = None
    bonus: float | None = None
    puct: float | None = None
    draw: SeedRow | None = None  # the parent seed's new draw, shown instead of the old one


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """A planned group as stored."""

    run_id: int
    step: int
    group_index: int
    parent_id: int
    shown_id: int  # whose program and construction the prompt shows
    prompt: str
    prompt_ids: tuple[int, ...]
    group_size: int
    opening: str
    visits: float | None
    q: float | None
    prior: float | None
    bonus: float | None
    puct: float | None
    valid_fraction: float | None
    beta: float | None
    kl: float | None
    trained: bool | None


@dataclass(frozen=True, kw_only=True)
class AttemptRow:
    """An attempt without its bodies."""

    id: int
    run_id: int
    step: int
    group_index: int
    attempt_index: int
    seq: int
    parent_id: int | None
    path: tuple[int, ...]
    state: str
    outcome: str | None
    value: float | None
    reward: float | None
    message: str
    eligible: bool
    archivable: bool
    visits_expansion: int
    visits_rollout: int
    best_child: float | None
    response_tokens: int | None
    metrics: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StoreCount:
    """What storing responses did: new rows, and how replayed ones compare with the stored."""

    inserted: int = 0
    identical: int = 0
    different: int = 0


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A response that has no verdict yet."""

    attempt_id: int
    group_index: int
    attempt_index: int
    response: str
    opening: str
    parent_id: int
    shown_id: int  # `construction(shown_id)` is what the program is given


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """The verdict of one attempt, as plain fields."""

    attempt_id: int
    outcome: str
    value: float | None = None
    reward: float = 0.0
    message: str = ""
    program: str | None = None
    construction: Construction | None = None
    same_by: Literal["construction", "program"] = "construction"  # what makes two nodes the same
    stdout: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    queue_s: float = 0.0
    run_s: float = 0.0
    cpu_s: float = 0.0
    worker: str = ""
    archivable: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeTable:
    """The eligible nodes of a run in archive order, as arrays of length n."""

    ids: npt.NDArray[np.int64]
    shown_ids: npt.NDArray[np.int64]  # whose program to show: the last draw of a redrawn seed
    seqs: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    visits: npt.NDArray[np.float64]  # in the run's visit unit
    best_child: npt.NDArray[np.float64]  # NaN without a valid child
    is_seed: npt.NDArray[np.bool_]
    parents: npt.NDArray[np.int64]  # direct ones, by id; -1 of a seed
    ancestors: tuple[tuple[int, ...], ...]  # indices into these arrays
    total: int  # T, in the run's visit unit


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: the step to work on and how far it got."""

    step: int
    stage: str | None  # None: not planned yet
    version: int  # committed policy version
    missing: dict[int, tuple[int, ...]]  # slots without a response, by group
    unverified: int  # responses without a verdict


@dataclass(frozen=True, kw_only=True, eq=False)
class AttemptTokens:
    """What the update needs of one attempt; arrays have the response's length."""

    attempt_id: int
    attempt_index: int
    token_ids: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    reward: float


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupBatch:
    """One group's verdicts for training, attempts in slot order."""

    group_index: int
    prompt_ids: tuple[int, ...]
    attempts: tuple[AttemptTokens, ...]


@dataclass(frozen=True, kw_only=True)
class GroupStats:
    """How one group entered the objective."""

    group_index: int
    beta: float | None = None
    kl: float | None = None
    trained: bool = False
    constant: bool | None = None  # None: as settling found
    advantage_min: float | None = None
    advantage_mean: float | None = None
    advantage_max: float | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointRow:
    """Weights on disk: version `version`, produced by `step`."""

    step: int
    version: int
    path: str
    sha256: str
    size_bytes: int = 0
    files: dict[str, str] = field(default_factory=dict)
    optimizer_sha256: str = ""
    state: str = "kept"
    reason: str = ""  # why pruned, or how made anew


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A step as it stands."""

    step: int
    stage: str
    version_sampled: int
    version_produced: int | None
    seconds: dict[str, Any]
    metrics: dict[str, Any]
    staging: dict[str, Any] | None
    planned_at: datetime
    archived_at: datetime | None
    committed_at: datetime | None
    settings: dict[str, Any]  # of a copied step, where they differ from the run's
    changed: dict[str, Any]  # versions and fingerprint, where not the run's
