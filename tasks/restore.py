"""The weights a step needs: the checkpoint when it is sound, else the updates replayed to it.

A checkpoint that is missing, torn or altered is told in words, and the updates since the newest
sound one (or since version 0) are repeated from stored tokens, rewards and log-probs. Nothing is
sampled or verified. On a CPU the result is the recorded one bit for bit; a difference is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from eurekaflow.models.checkpoints import check, final_name, publish
from eurekaflow.models.errors import CheckpointDamaged
from eurekaflow.models.policy import UpdateReport, Version
from eurekaflow.models.rows import CheckpointRow
from eurekaflow.models.states import CheckpointState
from eurekaflow.tasks.session import Session
from eurekaflow.tasks.training import learn


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where the weights of a step come from."""

    wanted: CheckpointRow | None  # None: version 0
    base: CheckpointRow | None  # the newest sound checkpoint; None: version 0
    replayed: tuple[CheckpointRow, ...] = ()  # updates to repeat on the base, oldest first
    damage: tuple[str, ...] = ()  # what is wrong with the ones between, in words


def find(s: Session, step: int) -> Weights:
    """The newest weights committed before `step`, and what must be replayed to have them."""
    line = line_to(s, step)
    damage: list[str] = []
    for at in range(len(line) - 1, -1, -1):
        found = damaged(s, line[at])
        if found is None:
            after = tuple(line[at + 1 :])
            return Weights(wanted=line[-1], base=line[at], replayed=after, damage=tuple(damage))
        damage.append(found)
    wanted = line[-1] if line else None
    return Weights(wanted=wanted, base=None, replayed=tuple(line), damage=tuple(damage[:1]))


def line_to(s: Session, step: int) -> list[CheckpointRow]:
    """The versions of the policy in use that were committed before `step`, oldest first."""
    rows = s.archive.checkpoints(s.run.id)
    return [row for row in rows if s.run.policy_from <= row.step < step]


def newest(s: Session, step: int) -> CheckpointRow | None:
    """The version that `step` samples and trains with; None: version 0."""
    line = line_to(s, step)
    return line[-1] if line else None


def damaged(s: Session, row: CheckpointRow) -> str | None:
    """What is wrong with a checkpoint, in words; None for a sound one."""
    if row.state != CheckpointState.KEPT:
        if not row.path:
            return f"the weights of step {row.step} were {row.reason}"
        return f"the weights of step {row.step} were pruned: {row.reason or 'no reason given'}"
    try:
        check(s.folder / row.path, row.files, size_bytes=row.size_bytes)
    except CheckpointDamaged as error:
        return f"the weights of step {row.step} are damaged: {error.message}"
    return None


def make_resident(s: Session, step: int) -> None:
    """Load the weights that a step samples and trains with, replayed where they are damaged.

    Raises CheckpointDamaged when the tokens for that are gone.
    """
    if s.policy.holds(version(s, newest(s, step))):
        s.policy.ensure(version(s, newest(s, step)))
        return
    weights = find(s, step)
    wanted = replay(s, weights) if weights.replayed else weights.wanted
    s.policy.ensure(version(s, wanted))


def version(s: Session, row: CheckpointRow | None) -> Version:
    """A checkpoint as the policy is asked for it."""
    if row is None:
        return Version(number=0)
    return Version(number=row.version, folder=s.folder / row.path, sha256=row.sha256)


def replay(s: Session, weights: Weights) -> CheckpointRow:
    """Repeat updates from the archive and publish the last result again; its checkpoint."""
    steps = [row.step for row in weights.replayed]
    tell(s, steps[-1], f"{weights.damage[0]}; {in_words(weights)}")
    if missing := s.archive.without_tokens(s.run.id, steps):
        raise CheckpointDamaged(
            f"the update of step {missing[0]} cannot be replayed: its tokens were discarded",
            f"eureka resume {s.run.uuid} --fresh-policy",
        )
    s.policy.ensure(version(s, weights.base))
    others = []
    for row in weights.replayed:
        s.notify("stage", step=row.step, stage="replay")
        written = s.replay_folder(row.step) if row is weights.replayed[-1] else None
        report = repeat(s, row.step, written)
        if report.sha256 != row.sha256:
            others.append(row.step)
    if others:
        text = f"the replayed weights of steps {others} are equivalent to the recorded ones, "
        tell(s, others[0], text + "not identical")
    return republish(s, weights, report)


def repeat(s: Session, step: int, folder: Path | None) -> UpdateReport:
    """The update of one step once more, from the resident weights, into its replay folder."""
    report = learn(s, step, folder).report
    assert report is not None  # only steps that trained have a checkpoint row
    return report


def republish(s: Session, weights: Weights, report: UpdateReport) -> CheckpointRow:
    """Put the last replayed files in place of the lost ones and say so in the row."""
    last = weights.replayed[-1]
    made_in = s.replay_folder(last.step)
    path = final_name(made_in.name)
    size = publish(made_in, s.folder / path, report.files, confirm=s.confirm)
    source = "version 0" if weights.base is None else f"step {weights.base.step}"
    made = replace(
        last,
        path=str(path),
        sha256=report.sha256,
        files=dict(report.files),
        size_bytes=size,
        state=CheckpointState.KEPT,
        reason=f"replayed from {source}",
    )
    s.archive.restore_checkpoint(s.hold, made)
    return made


def in_words(weights: Weights) -> str:
    """What replaying will do, for people."""
    count, source = len(weights.replayed), "version 0"
    if weights.base is not None:
        source = f"the weights of step {weights.base.step}"
    plural = "update is" if count == 1 else f"{count} updates are"
    return f"the {plural} replayed from {source}, without sampling or verifying anything"


def tell(s: Session, step: int, text: str) -> None:
    """A note for whoever watches the run."""
    s.notify("note", step=step, metrics={"text": text})
