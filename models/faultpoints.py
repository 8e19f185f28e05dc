"""Named points of a run at which tests interrupt it: around every commit, fsync and rename.

`reach(point)` does nothing until a test process calls `arm`; unarmed it costs one comparison.
"""

from __future__ import annotations

from collections.abc import Callable

# Transactions of a run, by the archive's method that makes them.
TRANSACTIONS = (
    "hold",
    "record_fingerprint",
    "add_seeds",
    "plan",
    "store_responses",
    "store_verdicts",
    "stage_done",
    "add_ledger",
    "settle",
    "record_update",
    "commit_step",
    "mark_pruned",
    "finish",
    "release",
)
FILES = (
    "update.empty_staging",
    "stage_files.before_fsync",
    "stage_files.after_fsync",
    "stage_files.before_folder_fsync",
    "stage_files.after_folder_fsync",
    "publish.before_rename",
    "publish.after_rename",
    "publish.after_folder_fsync",
    "prune.before_removal",
    "prune.after_removal",
)
WORK = ("sample.before_wave", "sample.after_wave", "verify.before_batch", "verify.after_batch")
POINTS = (
    *(f"{name}.{when}_commit" for name in TRANSACTIONS for when in ("before", "after")),
    *FILES,
    *WORK,
)

_action: Callable[[str], None] | None = None


def arm(action: Callable[[str], None] | None) -> None:
    """Have `action` called with the name of every point reached in this process; None disarms."""
    global _action
    _action = action


def reach(point: str) -> None:
    """Say that the program is at `point`."""
    if _action is not None:
        _action(point)
