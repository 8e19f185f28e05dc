"""Making a fork: a new run from a committed step of another, with the weights of that step.

The newest sound checkpoint up to the step is copied along; where that is not the step's own, the
updates between are replayed when the fork is resumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eurekaflow.flows.hardware import refuse_other_gpu
from eurekaflow.flows.launch import hardware
from eurekaflow.flows.setting_sources import plain
from eurekaflow.flows.standing import bounds, checked
from eurekaflow.models.archive import Archive, RunRow
from eurekaflow.models.checkpoints import check, copy, final_name, publish
from eurekaflow.models.errors import CheckpointDamaged, UsageError
from eurekaflow.models.settings import RunConfig
from eurekaflow.verifiers.lookup import load

OF_THE_WEIGHTS = ("model", "lora_rank", "lora_alpha", "lora_experts")  # others need new weights


def fork(
    url: str,
    home: Path,
    ref: str,
    *,
    at_step: int,
    changes: Mapping[str, object],
    fresh_policy: bool = False,
) -> RunRow:
    """A new run with the steps of `ref` up to `at_step` and changed settings, not yet started.

    Raises UsageError for a step that is not committed or a setting that cannot be changed.
    """
    archive = Archive(url)
    try:
        parent = archive.run(ref)
        refuse_other_gpu(load(parent.config["problem"]), parent)
        config = branched(archive, parent, at_step, changes, fresh_policy=fresh_policy)
        made = archive.fork(
            parent, at_step=at_step, config=config.model_dump(mode="json"), hardware=hardware()
        )
        with archive.hold(made.id, owner="fork") as hold:
            if fresh_policy:
                archive.begin_policy(hold, {})
            else:
                copy_weights(archive, home, parent, made, hold)
            hold.release("created")
        return archive.run(made.id)
    finally:
        archive.close()


def branched(
    archive: Archive,
    parent: RunRow,
    at_step: int,
    changes: Mapping[str, object],
    *,
    fresh_policy: bool,
) -> RunConfig:
    """The fork's configuration: that of the step it branches from, with the changes."""
    row = archive.step(parent.id, at_step)
    before = {**parent.config, **({} if row is None else row.settings)}
    given = {name: plain(name, value) for name, value in changes.items()}
    if "problem" in given:
        raise UsageError("a fork keeps the problem of its run", "eureka run PROBLEM")
    new = checked({**before, **given, **bounded(given)})
    other = [n for n in OF_THE_WEIGHTS if n in given and getattr(new, n) != before.get(n)]
    if other and not fresh_policy:
        raise UsageError(f"{', '.join(other)} cannot change with the weights", "--fresh-policy")
    return new


def bounded(given: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds as `--steps` and `--minutes` mean them, where either is given."""
    return bounds(given.get("steps"), given.get("minutes"))


def copy_weights(archive: Archive, home: Path, parent: RunRow, made: RunRow, hold: Any) -> None:
    """Copy the newest sound checkpoint of the shared steps into the fork's folder."""
    mine = {row.step: row for row in archive.checkpoints(made.id)}
    for row in reversed(archive.checkpoints(parent.id)):
        if row.step not in mine or row.step < made.policy_from or row.state != "kept":
            continue
        source, target = (home / "runs" / str(r.uuid) for r in (parent, made))
        try:
            check(source / row.path, row.files, size_bytes=row.size_bytes)
            copied = target / f"staging-{row.step}-{hold.epoch}"
            path = final_name(copied.name)
            copy(source / row.path, copied, row.files)
            publish(copied, target / path, row.files, confirm=lambda: archive.confirm(hold))
        except CheckpointDamaged:
            continue
        reason = f"copied from run {parent.uuid}"
        archive.restore_checkpoint(hold, replace(row, path=str(path), reason=reason))
        return
