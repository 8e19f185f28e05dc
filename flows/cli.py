"""The `eureka` command: its list of commands, and how every failure becomes an exit code.

Commands are named by module path and imported only when called, so `eureka --help` starts fast.
Exit codes: 0 done, 1 failed, 2 usage, 3 prerequisite missing, 4 budget ended without a valid
attempt, 5 run owned by another process, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from cyclopts import App, CycloptsError, Group

from eurekaflow.flows.configure import debugging
from eurekaflow.models.errors import FREE_SPACE, EurekaError
from eurekaflow.models.masking import mask

DISCOVER = Group("Discover", sort_key=1)
LOOK = Group("Look", sort_key=2)
HOUSEKEEPING = Group("Housekeeping", sort_key=3)

COMMANDS = (
    (DISCOVER, "run", "running:run", "Discover: train on one problem until the budget ends."),
    (DISCOVER, "resume", "continuing:resume", "Continue a run where the archive says it stopped."),
    (
        DISCOVER,
        "fork",
        "continuing:fork",
        "Branch a new run from a committed step of another, and continue it.",
    ),
    (DISCOVER, "verify", "scoring:verify", "Score a program or a construction by hand."),
    (DISCOVER, "problems", "problem_list:problems", "List the problems and their records."),
    (DISCOVER, "problem", "own_problem:app", "Write and check a problem of your own."),
    (DISCOVER, "nightly", "night_commands:app", "Discover every night, unattended."),
    (LOOK, "runs", "reading:runs", "List the runs, newest first."),
    (LOOK, "show", "reading:show", "Show one run, step by step."),
    (LOOK, "best", "reading:best", "Show a run's best attempt, or write its program."),
    (LOOK, "tree", "reading:tree", "Show the nodes the search may build on, best first."),
    (LOOK, "report", "report:report", "Write a run's report as a page and as markdown."),
    (LOOK, "sql", "querying:sql", "Ask the archive in SQL, read-only."),
    (LOOK, "export", "export:export", "Write a run to files: parquet, CSV, JSON lines or SQLite."),
    (
        HOUSEKEEPING,
        "discard-policy",
        "policies:discard_policy",
        "Free all weights of a run, its best answer saved and verified again.",
    ),
    (HOUSEKEEPING, "doctor", "doctor:doctor", "Check what a run needs, with the fixing commands."),
    (HOUSEKEEPING, "db", "database:app", "The archive's database."),
)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: unwinds like Ctrl-C, so state is saved, and exits with 143."""


def version() -> str:
    """The installed version."""
    from importlib.metadata import version as installed

    return installed("eurekaflow")


def build() -> App:
    """The command line, nothing imported yet."""
    app = App(
        name="eureka",
        help="Learn to discover at test time: every attempt in Postgres, every run resumable.",
        version=version,
        group_commands=HOUSEKEEPING,
        suppress_keyboard_interrupt=False,
        help_format="plaintext",  # markdown would cost a fifth of the start
    )
    for order, (group, name, target, text) in enumerate(COMMANDS):
        path = f"eurekaflow.flows.{target}"
        app.command(path, name=name, help=text, group=group, sort_key=order)
    app.register_install_completion_command(
        name="--install-completion",
        help="Install completion for your shell (bash, zsh, fish).",
        group=HOUSEKEEPING,
    )
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code and never shows a traceback unasked."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        signal.signal(signal.SIGTERM, _terminate)
        code = build()(
            tokens, exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # the reader (`| head`) left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (Exception, KeyboardInterrupt) as error:
        # A Ctrl-C inside an exec() (dataclasses are made by one, while modules are imported) stays
        # marked as unhandled in CPython, which then ends by the signal; a clean exec resets it.
        exec("pass")
        return report(error)


def report(error: BaseException) -> int:
    """Print what happened and the fix on stderr; the exit code that goes with it."""
    if debugging():
        import traceback

        print(mask("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    code, message, fix = ending(error)
    message = mask(message)
    print(f"eureka: {message}", file=sys.stderr)
    if fix:
        print(f"  fix: {fix}", file=sys.stderr)
    return code


# Errors of parts that do not know exit codes: class -> (code, fix).
FOREIGN = {
    "UnknownProblem": (2, "eureka problems"),
    "ProblemUnusable": (2, "correct the problem file"),
    "SandboxUnavailable": (3, "eureka doctor"),
    "JudgeUnavailable": (3, "eureka doctor"),
    "DiskFull": (3, FREE_SPACE),
    "OperationalError": (3, "eureka doctor"),
}
POSTGRES = {"DiskFull", "OperationalError"}  # libpq's reasons take several lines


def ending(error: BaseException) -> tuple[int, str, str]:
    """(exit code, message, fix) of an exception that reached the top."""
    if isinstance(error, EurekaError):
        return error.exit_code, error.message, error.fix
    if isinstance(error, Terminated):
        return 143, "terminated; what was committed is kept", "eureka resume"
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted; what was committed is kept", "eureka resume"
    if isinstance(error, CycloptsError):
        return 2, _one_line(error), "eureka --help, or eureka COMMAND --help"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 3, f"the disk is full: {error}", FREE_SPACE
    if type(error).__name__ == "PrerequisiteAbsent":
        return 3, str(error), str(getattr(error, "fix", ""))
    for kind in type(error).__mro__:
        if kind.__name__ in FOREIGN:
            code, fix = FOREIGN[kind.__name__]
            fix = str(getattr(error, "fix", "")) or fix
            return code, _one_line(error) if kind.__name__ in POSTGRES else str(error), fix
    name = type(error).__name__
    return 1, f"{name}: {error}", "run it again with EUREKA_DEBUG=1 for the traceback"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
