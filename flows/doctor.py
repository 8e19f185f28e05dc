"""The command `doctor`: pass, warn or fail for everything a run needs, with the fixing command.

Nothing is started, downloaded or changed. A check that itself breaks is a failed check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from eurekaflow.flows.findings import Check
from eurekaflow.flows.options import Json
from eurekaflow.models.masking import mask

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Surroundings

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}


def doctor(*, json: Json = False) -> int:
    """Check what a run needs, with the fixing commands.

    Exits with 3 when a check fails; warnings do not count.

    Parameters
    ----------
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.machine_checks import MACHINE
    from eurekaflow.flows.service_checks import SERVICES

    found = diagnose((*MACHINE, *SERVICES), surroundings())
    if json:
        from eurekaflow.flows.rendering import print_json

        print_json([asdict(check) for check in found])
    else:
        print_checks(found)
    return 3 if any(check.status == "fail" for check in found) else 0


def diagnose(checks: Iterable[Callable[[Surroundings], Check]], here: Surroundings) -> list[Check]:
    """Run every check; one that raises is a failed check with the error's own fix."""
    return [_safely(check, here) for check in checks]


def _safely(check: Callable[[Surroundings], Check], here: Surroundings) -> Check:
    try:
        found = check(here)
        return Check(found.name, found.status, mask(found.message), mask(found.fix))
    except Exception as error:
        name = check.__name__.replace("_", " ")
        message = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
        return Check(name, "fail", mask(message), getattr(error, "fix", ""))


def print_checks(checks: list[Check]) -> None:
    """The checks for people: a line each, the fix under those that need one."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    width = max(len(check.name) for check in checks)
    for check in checks:
        colour = _COLOURS[check.status]
        console.print(
            f"[{colour}]{check.status}[/]  {check.name:<{width}}  {escape(check.message)}"
        )
        if check.fix and check.status != "pass":
            console.print(f"      {'':<{width}}  fix: {escape(check.fix)}")
    failed = sum(check.status == "fail" for check in checks)
    warned = sum(check.status == "warn" for check in checks)
    console.print(f"{len(checks)} checks, {failed} failed, {warned} warnings")
