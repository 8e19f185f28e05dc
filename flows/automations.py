"""Automations in Prefect, for our flow runs alone: the dead are seen, nights go on, people told.

Each is bound to our tags (`prefect_tags`). A server shared with other people has flow runs that
send no heartbeats at all, and those must never be declared dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from pydantic import SecretStr

from eurekaflow.flows.prefect_tags import BY_HAND, NIGHTLY, OURS

DEAD_AFTER_S = 90  # three heartbeats of the shortest interval that Prefect allows
RETRY_NAME = "AwaitingRetry"
NOTIFY = "eureka: tell how runs end"
BLOCK = "eureka-notify"  # the webhook's address, which Prefect keeps encrypted
TOLD = ("Completed", "Failed", "Crashed")
ENDS = {
    f"prefect.flow-run.{name}"
    for name in ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "AwaitingRetry")
}
PAYLOAD = """{"text": {{ (flow_run.name ~ ": " ~ flow_run.state.name ~ " "
    ~ (flow_run.state.message or "")) | tojson }},
 "flow": {{ flow.name | tojson }}, "flow_run": {{ flow_run.id | string | tojson }},
 "name": {{ flow_run.name | tojson }}, "state": {{ flow_run.state.name | tojson }}}"""


def ensure_automations() -> list[str]:
    """Flow runs that fall silent become Crashed; a crashed night is run again by its worker."""
    return [*ensure(silent_is_crashed()), *ensure(crashed_is_retried())]


def ensure(wanted: Automation) -> list[str]:
    """Make an automation, or make the one of its name the same; what was done, in words."""
    known: Any = Automation  # its methods are typed as coroutines; without a loop they act
    acts: Any = wanted
    try:
        found = known.read(name=wanted.name)
    except ValueError:
        acts.create()
        return [f"made the automation {wanted.name}"]
    if content(found) == content(wanted):
        return []
    acts.id = found.id
    acts.update()
    return [f"changed the automation {wanted.name}"]


def content(one: Automation) -> Any:
    """What an automation does, without what the server adds."""
    return one.model_dump(include={"trigger", "actions"})


def silent_is_crashed() -> Automation:
    """No heartbeat and no end for a while: the process is gone."""
    return Automation(
        name="eureka: silent flow runs have crashed",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ENDS},
            posture=Posture.Proactive,
            within=timedelta(seconds=DEAD_AFTER_S),
            **of_tags([OURS]),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, name="Crashed", message="no heartbeat: process gone"
            )
        ],
    )


def crashed_is_retried() -> Automation:
    """A crashed night is scheduled again; the archive counts and ends that."""
    return Automation(
        name="eureka: crashed nights go on",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            posture=Posture.Reactive,
            within=timedelta(0),
            **of_tags([NIGHTLY]),
        ),
        actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name=RETRY_NAME)],
    )


def notify(url: str) -> list[str]:
    """Post to `url` whenever a night, or a run outside nights, has ended."""
    block: Any = Webhook(method="POST", url=SecretStr(url))
    return ensure(told(block.save(BLOCK, overwrite=True)))


def told(block_id: Any) -> Automation:
    """A night, or a run outside nights, has completed, failed or crashed."""
    return Automation(
        name=NOTIFY,
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{name}" for name in TOLD},
            posture=Posture.Reactive,
            within=timedelta(0),
            **of_tags([NIGHTLY, BY_HAND]),
        ),
        actions=[CallWebhook(block_document_id=block_id, payload=PAYLOAD)],
    )


def silence() -> bool:
    """Post no more; whether anything was posted before."""
    known: Any = Automation
    try:
        known.read(name=NOTIFY).delete()
    except ValueError:
        return False
    return True


def of_tags(tags: Sequence[str]) -> dict[str, Any]:
    """The part of a trigger that keeps it to flow runs with one of these tags, each by itself."""
    return {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {
            "prefect.resource.role": "tag",
            "prefect.resource.id": [f"prefect.tag.{tag}" for tag in tags],
        },
        "for_each": {"prefect.resource.id"},
        "threshold": 1,
    }
