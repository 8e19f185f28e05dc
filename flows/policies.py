"""What becomes of a run's policy: `export` saves it as a PEFT folder, `discard-policy` frees it.

The policy is a means to an end. It is given up only once the best answer lies in files and was
verified again; every attempt stays.
"""

from __future__ import annotations

import contextlib
import json as json_format
import math
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurekaflow.flows.options import Flag, Json
from eurekaflow.models.errors import EurekaError, UsageError

if TYPE_CHECKING:
    from eurekaflow.models.rows import AttemptRow
    from eurekaflow.tasks.session import Session

CLOSE = 1e-6  # relative; by how much a construction's value may differ when verified again


def export_adapter(run: str, folder: Path) -> Path:
    """Write the newest weights of `run` into `folder` as PEFT reads them; returns the folder.

    Damaged weights are replayed first. Raises UsageError when there are none, or the folder is
    not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder", "name a new one")
    with opened(run) as s:
        from eurekaflow.models.adapter_files import ADAPTER, CONFIG
        from eurekaflow.tasks.restore import find, make_resident

        step = s.archive.progress(s.run.id).step
        if find(s, step).replayed:
            make_resident(s, step)
        newest = find(s, step).base
        if newest is None:
            raise UsageError(
                f"run {s.run.uuid} has trained nothing yet", "eureka show lists steps"
            )
        source = s.folder / newest.path
        if not (source / CONFIG).is_file():
            raise UsageError(f"{source} holds no LoRA adapter", "export a run of a local model")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / ADAPTER, folder / ADAPTER)
        config = json_format.loads((source / CONFIG).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base_model(s)
        (folder / CONFIG).write_text(json_format.dumps(config, indent=2), encoding="utf-8")
    return folder


def base_model(s: Session) -> str:
    """The folder of the model that the adapter belongs to, or its name where it is not here."""
    from eurekaflow.models.weights import resolve_model

    with contextlib.suppress(EurekaError):
        return str(resolve_model(s.config.model, s.place.home / "models", offline=True))
    return s.config.model


def discard_policy(
    ref: str, /, *, out: Path | None = None, tokens: Flag = False, json: Json = False
) -> int:
    """Free all weights of a run, its best answer saved and verified again.

    Parameters
    ----------
    ref
        The run's id or the beginning of it.
    out
        Folder for the best answer; `answer` in the run's folder by default.
    tokens
        Free the token ids and log-probs too, from which the weights could be replayed.
    json
        Print what was done as JSON on stdout.
    """
    done = discard(ref, out=out, tokens=tokens)
    if json:
        from eurekaflow.flows.rendering import print_json

        print_json(vars(done))
    else:
        print(discarded_text(done), file=sys.stderr)
    return 0


@dataclass(frozen=True, kw_only=True)
class Discarded:
    """What `discard-policy` did."""

    run: str
    files: list[str]  # the best answer
    score: float | None  # as it was verified again; None: the run had no valid attempt
    checkpoints: int
    bytes_freed: int
    token_rows: int
    updates: int  # that a resume would have to replay
    tokenless: int | None  # the first step that cannot be: its tokens are gone


def discard(run: str, *, out: Path | None = None, tokens: bool = False) -> Discarded:
    """Save and verify the best answer of `run`, then free its weights, and its tokens if asked.

    Raises EurekaError, with nothing freed, when the answer does not verify as stored; RunOwned.
    """
    from eurekaflow.tasks.restore import line_to

    with opened(run) as s:
        hold = s.hold
        best = s.archive.best(s.run.id)
        files = [] if best is None else saved(s, best, out or s.folder / "answer")
        score = None if best is None else verified_again(s, best, files)
        line = [row.step for row in line_to(s, s.archive.progress(s.run.id).step)]
        why = "the policy was discarded"
        gone, dropped = s.archive.discard_weights(hold, why, tokens=tokens)
        lost = s.archive.without_tokens(s.run.id, line)
        freed = 0
        for folder in (*s.folder.glob("checkpoints/*"), *s.folder.glob("staging-*")):
            freed += sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            s.confirm()
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            (s.folder / "checkpoints").rmdir()
        return Discarded(
            run=str(s.run.uuid),
            files=[str(f) for f in files],
            score=score,
            checkpoints=gone,
            bytes_freed=freed,
            token_rows=dropped,
            updates=len(line),
            tokenless=min(lost, default=None),
        )


def saved(s: Session, best: AttemptRow, folder: Path) -> list[Path]:
    """The program and the construction of an attempt as files."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = {"python": "py", "cpp": "cpp", "json": "json"}.get(s.problem.answer, "txt")
    contents = {f"best.{suffix}": s.archive.program(best.id)}
    construction = s.archive.construction(best.id)
    if construction is not None:
        contents["construction.json"] = json_format.dumps(construction.tolist())
    files = []
    for name, content in contents.items():
        if content:
            (folder / name).write_text(content + "\n", encoding="utf-8")
            files.append(folder / name)
    return files


def verified_again(s: Session, best: AttemptRow, files: list[Path]) -> float:
    """The score of the saved answer, judged anew; recorded as a claim. Raises EurekaError."""
    from eurekaflow.flows.launch import hardware
    from eurekaflow.flows.scoring import judged, read

    # The construction where it is the answer: it is exact, a program may not be.
    file = files[-1] if s.problem.same_by == "construction" else files[0]
    exact = file.name == "construction.json"
    mode = s.problem.claim_mode
    verdict = judged(
        s.problem,
        s.config.problem,
        file,
        read(file),
        mode=mode,
        budget=s.config.budget_s,
        seed=s.config.seed,
    )
    stored = best.value
    close = math.isclose(verdict.value or math.nan, stored or math.nan, rel_tol=CLOSE)
    if verdict.value is None or (exact and not close):
        raise EurekaError(
            f"{file} does not verify as stored (value {stored}): {verdict.outcome}, "
            f"value {verdict.value}; nothing was freed",
            f"eureka verify {s.config.problem} {file}",
        )
    s.archive.add_claim(
        best.id,
        verifier_version=s.problem.version,
        mode=mode,
        value=verdict.value,
        hardware=hardware(),
        message="before the policy was discarded",
    )
    return s.problem.score(verdict.value)


def discarded_text(done: Discarded) -> str:
    """What was done and what can no longer be resumed, for people."""
    from eurekaflow.flows.rendering import size

    short = done.run[:8]
    answer = "the run had no valid attempt to save"
    if done.score is not None:
        answer = f"best answer verified again, score {done.score:.9g}: {', '.join(done.files)}"
    lines = [
        answer,
        f"freed {done.checkpoints} checkpoints, {size(done.bytes_freed)}; every attempt is kept",
    ]
    if done.token_rows:
        lines.append(f"freed the tokens of {done.token_rows} attempts")
    if done.tokenless is not None:
        lines.append(
            f"the tokens of step {done.tokenless} are gone: run {short} and forks of it can no "
            f"longer be resumed with their policy, only with --fresh-policy"
        )
    else:
        lines.append(
            f"to resume run {short} or to fork it, {done.updates} updates are replayed from "
            "stored tokens first"
        )
    return "\n".join(lines)


@contextlib.contextmanager
def opened(run: str) -> Iterator[Session]:
    """A run's session on the user's archive; the run keeps its state."""
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import existing_archive

    here = surroundings()
    with existing_archive(here) as url:
        from eurekaflow.models.archive import Archive
        from eurekaflow.tasks import session

        archive = Archive(url)
        try:
            found: Any = archive.run(run)
        finally:
            archive.close()
        session.configure(session.Place(home=here.home, database_url=url, listener=told))
        s = session.of(str(found.uuid))
        try:
            yield s
        finally:
            if "hold" in vars(s):
                s.archive.put_back(s.hold, found)
            session.close(str(found.uuid), found.state)


def told(event: Any) -> None:
    """Notes of a run on stderr."""
    if event.kind == "note":
        print(f"note: {event.metrics['text']}", file=sys.stderr)
