"""The commands `problem …`: write a problem of your own, check that it is fit for discovery."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from eurekaflow.flows.options import Flag, Json
from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.verifiers.safety import Finding

app = App(name="problem", help="Write and check a problem of your own.")


@app.command
def new(file: Path, /, *, force: Flag = False) -> int:
    """Write a commented problem file to start from: ten points far from each other.

    Parameters
    ----------
    file
        The file to write, such as my_problem.py.
    force
        Overwrite the file when it is there.
    """
    import sys

    from eurekaflow.verifiers import example_problem

    if file.suffix != ".py":
        raise UsageError(f"{file} must end in .py", f"eureka problem new {file}.py")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already", "choose another name, or give --force")
    try:
        source = Path(example_problem.__file__).read_text(encoding="utf-8")
        file.write_text(source, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error}", "choose another file") from None
    print(f"wrote {file}; next: eureka problem check {file}", file=sys.stderr)
    return 0


@app.command
def check(problem: str, /, *, budget: float = 2.0, json: Json = False) -> int:
    """Check that a problem is safe to run and fit for discovery, and say what to fix.

    Exits with 1 when a check fails; warnings do not count.

    Parameters
    ----------
    problem
        The path of a problem file or folder, or the name of a problem.
    budget
        Seconds that the seeds' programs are told they have.
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows.doctor import print_checks
    from eurekaflow.flows.findings import Check

    found = examined(problem, budget=budget)
    if json:
        from eurekaflow.flows.rendering import print_json

        print_json([asdict(finding) for finding in found])
    else:
        print_checks([Check(f.name, f.status, f.message, f.fix) for f in found])
    return 1 if any(finding.status == "fail" for finding in found) else 0


def examined(spec: str, *, budget: float) -> list[Finding]:
    """Everything that is found out about a problem, its cost on this machine last."""
    from eurekaflow.flows.judging import configured, judging, sandboxed
    from eurekaflow.flows.scoring import canonical, find
    from eurekaflow.verifiers.fitness import examine
    from eurekaflow.verifiers.safety import Bench

    problem = find(spec)
    config = configured(canonical(spec))
    with judging(problem) as judge, sandboxed(problem, config) as sandbox:
        bench = Bench(
            spec=canonical(spec), problem=problem, judge=judge, sandbox=sandbox, budget_s=budget
        )
        return [*examine(bench), cost(canonical(spec))]


def cost(spec: str) -> Finding:
    """The CPU time of a run's candidates, as `eureka run` would plan it here."""
    from eurekaflow.flows.configure import resolve
    from eurekaflow.flows.scoring import find
    from eurekaflow.verifiers.safety import Finding

    config = resolve(spec, preset=None, overrides={}, config_file=None).config
    attempts, problem = config.steps * config.groups * config.group_size, find(spec)
    limit = problem.limits(budget_s=config.budget_s).wall_s
    seconds = config.budget_s if problem.told_budget else limit
    used = attempts * seconds / 3600
    message = (
        f"{config.preset}: {config.steps} steps of {config.groups} x {config.group_size} attempts "
        f"of {seconds:g} s are at most {used:.3g} CPU-hours"
    )
    if used < 100:
        return Finding(name="planned grid", status="pass", message=message)
    return Finding(
        name="planned grid",
        status="warn",
        message=message,
        fix="lower it: --steps, --groups, --group-size or --set budget_s=…",
    )
