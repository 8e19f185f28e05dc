"""With and without user namespaces the sandbox works, or refuses with the fixing command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Job, Limits, SandboxUnavailable
try:
    with ProcessSandbox(1, required=frozenset({required!r})) as sandbox:
        job = Job(program="def f(): return float(np.sum(np.ones(3)))", entry_point="f")
        print(sandbox.level, sandbox.run(job, Limits()).result)
except SandboxUnavailable as refused:
    print("refused:", refused)
"""


FORBID = """
import os, sys
from eurekaflow.verifiers import syscalls
uid, gid = os.geteuid(), os.getegid()
ready, mapped = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    os.write(ready[1], b"x")
    os.read(mapped[0], 1)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
os.read(ready[0], 1)
if uid != 0:
    open(f"/proc/{child}/setgroups", "w").write("deny")
for name, number in (("uid", uid), ("gid", gid)):
    with open(f"/proc/{child}/{name}_map", "w") as file:
        file.write(f"{number} {number} 1" if uid else "0 0 65536")
os.write(mapped[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def without_user_namespaces(required: set[str]) -> str:
    """The script's output where the kernel grants this user no further user namespace.

    The limit is that of a user namespace made for it, so nobody else on the machine feels it.
    """
    done = subprocess.run(
        [sys.executable, "-c", FORBID, SCRIPT.format(required=required)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "max_user_namespaces" in done.stderr:
        pytest.skip(f"namespaces cannot be forbidden here: {done.stderr.strip()[-200:]}")
    return done.stdout + done.stderr


def test_without_user_namespaces_landlock_confines() -> None:
    assert without_user_namespaces(set()) == "landlock b'3.0'\n"


def test_without_user_namespaces_a_run_that_needs_them_refuses_with_the_fix() -> None:
    said = without_user_namespaces({"minimal-root"})
    assert said.startswith("refused:")
    assert "not the required minimal-root" in said
    assert "minimal-root: allow user namespaces: sysctl user.max_user_namespaces=15000" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are of an ordinary user already")
def test_root_gets_the_same_walls() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(required={"minimal-root"})],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "namespaces b'3.0'\n", done.stderr
