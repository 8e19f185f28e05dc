"""What durability costs: row writes and checkpoints of one large step, beside the disk's own rate.

    python tests/benchmarks/durability.py [--attempts 512] [--tokens 2000] [--rank 32] [--strict]

A step of 8 groups on a Postgres of its own with fsync on, in the stages' own batches (8 responses
on a CPU, 32 on a GPU) and with the ledger as it is written meanwhile; a checkpoint is as large as
the bundled policy's adapter and optimizer at that LoRA rank. Shares are of a step of `--gpu-step`
seconds, and of a CPU step that samples `--cpu-rate` tokens a second. Each is held against what
durability may cost (`LIMITS`); with `--strict` more than that is an error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from eurekaflow.models import adapter_files, checkpoints, postgres, schema
from eurekaflow.models.archive import Archive, Hold, PlannedGroup, SeedRow, VerdictRow
from eurekaflow.models.policy import Response
from eurekaflow.tasks import metering, sample, verify

GROUPS = 8
PARAMETERS_A_RANK = 549_888  # of LoRA on every linear layer of Qwen2.5-0.5B
STAGES = ("plan", "sample", "verify", "archive", "update", "checkpoint")
FSYNCS = 50
LIMITS = {"row writes": {"GPU": 1.0, "CPU": 1.0}, "checkpoint": {"GPU": 3.0, "CPU": 1.0}}  # %


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--gpu-step", type=float, default=10.0)
    parser.add_argument("--cpu-rate", type=float, default=200.0, help="tokens a second on the CPU")
    parser.add_argument("--strict", action="store_true")
    wanted = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="eurekaflow-bench-"))
    home.chmod(0o755)
    cpu_step = wanted.attempts * wanted.tokens / wanted.cpu_rate
    print(f"load {os.getloadavg()[0]:.1f}; steps: GPU {wanted.gpu_step:g} s, CPU {cpu_step:g} s")
    fsync_s = fsync_seconds(home)
    print(
        f"fsync of 4 KiB: {1e3 * fsync_s:.2f} ms (median of {FSYNCS}), {1 / fsync_s:.0f} a second"
    )
    kept = []
    try:
        with postgres.hold(home):
            url = postgres.ensure(home).url
            schema.bootstrap(url)
            for device, every, step_s in (
                ("CPU", sample.STORE_EVERY, cpu_step),
                ("GPU", sample.STORE_TOGETHER, wanted.gpu_step),
            ):
                seconds, size = row_seconds(url, wanted.attempts, wanted.tokens, every, step_s)
                print(f"responses {every} at a time, a step of {step_s:g} s:")
                kept.append(report("row writes", device, seconds, size, step_s))
        seconds, size = checkpoint_seconds(home, wanted.rank)
        kept.append(report("checkpoint", "CPU", seconds, size, cpu_step))
        kept.append(report("checkpoint", "GPU", seconds, size, wanted.gpu_step))
    finally:
        postgres.stop(home, force=True)
        shutil.rmtree(home, ignore_errors=True)
    if wanted.strict and not all(kept):
        raise SystemExit("durability costs more than it may")


def report(what: str, device: str, seconds: float, size: int, step_s: float) -> bool:
    """Print the share of a step; whether it is within its limit."""
    share, limit = 100 * seconds / step_s, LIMITS[what][device]
    word = "within" if share < limit else "OVER"
    print(
        f"{what}: {seconds:.3f} s, {size / 1e6:.1f} MB, {share:.3f} % of the {device} step "
        f"({word} the limit of {limit:g} %)"
    )
    return share < limit


def fsync_seconds(folder: Path) -> float:
    """The disk's own: what one small synced write takes."""
    times = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(FSYNCS):
            file.write(bytes(4096))
            times.append(seconds_of(lambda: os.fsync(file.fileno())))
    return statistics.median(times)


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def row_seconds(
    url: str, attempts: int, tokens: int, every: int, step_s: float
) -> tuple[float, int]:
    """Seconds in the transactions of one step, and the bytes the database grew by."""
    archive = Archive(url)
    archive.add_problem("bench", "1", direction="max", metric="score", records=[])
    run = archive.add_run(
        problem="bench", config={}, seed=0, versions={}, fingerprint={}, hardware={}
    )
    with archive.hold(run.id, owner="the benchmark") as hold:
        archive.add_seeds(hold, [SeedRow(slot=0, value=0.0, program="seed")])
        before = database_bytes(archive)
        seconds = seconds_of(lambda: write_step(archive, hold, attempts, tokens, every, step_s))
        grown = database_bytes(archive) - before
        # Making the rows to be written is the benchmark's work, not the archive's.
        seconds -= seconds_of(lambda: [response(i, tokens) for i in range(attempts)])
    archive.close()
    return seconds, grown


def database_bytes(archive: Archive) -> int:
    sql = "select pg_database_size(current_database())"
    return int(archive.query(sql, as_reader=False)[1][0][0])


def write_step(
    archive: Archive, hold: Hold, attempts: int, tokens: int, every: int, step_s: float
) -> None:
    size = attempts // GROUPS
    seed = archive.attempts(hold.run_id, -1)[0].id
    archive.plan(hold, 0, [planned(seed, group, size) for group in range(GROUPS)])
    for group in range(GROUPS):
        for first in range(0, size, every):
            slots = range(first, min(first + every, size))
            rows = [response(group * size + slot, tokens, slot=slot) for slot in slots]
            archive.store_responses(hold, 0, group, rows)
    archive.stage_done(hold, 0, "sample", 1.0)
    ids = [row.id for row in archive.attempts(hold.run_id, 0)]
    for first in range(0, attempts, verify.STORE_EVERY):
        batch = ids[first : first + verify.STORE_EVERY]
        archive.store_verdicts(hold, 0, [verdict(attempt_id) for attempt_id in batch])
    archive.stage_done(hold, 0, "verify", 1.0)
    archive.settle(hold, 0, topk_children=2, archive_cap=1000, retention_scope="parent",
                   visit_unit="expansion")  # fmt: skip
    archive.record_update(hold, 0, group_stats=[], metrics={}, seconds=1.0, staging=None)
    archive.commit_step(hold, 0, None)
    # Each stage writes its ledger when it ends, and every few seconds while it works.
    for i in range(len(STAGES) + int(step_s / metering.WRITE_EVERY_S)):
        archive.add_ledger(hold, 0, STAGES[i % len(STAGES)], tokens_out=tokens, cpu_s=1.0)


def planned(parent: int, group: int, size: int) -> PlannedGroup:
    return PlannedGroup(group_index=group, parent_id=parent, prompt=f"prompt {group} " * 200,
                        prompt_ids=tuple(range(1000)), group_size=size)  # fmt: skip


def response(number: int, tokens: int, *, slot: int = 0) -> Response:
    draw = np.random.default_rng(number)
    ids = draw.integers(0, 150_000, tokens).astype(np.int32)
    return Response(
        attempt_index=slot,
        token_ids=ids,
        logprobs=-draw.random(tokens, dtype=np.float32),
        mask=np.ones(tokens, dtype=np.bool_),
        text="".join(map(chr, 97 + ids[: 3 * tokens] % 26)) * 3,
        finish="stop",
    )


def verdict(attempt_id: int) -> VerdictRow:
    draw = np.random.default_rng(attempt_id)
    return VerdictRow(
        attempt_id=attempt_id,
        outcome="valid",
        value=float(draw.random()),
        reward=1.0,
        program=f"# {attempt_id}\n" + "x = x + 1\n" * 200,
        construction=draw.random(600),
        archivable=True,
    )


def checkpoint_seconds(home: Path, rank: int) -> tuple[float, int]:
    """Seconds to stage, sync, check and publish one version of the weights; its bytes."""
    count = 4 * PARAMETERS_A_RANK * rank  # fp32
    contents = {
        adapter_files.ADAPTER: os.urandom(count),
        adapter_files.OPTIMIZER: os.urandom(2 * count),
    }
    staged, target = (
        home / "runs" / "r" / "staging-0",
        home / "runs" / "r" / "checkpoints" / "00001",
    )

    def write() -> None:
        files = adapter_files.stage(staged, contents)
        checkpoints.publish(staged, target, files, confirm=lambda: None)

    return seconds_of(write), 3 * count


if __name__ == "__main__":
    main()
