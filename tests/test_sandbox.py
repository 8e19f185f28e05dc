"""The process sandbox fulfils the contract at both levels, for root and for an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurekaflow.verifiers import process, syscalls, worker
from eurekaflow.verifiers.contract import SandboxContract, run, value
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import SandboxUnavailable
from tests.attacks import suite

pytestmark = pytest.mark.slow  # three quarters of a minute in all

UNISTD = {
    0: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    1: "/usr/include/asm-generic/unistd.h",
}


def _at(level: str) -> Iterator[ProcessSandbox]:
    try:
        backend = ProcessSandbox(2, levels=(level,))
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    with backend:
        yield backend
    assert backend.anomalies == 0


class TestNamespaces(SandboxContract):
    @pytest.fixture(scope="class")
    def sandbox(self) -> Iterator[ProcessSandbox]:
        yield from _at("namespaces")

    def test_only_the_minimal_root_is_there(self, sandbox: ProcessSandbox) -> None:
        body = "import os\nreturn [os.listdir('/dev'), os.listdir('.'), os.getpid()]"
        devices, scratch, pid = value(run(sandbox, body))
        assert set(devices) == {"null", "zero", "full", "random", "urandom", "shm"}
        assert (scratch, pid) == ([], 1)


class TestLandlock(SandboxContract):
    has_scratch = False

    @pytest.fixture(scope="class")
    def sandbox(self) -> Iterator[ProcessSandbox]:
        yield from _at("landlock")


@pytest.mark.parametrize("column", [0, 1])
def test_system_call_numbers_agree_with_the_headers(column: int) -> None:
    header = Path(UNISTD[column])
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    words = [line.split() for line in header.read_text().splitlines() if "__NR" in line]
    known = {
        name.removeprefix("__NR3264_").removeprefix("__NR_"): int(number)
        for _, name, number in (word for word in words if len(word) == 3)
        if number.isdigit()
    }
    ours = {name: pair[column] for name, pair in syscalls.NUMBERS.items() if name in known}
    assert len(ours) > 90
    assert ours == {name: known[name] for name in ours}


@pytest.fixture
def public_copy() -> Iterator[Path]:
    """A copy of the verifiers that any user may read."""
    folder = Path(tempfile.mkdtemp(prefix="eurekaflow-public-"))
    package = folder / "eurekaflow" / "verifiers"
    shutil.copytree(Path(process.__file__).parent, package, ignore=shutil.ignore_patterns("__*"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


class Nobody:
    """User 65534 with a copy of the verifiers, and a Python that it may run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = [str(folder), str(Path(np.__file__).parents[1])]
        self._environment = {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder),
        }
        self._python = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"

    def runs(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._python, *arguments], env=self._environment, check=False, capture_output=True,
            text=True, cwd="/", user=65534, group=65534, extra_groups=(),
        )  # fmt: skip

    @property
    def can(self) -> bool:
        return Path(self._python).exists() and not self.runs("-c", "import numpy").returncode

    def without_landlock(self) -> None:
        """As on a kernel without it: the copy's zygotes find version 0."""
        file = self.folder / "eurekaflow" / "verifiers" / "landlock.py"
        text = file.read_text()
        file.write_text(text.replace("def abi() -> int:\n", "def abi() -> int:\n    return 0\n"))


@pytest.fixture
def nobody(public_copy: Path) -> Nobody:
    user = Nobody(public_copy)
    if not user.can:
        pytest.skip("user nobody cannot import numpy with the system's Python")
    return user


WALLS = """
import pytest
from eurekaflow.verifiers.contract_walls import SandboxWalls
from eurekaflow.verifiers.process import ProcessSandbox

class TestOrdinaryUser(SandboxWalls):
    has_scratch = {level!r} == "namespaces"

    @pytest.fixture(scope="class")
    def sandbox(self):
        with ProcessSandbox(1, levels=({level!r},)) as backend:
            assert ("landlock" in backend.layers) is {landlock}
            yield backend
"""
ATTEMPT = """
import json, sys
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Job, Limits
given = json.load(open(sys.argv[1]))
with ProcessSandbox(1, levels=(given["level"],)) as sandbox:
    for name, program in given["programs"].items():
        job = Job(program=program, entry_point=name, arguments={"world": given["world"]})
        execution = sandbox.run(job, Limits(wall_s=2, memory_bytes=96 << 20))
        if execution.result is not None and json.loads(execution.result):
            print(name, execution.result)
"""
KINDS = [("namespaces", True), ("namespaces", False), ("landlock", True)]
SOME = (
    "read_home", "read_parent_environment", "write_outside", "write_in_hidden_folder",
    "write_metadata", "connect_abstract", "bomb_threads", "bomb_requests", "kill_parent",
    "ask_for_session", "survive_as_daemon", "make_namespaces", "watch_files", "lock_library",
)  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("level", "landlock"), KINDS)
def test_an_ordinary_user_has_the_same_walls(nobody: Nobody, level: str, landlock: bool) -> None:
    if not landlock:
        nobody.without_landlock()
    file = nobody.folder / "test_walls.py"
    file.write_text(WALLS.format(level=level, landlock=landlock))
    done = nobody.runs("-m", "pytest", "-q", "-p", "no:cacheprovider", str(file))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-500:]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("level", "landlock"), KINDS)
def test_attacks_gain_an_ordinary_users_candidate_nothing(
    nobody: Nobody, level: str, landlock: bool
) -> None:
    if not landlock:
        nobody.without_landlock()
    world = suite.World()
    try:
        programs = {attack.name: attack.program for attack in suite.ATTACKS if attack.name in SOME}
        file = nobody.folder / "given.json"
        given = {"level": level, "world": world.prepare(), "programs": programs}
        file.write_text(json.dumps(given))
        done = nobody.runs("-c", ATTEMPT, str(file))
        assert (done.stdout, done.returncode) == ("", 0), done.stderr
        assert len(programs) == len(SOME)
        assert world.harm() == []
    finally:
        world.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("landlock", [True, False])
def test_what_hides_a_folder_cannot_be_written_by_an_ordinary_users_candidate(
    nobody: Nobody, landlock: bool
) -> None:
    if not landlock:
        nobody.without_landlock()
    hidden = nobody.folder / "shown" / "hidden"
    hidden.mkdir(parents=True)
    script = f"""
from eurekaflow.verifiers import worker
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Job, Limits
usual = worker.configuration
def shown(level, stack):
    config = usual(level, stack)
    config["readable"].append({str(hidden.parent)!r})
    config["masked"].append({str(hidden)!r})
    return config
worker.configuration = shown
program = "def f(): open({str(hidden / "message")!r}, 'w').write('x')"
with ProcessSandbox(1, levels=("namespaces",)) as sandbox:
    print(sandbox.run(Job(program=program, entry_point="f"), Limits()).message)
"""
    done = nobody.runs("-c", script)
    assert done.stdout.startswith("OSError: [Errno 30] "), done.stdout + done.stderr


def test_our_own_package_is_hidden_where_it_lies_among_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("eurekaflow", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text("x = 1")
    tmp_path.chmod(0o755)
    usual = worker.configuration

    def installed(level: str, stack: str) -> dict[str, Any]:
        config = usual(level, stack)
        config["readable"].append(str(tmp_path))
        config["masked"] = [str(tmp_path / "eurekaflow")]
        return config

    monkeypatch.setattr(worker, "configuration", installed)
    shown = [str(tmp_path / name) for name in ("eurekaflow", "other")]
    body = f"import os\nreturn [[os.listdir(path) for path in {shown}], os.getcwd()]"
    with ProcessSandbox(1, levels=("namespaces",)) as backend:
        assert value(run(backend, body)) == [[[], ["code.py"]], "/scratch"]
