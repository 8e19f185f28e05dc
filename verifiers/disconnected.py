"""Replaces itself by a program that has no network: `python -m … PROGRAM ARGUMENTS`.

A network namespace of its own, in which nothing is connected, not even loopback. A program of its
own rather than code between fork and exec, because the caller may have threads.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from eurekaflow.verifiers import syscalls as sc

REFUSED = 125  # exit status when the kernel gives no namespace, as for env(1) and its like


def main() -> None:
    """Never returns."""
    try:
        _disconnect()
    except OSError as refusal:
        print(f"the network cannot be taken away here: {refusal}", file=sys.stderr)
        sys.exit(REFUSED)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        sys.exit(REFUSED)


def _disconnect() -> None:
    if os.geteuid() == 0:
        sc.unshare(sc.CLONE_NEWNET)
        return
    uid, gid = os.geteuid(), os.getegid()
    sc.unshare(sc.CLONE_NEWUSER | sc.CLONE_NEWNET)
    maps = {"setgroups": "deny", "uid_map": f"{uid} {uid} 1", "gid_map": f"{gid} {gid} 1"}
    for name, line in maps.items():
        Path(f"/proc/self/{name}").write_text(line)


if __name__ == "__main__":
    main()
