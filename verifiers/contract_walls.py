"""What a candidate must not be able to do: the half of the sandbox contract about walls."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits, Sandbox

QUICK = Limits(wall_s=5.0, cpu_s=5.0)


def run(sandbox: Sandbox, body: str, limits: Limits = QUICK, **fields: Any) -> Execution:
    """Run `body`, the indented inside of `def f():`."""
    return sandbox.run(
        Job(program=f"def f():\n{_indented(body)}", entry_point="f", **fields), limits
    )


def _indented(body: str) -> str:
    return "".join(f"    {line}\n" for line in body.strip().splitlines())


def value(execution: Execution) -> Any:
    """The returned value; fails the test with the execution when there is none."""
    assert execution.cause is Cause.RETURNED, execution
    assert execution.result is not None
    return json.loads(execution.result)


def refused(sandbox: Sandbox, statements: str, limits: Limits = QUICK) -> None:
    """Every statement raises in the candidate; names the ones that do not."""
    body = f"""
done = []
for line in {statements.strip().splitlines()!r}:
    try:
        exec(line)
        done.append(line)
    except Exception:
        pass
return done
"""
    done = value(run(sandbox, body, limits))
    assert done == [], f"not refused: {done}"


class SandboxWalls:
    """Each test is one thing that is out of a candidate's reach."""

    has_scratch = True

    def test_there_is_no_network(self, sandbox: Sandbox) -> None:
        refused(sandbox, """
import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM)
import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
import socket; socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
import socket; socket.socketpair()
import urllib.request; urllib.request.urlopen('http://127.0.0.1:80', timeout=1)
""")  # fmt: skip

    def test_there_is_no_environment_of_the_host(self, sandbox: Sandbox) -> None:
        body = """
import os
seen = dict(os.environ)
for path in ('/proc/self/environ', '/proc/1/environ', f'/proc/{os.getppid()}/environ'):
    try: seen[path] = open(path).read()
    except OSError: pass
return seen
"""
        seen = json.dumps(value(run(sandbox, body)))
        assert len(seen) < 1000
        for name in ("USER", "LOGNAME", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST", "PWD", "DATABASE"):
            assert f'"{name}' not in seen
            assert f"{name}=" not in seen

    def test_other_files_cannot_be_read(self, sandbox: Sandbox, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("database url")
        at_home = [str(path) for path in Path.home().iterdir() if path.is_file()][:20]
        refused(sandbox, f"""
for path in {at_home!r} or ['/nonexistent']: open(path).read()
open({str(secret)!r}).read()
open({__file__!r}).read()
open('/etc/shadow').read()
open('/etc/hostname').read()
open('/proc/self/maps').read()
open('/proc/1/cmdline').read()
open('/sys/kernel/notes', 'rb').read(1)
import os; os.listdir({str(Path(__file__).parents[1] / "tests")!r})
import eurekaflow.verifiers
""")  # fmt: skip

    def test_nothing_can_be_written_outside_scratch(self, sandbox: Sandbox) -> None:
        refused(sandbox, """
open('/x', 'w')
open('/usr/x', 'w')
open('/etc/passwd', 'a')
open('/dev/x', 'w')
open('/var/tmp/x', 'w')
open(np.__file__, 'a')
open(np.__file__ + '.x', 'w')
import os; os.mkdir('/x')
import os; os.utime(np.__file__)
import os; os.chmod(np.__file__, 0o777)
import os; os.truncate(np.__file__, 0)
import os; os.setxattr(np.__file__, 'user.x', b'1')
import os; os.rename(np.__file__, np.__file__ + '.y')
import os; os.symlink('/x', os.path.dirname(np.__file__) + '/z')
""")  # fmt: skip

    def test_scratch_is_private_and_bounded(self, sandbox: Sandbox) -> None:
        if not self.has_scratch:
            pytest.skip("this backend gives no writable folder")
        limits = Limits(scratch_bytes=1 << 20)
        body = """
import os, tempfile
with tempfile.NamedTemporaryFile('w+b') as file:
    file.write(b'x' * 1000)
open('mine', 'w').write('x')
kept = 0
try:
    for number in range(100):
        with open(f'big{number}', 'wb') as file:
            file.write(b'x' * 100000)
        kept += 1
except OSError: pass
return [os.listdir('.').count('mine'), kept]
"""
        for _ in range(3):
            count, kept = value(run(sandbox, body, limits))
            assert count == 1
            assert kept <= 10

    def test_files_do_not_survive_to_the_next_candidate(self, sandbox: Sandbox) -> None:
        body = """
import os
folders = ('/tmp', '/dev/shm', '/var/tmp', '/run', '.')
found = []
for folder in folders:
    try: found += [name for name in os.listdir(folder) if name == 'left-behind']
    except OSError: pass
for folder in folders:
    try: open(folder + '/left-behind', 'w').write('x')
    except OSError: pass
return found
"""
        assert [value(run(sandbox, body)) for _ in range(4)] == [[], [], [], []]

    def test_it_cannot_fork_or_execute(self, sandbox: Sandbox) -> None:
        refused(sandbox, """
import os; os.fork() or os._exit(0)
import os; os.forkpty()
import os; os.posix_spawn('/bin/true', ['true'], {})
import os; os.execv('/bin/true', ['true'])
import subprocess; subprocess.run(['/bin/true'])
import multiprocessing; multiprocessing.get_context('fork').Process(target=print).start()
import ctypes; ctypes.CDLL(None).vfork() == -1 and 1 / 0
""")  # fmt: skip

    def test_the_process_count_is_bounded_when_forking_is_granted(self, sandbox: Sandbox) -> None:
        body = """
import os, time
count = 0
try:
    while count < 2000:
        if os.fork() == 0: time.sleep(60)
        count += 1
except OSError: pass
return count
"""
        count = value(run(sandbox, body, Limits(processes=8)))
        assert 7 <= count < 600

    def test_it_cannot_reach_other_processes(self, sandbox: Sandbox) -> None:
        refused(sandbox, f"""
import os; os.kill({os.getpid()}, 0)
import os; os.kill(os.getppid() or 4000000, 0)
import os; os.kill(-1, 0) or os.getpid() != 1 or 1 / 0
import os; os.pidfd_open({os.getpid()})
import os; os.setpriority(os.PRIO_PROCESS, {os.getpid()}, 19)
import ctypes; ctypes.CDLL(None).ptrace(16, {os.getpid()}, 0, 0) == 0 or 1 / 0
import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0 or 1 / 0
import resource; resource.prlimit({os.getpid()}, resource.RLIMIT_NOFILE)
""")  # fmt: skip

    def test_dangerous_system_calls_are_refused(self, sandbox: Sandbox) -> None:
        body = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
numbers = {'clone3': 435, 'io_uring_setup': 425, 'open_tree': 428, 'fsopen': 430,
           'pidfd_getfd': 438, 'mount_setattr': 442, 'process_madvise': 440, 'future': 470}
through = {}
for name, number in numbers.items():
    got = libc.syscall(number, 0, 0, 0, 0, 0)
    if got != -1 or ctypes.get_errno() not in (1, 38): through[name] = ctypes.get_errno()
for name, arguments in {'unshare': (0x10000000,), 'setns': (0, 0), 'personality': (0xffffffff,),
                        'memfd_create': (b'x', 0), 'mount': (b'x', b'/tmp', b'tmpfs', 0, b''),
                        'umount2': (b'/tmp', 2), 'shmget': (0, 4096, 0o1600), 'chroot': (b'/tmp',),
                        'ptrace': (0, 0, 0, 0)}.items():
    got = getattr(libc, name)(*arguments)
    if got != -1 or ctypes.get_errno() != 1: through[name] = ctypes.get_errno()
return through
"""
        assert value(run(sandbox, body)) == {}

    def test_terminal_injection_is_refused(self, sandbox: Sandbox) -> None:
        body = """
import fcntl
try: fcntl.ioctl(0, 0x5412, b'x')
except OSError as problem: return problem.errno
"""
        assert value(run(sandbox, body)) == 1

    def test_it_is_nobody_with_limits_that_cannot_be_raised(self, sandbox: Sandbox) -> None:
        refused(sandbox, """
import os; os.getuid() == 0 or 1 / 0
import os; os.setuid(0)
import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
import resource; resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))
import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
""")  # fmt: skip

    def test_it_holds_no_descriptor_but_its_own(self, sandbox: Sandbox) -> None:
        body = """
import os
held = []
for number in range(1024):
    try: os.fstat(number)
    except OSError: continue
    held.append(number)
return held
"""
        assert len(value(run(sandbox, body))) <= 4

    def test_one_candidate_cannot_change_the_next(self, sandbox: Sandbox) -> None:
        run(
            sandbox,
            "import json, builtins\nnp.mean = None\njson.dumps = None\nbuiltins.len = None",
        )
        assert value(run(sandbox, "return [len([1]), np.mean([1.0, 2.0])]")) == [1, 1.5]
