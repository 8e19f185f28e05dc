"""Writing what was learned: the update, the committed checkpoint and claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from eurekaflow.models import database
from eurekaflow.models.errors import UsageError
from eurekaflow.models.registry import jsonb
from eurekaflow.models.rows import AttemptTokens, CheckpointRow, GroupBatch, GroupStats
from eurekaflow.models.states import Stage, reached
from eurekaflow.models.text import escape
from eurekaflow.models.tree import Tree

_BATCH = """
    select a.group_index, a.id, a.attempt_index, t.ids, t.logprobs, t.mask, a.reward
    from archive.attempts a join archive.tokens t on t.attempt_id = a.id
    where a.run_id = %s and a.step = %s and a.reward is not null
    order by a.group_index, a.attempt_index"""
_PROMPTS = """
    select group_index, prompt_ids from archive.groups where run_id = :run and step = :step
    order by group_index"""
_STAGE = "select stage from archive.steps where run_id = :run and step = :step"
_GROUP_STATS = """
    update archive.groups set beta = :beta, kl = :kl, trained = :trained,
        constant = coalesce(cast(:constant as boolean), constant),
        advantage_min = :advantage_min, advantage_mean = :advantage_mean,
        advantage_max = :advantage_max
    where run_id = :run and step = :step and group_index = :group_index"""
_UPDATED = """
    update archive.steps set stage = 'updated', metrics = metrics || :metrics,
        staging = :staging, seconds = seconds || jsonb_build_object('update', cast(:s as float8))
    where run_id = :run and step = :step"""
_CHECKPOINT = """
    insert into archive.checkpoints
        (run_id, step, version, path, sha256, size_bytes, files, optimizer_sha256, state, reason)
    values (:run, :step, :version, :path, :sha256, :size_bytes, :files, :optimizer_sha256, :state,
        :reason)
    on conflict (run_id, step) do nothing"""
_COMMIT = """
    update archive.steps s set stage = 'committed', committed_at = now(),
        version_produced = r.version
    from archive.runs r where r.id = s.run_id and s.run_id = :run and s.step = :step"""
_RESTORE = """
    update archive.checkpoints set path = :path, sha256 = :sha256, size_bytes = :size_bytes,
        files = :files, optimizer_sha256 = :optimizer_sha256, state = 'kept', reason = :reason,
        changed_at = now()
    where run_id = :run and step = :step and version = :version"""
_HAS_WEIGHTS = "update archive.runs set discarded_at = null where id = :run"
_VERSION = "update archive.runs set version = coalesce(:version, version) where id = :run"
_PRUNE = """
    update archive.checkpoints set state = 'pruned', reason = :reason, changed_at = now()
    where run_id = :run and step = :step and state = 'kept'"""
_CLAIM = """
    insert into archive.claims
        (attempt_id, verifier_version, mode, hardware, value, message, exact)
    select a.id, :version, :mode, :hardware, :value, :message, :exact
    from archive.attempts a join archive.runs r on r.id = a.run_id
    join archive.problems p on p.id = r.problem_id
    where a.id = :attempt and p.trust <> 'foreign' returning id"""


class Updates(Tree):
    """The second half of a step."""

    @database.repeated
    def training_batch(self, run_id: int, step: int) -> list[GroupBatch]:
        """Groups in order, each with its scored attempts, their tokens and rewards."""
        with self._read() as connection:
            prompts = database.rows(connection, _PROMPTS, run=run_id, step=step)
            scored = database.binary_rows(connection, _BATCH, (run_id, step))
        members: dict[int, list[AttemptTokens]] = {row.group_index: [] for row in prompts}
        for group, *fields in scored:
            names = ("attempt_id", "attempt_index", "token_ids", "logprobs", "mask", "reward")
            members[group].append(AttemptTokens(**dict(zip(names, fields, strict=True))))
        return [
            GroupBatch(
                group_index=row.group_index,
                prompt_ids=tuple(row.prompt_ids),
                attempts=tuple(members[row.group_index]),
            )
            for row in prompts
        ]

    @database.repeated
    def record_update(
        self,
        hold: database.Fence,
        step: int,
        *,
        group_stats: Sequence[GroupStats],
        metrics: Mapping[str, Any],
        seconds: float,
        staging: Mapping[str, Any] | None,
    ) -> None:
        """Record an update and its staged files; a repeated one replaces it until committed."""
        with self._write(hold, "record_update") as connection:
            stage = _stage(connection, hold.run_id, step)
            if stage == Stage.COMMITTED:
                return
            _require_archived(stage, step)
            key = {"run": hold.run_id, "step": step}
            database.many(connection, _GROUP_STATS, [{**key, **asdict(g)} for g in group_stats])
            staged = None if staging is None else jsonb(staging)
            values = {"metrics": jsonb(metrics), "staging": staged, "s": float(seconds)}
            database.run(connection, _UPDATED, **key, **values)

    @database.repeated
    def commit_step(
        self, hold: database.Fence, step: int, checkpoint: CheckpointRow | None = None
    ) -> None:
        """Commit the step and name its weights, together. None: the weights did not change."""
        with self._write(hold, "commit_step") as connection:
            stage = _stage(connection, hold.run_id, step)
            if stage == Stage.COMMITTED:
                return
            _require_archived(stage, step)
            key = {"run": hold.run_id, "step": step}
            if checkpoint is not None:
                values = {**asdict(checkpoint), **key, "files": jsonb(checkpoint.files)}
                database.run(connection, _CHECKPOINT, **values)
            version = None if checkpoint is None else checkpoint.version
            database.run(connection, _VERSION, run=hold.run_id, version=version)
            database.run(connection, _COMMIT, **key)

    @database.repeated
    def checkpoints(self, run_id: int) -> list[CheckpointRow]:
        """All checkpoints of a run, pruned ones too, oldest first."""
        sql = "select * from archive.checkpoints where run_id = :run order by step"
        fields = CheckpointRow.__dataclass_fields__
        with self._read() as connection:
            found = database.rows(connection, sql, run=run_id)
        return [CheckpointRow(**{name: getattr(row, name) for name in fields}) for row in found]

    @database.repeated
    def restore_checkpoint(self, hold: database.Fence, checkpoint: CheckpointRow) -> None:
        """Name the files of a committed version again, after they were lost and made anew."""
        values = {**asdict(checkpoint), "run": hold.run_id, "files": jsonb(checkpoint.files)}
        with self._write(hold, "restore_checkpoint") as connection:
            if database.run(connection, _RESTORE, **values) == 0:
                raise UsageError(
                    f"step {checkpoint.step} never committed version {checkpoint.version}"
                )
            database.run(connection, _HAS_WEIGHTS, run=hold.run_id)

    @database.repeated
    def mark_pruned(self, hold: database.Fence, reasons: Mapping[int, str]) -> int:
        """Mark checkpoints (by step, with the reason) whose files go; how many were kept."""
        with self._write(hold, "mark_pruned") as connection:
            return sum(
                database.run(connection, _PRUNE, run=hold.run_id, step=step, reason=escape(why))
                for step, why in reasons.items()
            )

    def add_claim(
        self,
        attempt_id: int,
        *,
        verifier_version: str,
        mode: str,
        value: float,
        hardware: Mapping[str, Any],
        message: str = "",
        exact: str = "",
    ) -> int:
        """Record a re-measurement of an attempt; its id. Each measurement is a row of its own.

        Raises UsageError for an attempt that a foreign evaluator scored.
        """
        with self._read() as connection:
            row = database.first(
                connection,
                _CLAIM,
                attempt=attempt_id,
                version=verifier_version,
                mode=mode,
                hardware=jsonb(hardware),
                value=value,
                message=escape(message),
                exact=exact or None,
            )
        if row is None:
            raise UsageError(
                f"attempt {attempt_id} is not there, or was scored by a foreign evaluator, on "
                "whose word nothing can be claimed",
                "write a verifier of your own: eureka problem new FILE",
            )
        return int(row.id)


def _stage(connection: Connection, run_id: int, step: int) -> str | None:
    row = database.first(connection, _STAGE, run=run_id, step=step)
    return None if row is None else str(row.stage)


def _require_archived(stage: str | None, step: int) -> None:
    if stage is None or not reached(stage, Stage.ARCHIVED):
        raise UsageError(f"step {step} is {stage or 'not planned'}: settle it first")
