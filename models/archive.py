"""The archive: every attempt of every run, the PUCT tree, and the point a run resumes from.

`Archive(url)` is assembled from one class a responsibility, each building on the one before:
Database (connections, the fence), Registry (problems, runs, ownership), Bodies (large contents),
Reads (what is missing), Planning (seeds, plans), Steps (responses, verdicts), Tree (nodes,
settling), Updates (training, checkpoints), Rebuild (counters from scratch), Continuing (forks,
fresh policies, discarded weights), Overview (summaries), Pruning (saving space), Spending (the
ledger), Nights.

Contract. Methods may be called from any thread. A write needs a `Hold`; it is one transaction that
first checks the run's epoch (FencedOut), and repeating it changes nothing. Finished rows never
change. A database that is gone or full raises ArchiveUnavailable; the caller retries.
"""

from __future__ import annotations

from eurekaflow.models.continuing import Continuing
from eurekaflow.models.nights import Nights
from eurekaflow.models.overview import Overview
from eurekaflow.models.ownership import Hold
from eurekaflow.models.pruning import Pruning
from eurekaflow.models.registry import RunNotFound
from eurekaflow.models.rows import (
    AttemptRow,
    AttemptTokens,
    CheckpointRow,
    GroupBatch,
    GroupRow,
    GroupStats,
    NodeTable,
    Pending,
    PlannedGroup,
    Progress,
    RunRow,
    SeedRow,
    StepRow,
    StoreCount,
    VerdictRow,
)
from eurekaflow.models.spending import Spending

__all__ = [
    "Archive",
    "AttemptRow",
    "AttemptTokens",
    "CheckpointRow",
    "GroupBatch",
    "GroupRow",
    "GroupStats",
    "Hold",
    "NodeTable",
    "Pending",
    "PlannedGroup",
    "Progress",
    "RunNotFound",
    "RunRow",
    "SeedRow",
    "StepRow",
    "StoreCount",
    "VerdictRow",
]


class Archive(Continuing, Overview, Pruning, Spending, Nights):
    """The whole archive behind one database URL."""
