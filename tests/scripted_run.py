"""A whole run with the scripted policy, as a process of its own that can be made to die.

    python -m tests.scripted_run DATABASE_URL HOME RUN [STAGE:STEP ...]

works on RUN without Prefect, stage after stage as the flow does. For each STAGE:STEP a life before
that ends itself by SIGKILL right after that stage of that step; it is forked, as imports take
seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from eurekaflow.flows.discover import remaining
from eurekaflow.models.archive import Archive, RunRow
from eurekaflow.models.policy import Response, Wave
from eurekaflow.models.scripted import ScriptedPolicy
from eurekaflow.models.settings import RunConfig, preset_values
from eurekaflow.tasks import session
from eurekaflow.tasks.archive import archive
from eurekaflow.tasks.checkpoint import checkpoint
from eurekaflow.tasks.plan import plan
from eurekaflow.tasks.sample import sample
from eurekaflow.tasks.seed import seed
from eurekaflow.tasks.update import update
from eurekaflow.tasks.verify import verify
from eurekaflow.verifiers.lookup import load

STAGES = {
    "plan": plan,
    "sample": sample,
    "verify": verify,
    "archive": archive,
    "update": update,
    "checkpoint": checkpoint,
}
ANSWERS = (
    " h + np.random.normal(0, 0.1, len(h)))\n```",
    " h + np.random.normal(0, 0.02, len(h)))\n```",
    " np.roll(h, 1))\n```",
    " h + nothing)\n```",  # NameError
    " h.append(1))\n```",  # AttributeError
    " h +\n```",  # SyntaxError
)
SIZES = {
    **preset_values("small-cpu"),
    "groups": 2,
    "group_size": 6,
    "wave": 3,
    "steps": 3,
    "minutes": None,
    "lr": 0.1,
    "max_new_tokens": 200,
    "window": 4096,
    "keep_checkpoints": 2,
}


class Poisoned(ScriptedPolicy):
    """Cannot sample the prompt of the first group of a run; anything shorter it can."""

    def sample(self, wave: Wave) -> Iterator[Response]:
        if (wave.step, wave.group_index) == (0, 0) and len(wave.prompt_ids) > 8:
            raise ValueError("no such prompt")
        return super().sample(wave)


def add_run(url: str, **settings: object) -> RunRow:
    """A new run of the Erdős problem at test sizes."""
    config = RunConfig.model_validate({**SIZES, "problem": "erdos", **settings})
    problem = load(config.problem)
    archive = Archive(url)
    try:
        archive.add_problem(
            problem.name,
            problem.version,
            direction=problem.direction,
            metric=problem.metric,
            records=[],
        )
        return archive.add_run(
            problem=problem.name,
            config=config.model_dump(mode="json"),
            seed=config.seed,
            versions={},
            fingerprint={},
            hardware={},
        )
    finally:
        archive.close()


def place(url: str, home: Path) -> session.Place:
    """Where the run lives, with the scripted policy."""
    return session.Place(
        home=home,
        database_url=url,
        make_policy=lambda config, _: ScriptedPolicy(ANSWERS, seed=config.seed),
        patience_s=1.0,
    )


def work(run_id: str, *, die_after: tuple[str, int] | None = None) -> None:
    """The flow's body without Prefect."""
    seed.fn(run_id)
    for step in remaining(run_id):
        for name, stage in STAGES.items():
            stage.fn(run_id, step)
            if die_after == (name, step):
                os.kill(os.getpid(), signal.SIGKILL)


def killed(run_id: str, stage: str, step: int) -> bool:
    """Work in a process of its own until it ends itself; whether it did."""
    life = os.fork()
    if life == 0:
        try:
            work(run_id, die_after=(stage, step))
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(life, 0)[1]) == -signal.SIGKILL


if __name__ == "__main__":
    url, home, run_id, *ends = sys.argv[1:]
    session.configure(place(url, Path(home)))
    for stage, _, step in (end.partition(":") for end in ends):
        assert killed(run_id, stage, int(step)), stage
    work(run_id)
    session.close(run_id, "finished")
