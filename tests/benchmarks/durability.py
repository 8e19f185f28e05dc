"""What durability costs: row writes and checkpoints of one large step, beside the disk's own rate.

    python tests/benchmarks/durability.py [--attempts 512] [--tokens 2000] [--rank 32] [--strict]

A step of 8 groups on a Postgres of its own with fsync on, in the stages' own batches (8 responses
on a CPU, 32 on a GPU) and with the ledger as it is written meanwhile; a checkpoint is as large as
the bundled policy's adapter and optimizer at that LoRA rank. Shares are of a step of `--gpu-step`
seconds, and of a CPU step that samples `--cpu-rate` tokens a second.

On a GPU rows are written beside the device's work, by the stages' own outbox. There the writes are
made once as fast as they go (`busy`), and once with responses and verdicts arriving in any order
over the seconds that sampling and verification take (`PACE`): by what the step then takes longer,
durability costs it. Planning and settling are the search itself, and shown apart. A GPU's
checkpoint is written every `checkpoint_every` steps of its preset and only hashed between; the
figure is the mean of these steps. Each is held against what durability may cost (`LIMITS`); with
`--strict` more than that is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from eurekaflow.models import adapter_files, checkpoints, postgres, schema
from eurekaflow.models.archive import Archive, Hold, PlannedGroup, SeedRow, VerdictRow
from eurekaflow.models.policy import Response
from eurekaflow.models.settings import PRESETS
from eurekaflow.tasks import metering, sample, verify
from eurekaflow.tasks.outbox import Outbox

GROUPS = 8
PARAMETERS_A_RANK = 549_888  # of LoRA on every linear layer of Qwen2.5-0.5B
STAGES = ("plan", "sample", "verify", "archive", "update", "checkpoint")
FSYNCS = 50
PACE = {"sample": 0.5, "verify": 0.2}  # shares of a GPU step; an update writes nothing meanwhile
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
            sizes = (wanted.attempts, wanted.tokens)
            seconds, grown = row_seconds(url, *sizes, sample.STORE_EVERY, cpu_step)
            kept.append(report("row writes", "CPU", seconds, grown, cpu_step))
            busy, grown = row_seconds(url, *sizes, sample.STORE_TOGETHER, wanted.gpu_step)
            print(f"row writes of a GPU step: {busy:.3f} s busy, by the clock beside it:")
            seconds, grown = row_seconds(
                url, *sizes, sample.STORE_TOGETHER, wanted.gpu_step, paced=True
            )
            kept.append(report("row writes", "GPU", seconds, grown, wanted.gpu_step))
        saved, hashed, size = checkpoint_seconds(home, wanted.rank)
        kept.append(report("checkpoint", "CPU", saved, size, cpu_step))
        every = PRESETS["small-gpu"]["checkpoint_every"]
        print(f"checkpoint of a GPU: every {every} steps {saved:.3f} s, between {hashed:.3f} s")
        mean = (saved + (every - 1) * hashed) / every
        kept.append(report("checkpoint", "GPU", mean, size, wanted.gpu_step))
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
    url: str, attempts: int, tokens: int, every: int, step_s: float, *, paced: bool = False
) -> tuple[float, int]:
    """Seconds that the rows of one step cost, and the bytes the database grew by.

    Those in the transactions; `paced`, those by which the step is longer for them.
    """
    archive = Archive(url)
    archive.add_problem("bench", "1", direction="max", metric="score", records=[])
    run = archive.add_run(
        problem="bench", config={}, seed=0, versions={}, fingerprint={}, hardware={}
    )
    with archive.hold(run.id, owner="the benchmark") as hold:
        archive.add_seeds(hold, [SeedRow(slot=0, value=0.0, program="seed")])
        before = database_bytes(archive)
        rows = [response(i, tokens, slot=i // GROUPS) for i in range(attempts)]
        pace_s = {name: share * step_s * paced for name, share in PACE.items()}
        plan_s = seconds_of(lambda: plan(archive, hold, attempts))
        ids = [row.id for row in archive.attempts(hold.run_id, 0)]
        seconds = seconds_of(lambda: answer(archive, hold, rows, ids, every, pace_s))
        seconds -= sum(pace_s.values())
        settle_s = seconds_of(lambda: settle(archive, hold))
        seconds += seconds_of(lambda: commit(archive, hold, step_s))
        print(f"a step planned in {plan_s:.3f} s and settled in {settle_s:.3f} s")
        grown = database_bytes(archive) - before
    archive.close()
    return seconds, grown


def database_bytes(archive: Archive) -> int:
    sql = "select pg_database_size(current_database())"
    return int(archive.query(sql, as_reader=False)[1][0][0])


def plan(archive: Archive, hold: Hold, attempts: int) -> None:
    seed = archive.attempts(hold.run_id, -1)[0].id
    archive.plan(hold, 0, [planned(seed, group, attempts // GROUPS) for group in range(GROUPS)])


def answer(
    archive: Archive,
    hold: Hold,
    rows: Sequence[Response],
    ids: Sequence[int],
    every: int,
    pace_s: Mapping[str, float],
) -> None:
    """Store responses and verdicts as the stages do."""

    def store(answers: Mapping[int, list[Response]]) -> None:
        archive.store_groups(hold, 0, answers)

    order = np.random.default_rng(0).permutation(len(rows))
    with Outbox(store, every=every, aside=pace_s["sample"] > 0) as outbox:
        for i in arriving(len(rows), pace_s["sample"]):
            outbox.add(int(order[i]) % GROUPS, rows[order[i]])
    archive.stage_done(hold, 0, "sample", 1.0)
    batch = []
    for i in arriving(len(rows), pace_s["verify"]):
        batch.append(verdict(ids[i]))
        if len(batch) == verify.STORE_EVERY:
            archive.store_verdicts(hold, 0, batch)
            batch = []
    archive.store_verdicts(hold, 0, batch)
    archive.stage_done(hold, 0, "verify", 1.0)


def settle(archive: Archive, hold: Hold) -> None:
    archive.settle(hold, 0, topk_children=2, archive_cap=1000, retention_scope="parent",
                   visit_unit="expansion")  # fmt: skip


def commit(archive: Archive, hold: Hold, step_s: float) -> None:
    """The step's last rows, and its ledger: written by each stage at its end and meanwhile."""
    archive.record_update(hold, 0, group_stats=[], metrics={}, seconds=1.0, staging=None)
    archive.commit_step(hold, 0, None)
    for i in range(len(STAGES) + int(step_s / metering.WRITE_EVERY_S)):
        archive.add_ledger(hold, 0, STAGES[i % len(STAGES)], tokens_out=1, cpu_s=1.0)


def arriving(count: int, seconds: float) -> Iterator[int]:
    """0 to count - 1, spread evenly over so many seconds whatever is done with each."""
    began = time.perf_counter()
    for i in range(count):
        time.sleep(max(0.0, began + seconds * (i + 1) / count - time.perf_counter()))
        yield i


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


def checkpoint_seconds(home: Path, rank: int) -> tuple[float, float, int]:
    """Seconds to stage, sync and publish one version of the weights; to hash it; its bytes."""
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
        checkpoints.publish(staged, target, files, confirm=lambda: None, fresh=True)

    saved = seconds_of(write)
    hashed = seconds_of(lambda: hashlib.sha256(contents[adapter_files.ADAPTER]).hexdigest())
    return saved, hashed, 3 * count


if __name__ == "__main__":
    main()
