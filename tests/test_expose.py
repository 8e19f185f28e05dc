"""`db expose`: loopback TCP for the reader with its password, and for nobody else."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from eurekaflow.flows import cli
from eurekaflow.models import postgres
from eurekaflow.models.archive import Archive
from eurekaflow.models.exposure import exposure

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder that the server's account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="eurekaflow-expose-"))
    folder.chmod(0o755)
    monkeypatch.setenv("EUREKA_HOME", str(folder))
    monkeypatch.delenv("EUREKA_DATABASE_URL", raising=False)
    yield folder
    cli.main(["db", "stop", "--force"])
    shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(url: str) -> str:
    with pytest.raises(psycopg.OperationalError) as told:
        psycopg.connect(url, connect_timeout=5)
    return str(told.value)


def test_a_tcp_client_reads_as_the_reader_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    assert cli.main(["db", "expose", "--port", str(port), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    file = Path(told["password_file"])
    password = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert told["url"] == f"postgresql://eureka_reader:{password}@127.0.0.1:{port}/eureka"

    at = {"host": "127.0.0.1", "port": port, "user": "eureka_reader", "password": password}
    with psycopg.connect(dbname="eureka", **at) as client:
        assert client.execute("select count(*) from attempts").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute("select * from archive.attempts")
    wrong = told["url"].replace(password, "wrong")
    assert "password authentication failed" in refused(wrong)
    assert "password" in refused(told["url"].replace(f":{password}", ""))
    for user in (f"postgres:{password}", "postgres"):
        assert "rejects connection" in refused(f"postgresql://{user}@127.0.0.1:{port}/eureka")
    assert "rejects connection" in refused(told["url"].replace("/eureka", "/prefect"))
    others = [*socket.gethostbyname_ex(socket.gethostname())[2], "::1"]
    for address in {a for a in others if a != "127.0.0.1"}:
        assert not answers(address, port)

    # The socket goes by its old name, and a second call changes nothing.
    assert cli.main(["sql", "select 1"]) == 0
    assert cli.main(["db", "expose", "--port", str(port)]) == 0
    capsys.readouterr()
    assert cli.main(["db", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exposed"] == f"127.0.0.1:{port}"
    assert cli.main(["db", "stop"]) == 0
    assert cli.main(["sql", "select 1"]) == 0  # started again: still exposed
    with psycopg.connect(told["url"]):
        pass

    assert cli.main(["db", "expose", "--off"]) == 0
    assert cli.main(["sql", "select 1"]) == 0
    assert not answers("127.0.0.1", port)
    assert not file.exists()


def test_a_client_without_libpq_reads_with_prepared_statements_and_writes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """asyncpg speaks the protocol by itself, as a JDBC driver does."""
    port = free_port()
    assert cli.main(["db", "expose", "--port", str(port), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert cli.main(["db", "url"]) == 0
    archive = Archive(capsys.readouterr().out.strip())
    record = {"holder": "Somebody", "score": 0.5, "kind": "human", "source": "a paper"}
    archive.add_problem("toy", "1", "min", "length", [record, {**record, "score": 0.75}])
    archive.close()
    asyncio.run(reads_alone(port, Path(told["password_file"]).read_text().strip()))


async def reads_alone(port: int, password: str) -> None:
    """What the reader may do over TCP, with a client of its own protocol code."""
    at = {"host": "127.0.0.1", "port": port, "user": "eureka_reader", "database": "eureka"}
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(**at, password="wrong")
    client = await asyncpg.connect(**at, password=password)
    try:
        asked = await client.prepare(
            "select holder, score from leaderboard where problem = $1 and score < $2"
        )
        assert [kind.name for kind in asked.get_parameters()] == ["text", "float8"]
        assert [tuple(row) for row in await asked.fetch("toy", 0.6)] == [("Somebody", 0.5)]
        assert len(await asked.fetch("toy", 1.0)) == 2
        assert await asked.fetch("none", 1.0) == []
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await client.execute("create temp table mine (n int)")
        await client.execute("set default_transaction_read_only = off")  # anybody may
        for write in (
            "insert into archive.problems (name) values ('mine')",
            "update archive.runs set message = 'mine'",
            "create table public.mine (n int)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await client.execute(write)
    finally:
        await client.close()


def answers(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


def test_a_server_in_use_is_not_restarted_and_a_taken_port_is_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["db", "start"]) == 0
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = int(other.getsockname()[1])
        assert cli.main(["db", "expose", "--port", str(taken)]) == 2
        assert cli.main(["db", "expose", "--port", "80"]) == 2
    port = free_port()
    with postgres.hold(home):
        assert cli.main(["db", "expose", "--port", str(port)]) == 2
        assert "--force" in capsys.readouterr().err
        assert exposure(home) is None
        assert cli.main(["db", "expose", "--port", str(port), "--force"]) == 0
        url = capsys.readouterr().out.strip()
        with psycopg.connect(url):
            assert cli.main(["db", "expose", "--off"]) == 0  # nobody gets in any more
        assert "password authentication failed" in refused(url)
    assert cli.main(["db", "stop"]) == 0
    (home / "postgres/port").write_text(f"{taken}\n")
    with socket.socket() as other:  # a port lost to another program costs no archive
        other.bind(("127.0.0.1", taken))
        other.listen()
        assert cli.main(["sql", "select 1"]) == 0
