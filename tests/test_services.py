"""The services' lifetime: one Prefect server, shared and found again, stopped when idle."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from eurekaflow.flows import services
from eurekaflow.flows.prefect_server import ensure_prefect, prefect_environment, prefect_status
from eurekaflow.models import postgres
from eurekaflow.models.daemons import is_alive
from eurekaflow.models.errors import UsageError
from eurekaflow.models.file_lock import is_locked

pytestmark = [pytest.mark.services, pytest.mark.slow]


@contextlib.contextmanager
def a_home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="eurekaflow-test-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        services.stop_services(home, force=True)
        for supervisor in supervisors(home):
            os.kill(supervisor, signal.SIGTERM)
        shutil.rmtree(home)


def supervisors(home: Path) -> list[int]:
    done = subprocess.run(
        ["pgrep", "-f", f"eurekaflow.flows.services {home}$"], capture_output=True, check=False
    )
    return [int(pid) for pid in done.stdout.split()]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with a_home() as folder:
        yield folder


@pytest.fixture
def opened(home: Path) -> Iterator[services.Services]:
    with services.open_services(home, prefect=True) as found:
        yield found


def test_prefect_keeps_its_records_in_a_database_of_the_embedded_server(
    home: Path, opened: services.Services
) -> None:
    assert prefect_status(home).database == "postgres"
    with psycopg.connect(postgres.url(home, "prefect")) as connection:
        assert connection.execute("select count(*) from flow_run").fetchone() == (0,)


def test_a_second_process_uses_the_same_prefect_server(
    home: Path, opened: services.Services
) -> None:
    code = (
        "import sys; from pathlib import Path; from eurekaflow.flows import services\n"
        "found = services.open_services(Path(sys.argv[1]), prefect=True)\n"
        "print(found.api_url, 'prefect' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [opened.api_url, "False"]


def test_two_services_of_one_home_have_one_supervisor(
    home: Path, opened: services.Services
) -> None:
    services.open_services(home).close()
    assert len(supervisors(home)) == 1


def test_a_flow_in_a_process_with_our_environment_is_recorded_in_our_server(
    home: Path, opened: services.Services
) -> None:
    code = "from prefect import flow\n@flow(name='recorded')\ndef f(): return 1\nf()"
    variables = prefect_environment(home, opened.api_url or "", environment=os.environ)
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables, "HTTP_PROXY": "http://127.0.0.1:9"},
        check=True,
        cwd=home,
    )
    with psycopg.connect(postgres.url(home, "prefect")) as connection:
        query = "select state_type::text from flow_run"
        assert connection.execute(query).fetchone() == ("COMPLETED",)


def test_services_are_not_stopped_while_held(home: Path, opened: services.Services) -> None:
    with pytest.raises(UsageError):
        services.stop_services(home)
    assert prefect_status(home).running


def test_a_killed_prefect_server_is_replaced_on_the_same_port(
    home: Path, opened: services.Services
) -> None:
    pid = prefect_status(home).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)
    assert not prefect_status(home).running
    again = services.open_services(home, prefect=True)
    assert again.api_url == opened.api_url
    assert prefect_status(home).pid != pid
    again.close()


def test_simultaneous_starts_without_postgres_make_one_server_on_sqlite() -> None:
    with a_home() as home:
        answers: list[str] = []

        def start() -> None:
            answers.append(ensure_prefect(home, database_url=None))

        threads = [threading.Thread(target=start) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 3
        assert len(set(answers)) == 1
        assert prefect_status(home).database == "sqlite"
        assert (home / "prefect" / "prefect.db").exists()
        assert services.stop_services(home)
        assert not prefect_status(home).running


def test_the_supervisor_stops_both_services_when_idle_and_not_before() -> None:
    with a_home() as home:
        opened = services.open_services(home, prefect=True)
        watcher = threading.Thread(
            target=services.supervise, args=(home,), kwargs={"idle_s": 1.0, "interval_s": 0.2}
        )
        watcher.start()
        time.sleep(2.5)
        assert postgres.status(home).state == "running"
        opened.close()
        watcher.join(timeout=60)
        assert not watcher.is_alive()
        assert postgres.status(home).state == "stopped"
        assert not is_locked(home / "prefect" / "run.lock")
