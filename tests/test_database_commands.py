"""The commands `db …` on an embedded server of their own."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from eurekaflow.flows import cli

pytestmark = pytest.mark.services


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder that the server's account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="eurekaflow-db-"))
    folder.chmod(0o755)
    monkeypatch.setenv("EUREKA_HOME", str(folder))
    monkeypatch.delenv("EUREKA_DATABASE_URL", raising=False)
    yield folder
    cli.main(["db", "stop", "--force"])
    shutil.rmtree(folder, ignore_errors=True)


def test_the_embedded_server_starts_answers_and_stops(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["db", "start"]) == 0
    url = capsys.readouterr().out.strip()
    assert cli.main(["db", "url"]) == 0
    assert capsys.readouterr().out.strip() == url
    assert cli.main(["db", "url", "--reader"]) == 0
    with psycopg.connect(capsys.readouterr().out.strip()) as connection:
        assert connection.execute("select current_user").fetchone() == ("eureka_reader",)
    assert cli.main(["db", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "running"
    assert cli.main(["sql", "select count(*) as n from runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 0}]
    assert cli.main(["db", "upgrade"]) == 0
    assert "already at revision" in capsys.readouterr().err
    assert cli.main(["db", "stop"]) == 0
    assert cli.main(["db", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"


def test_a_backup_holds_the_archive(home: Path) -> None:
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import open_archive
    from eurekaflow.flows.database import _backup

    assert cli.main(["db", "start"]) == 0
    with open_archive(surroundings()) as url:
        file = _backup(surroundings(), url, "0001")
    assert file.parent == home / "backups"
    assert file.read_bytes().startswith(b"PGDMP")
