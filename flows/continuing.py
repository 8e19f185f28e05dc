"""The commands `resume` and `fork`: continue a run, or branch from one of its steps."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from eurekaflow.flows.options import Flag, Json

LATEST = "latest"  # the newest unfinished run


def resume(
    ref: Annotated[str, Parameter(show_default=False)] = LATEST,
    /,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    fresh_policy: Flag = False,
    model: str | None = None,
    json: Json = False,
) -> int:
    """Continue a run where the archive says it stopped.

    Parameters
    ----------
    ref
        The run's id or the beginning of it; the newest unfinished run by default.
    steps
        New total number of steps, to lengthen a run; given alone, no time limit applies.
    minutes
        New total run time, to lengthen a run; given alone, no step limit applies.
    fresh_policy
        Keep the tree and begin with new weights.
    model
        Model of the fresh policy.
    json
        Print the result as JSON on stdout.
    """
    from eurekaflow.flows import launch
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import require_archive
    from eurekaflow.flows.running import follow, prepare_model
    from eurekaflow.flows.standing import Goals

    here = surroundings()
    require_archive(here)
    if model is not None:
        prepare_model(model, here.home)
    goals = Goals(steps=steps, minutes=minutes, fresh_policy=fresh_policy, model=model)
    return follow(
        lambda listener: launch.resume(ref, here, goals=goals, listener=listener), as_json=json
    )


def fork(
    ref: str,
    /,
    *,
    at_step: int,
    steps: int | None = None,
    minutes: float | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    fresh_policy: Flag = False,
    later: Flag = False,
    json: Json = False,
) -> int:
    """Branch a new run from a committed step of another, and continue it.

    Parameters
    ----------
    ref
        The run's id or the beginning of it, or `last`.
    at_step
        The last step that both share; the new run continues with the next.
    steps
        Total number of steps, the shared ones included; given alone, no time limit applies.
    minutes
        Total run time, the shared steps included; given alone, no step limit applies.
    set_
        Any other setting as key=value; repeatable.
    fresh_policy
        Keep the tree and begin with new weights; needed for another model or LoRA.
    later
        Only make the run; `eureka resume` starts it.
    json
        Print the result as JSON on stdout.
    """
    from eurekaflow.flows import branching, launch
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import existing_archive
    from eurekaflow.flows.rendering import print_json
    from eurekaflow.flows.running import follow
    from eurekaflow.flows.setting_sources import parse_assignments

    here = surroundings()
    given = {k: v for k, v in {"steps": steps, "minutes": minutes}.items() if v is not None}
    changes = parse_assignments(set_ or [], given=given)
    with existing_archive(here) as url:
        made = branching.fork(
            url, here.home, ref, at_step=at_step, changes=changes, fresh_policy=fresh_policy
        )
    if not later:
        return follow(
            lambda listener: launch.resume(str(made.uuid), here, listener=listener), as_json=json
        )
    if json:
        print_json({"run": str(made.uuid)})
    else:
        print(f"made run {made.uuid}; start it: eureka resume {made.uuid}", file=sys.stderr)
    return 0
