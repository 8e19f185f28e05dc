"""The process sandbox fulfils the contract at both levels, for root and for an ordinary user."""

from __future__ import annotations

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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("level", process.LEVELS)
def test_an_ordinary_user_has_it_too(public_copy: Path, level: str) -> None:
    script = f"""
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Job, Limits
with ProcessSandbox(1, levels=({level!r},)) as sandbox:
    import os
    body = "import fcntl, scipy.optimize; return [float(np.sum(np.ones(3))), 0.1]"
    program = f"def f(): {{body}}"
    print(os.getuid(), sandbox.run(Job(program=program, entry_point="f"), Limits()).result)
"""
    paths = [str(public_copy), str(Path(np.__file__).parents[1])]
    interpreter = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    environment = {"PYTHONPATH": os.pathsep.join(paths)}

    def as_nobody(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [interpreter, "-c", code], env=environment, check=False, capture_output=True,
            text=True, cwd="/", user=65534, group=65534, extra_groups=(),
        )  # fmt: skip

    if not Path(interpreter).exists() or as_nobody("import numpy").returncode:
        pytest.skip(f"user nobody cannot import numpy with {interpreter}")
    done = as_nobody(script)
    assert done.stdout == "65534 b'[3.0,0.1]'\n", done.stderr


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
