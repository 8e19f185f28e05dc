"""Archive a step: count it, insert what may become a parent, apply retention."""

from __future__ import annotations

from eurekaflow.tasks import session
from eurekaflow.tasks.metering import metered
from eurekaflow.tasks.retry import stage


@stage("archive")
def archive(run_id: str, step: int) -> None:
    """Settle the step's verdicts in sequence order; a settled step is left alone."""
    s = session.of(run_id)
    c = s.config
    with s.timed(step, "archive"), metered(s, step, "archive"):
        s.archive.settle(
            s.hold,
            step,
            topk_children=c.topk_children,
            archive_cap=c.archive_cap,
            retention_scope=c.retention_scope,
            visit_unit=c.visit_unit,
        )
