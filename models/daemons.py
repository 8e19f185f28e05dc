"""Detached processes: start one that outlives its starter, recognise it, end it."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# The child ignores nothing and owns nothing of ours: a fresh session, no terminal, a plain
# environment. The shell exits at once, so the server's parent is init and never a zombie's heir.
_DETACH = '"$@" >&2 & echo $!'
_LOG_LIMIT = 4 * 2**20  # bytes after which a log is set aside at the next start


class Account(NamedTuple):
    """The system user that a server runs as when we are root."""

    name: str
    uid: int
    gid: int


def as_account(account: Account | None) -> dict[str, Any]:
    """The `subprocess` arguments that run a command as `account` (as ourselves when None)."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def service_account() -> Account | None:
    """The user for a server started by root (`postgres`, else `nobody`); None unless root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return account_named(name)
    return None


def account_named(name: str) -> Account:
    """The account called `name`. Raises KeyError when there is none."""
    entry = pwd.getpwnam(name)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def plain_environment() -> dict[str, str]:
    """What a server gets instead of our environment: no secrets, no settings by accident."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC"}


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path,
    lock_descriptor: int,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
) -> int:
    """Start `argv` detached, output to `log`, with the lock inherited; its process id.

    Raises OSError when the log cannot be written or the account cannot be taken.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".1.log"))
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "ab") as stream:
        started = subprocess.run(
            ["/bin/sh", "-c", _DETACH, "sh", *map(str, argv)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            pass_fds=(lock_descriptor,),
            start_new_session=True,
            cwd=cwd,
            env=dict(plain_environment() if environment is None else environment),
            check=True,
            **as_account(account),
        )
    return int(started.stdout)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie; one that is hidden from us exists."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return process_state(pid) not in {"Z", "X"}
    return process_state(pid) not in {"", "Z", "X"}


def process_state(pid: int) -> str:
    """The one-letter state of a process as in `ps`, empty when there is none."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return ""
        # The name in brackets may itself hold brackets and spaces.
        return stat.rpartition(")")[2].split()[0]
    return _ps(pid, "stat")[:1]


def command_line(pid: int) -> str:
    """The arguments of a process joined by spaces, empty when it is gone or hidden."""
    if Path("/proc/self/stat").exists():
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return raw.replace(b"\0", b" ").decode(errors="replace").strip()
    return _ps(pid, "args")


def working_folder(pid: int) -> Path | None:
    """The folder a process works in; None when it is gone or may not be looked at."""
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:
        return None


def _ps(pid: int, column: str) -> str:
    command = ["/bin/ps", "-o", f"{column}=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def end(
    pid: int, signals: Sequence[tuple[signal.Signals, float]], gone: Callable[[], bool]
) -> bool:
    """Send each signal in turn, waiting its seconds for `gone()`; whether it went."""
    for number, patience_s in signals:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if gone():
                return True
            time.sleep(0.05)
    return gone()


def tail(log: Path, *, start: int = 0, limit: int = 2000) -> str:
    """The end of a log written after byte `start`: at most `limit` characters."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            begin = start if start <= size else 0  # the log was set aside and begun anew
            stream.seek(max(begin, size - 4 * limit))
            return stream.read().decode(errors="replace").strip()[-limit:]
    except OSError:
        return ""
