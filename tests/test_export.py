"""Exports of a small run, read back with the tools people will use."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow.parquet
import pytest

from eurekaflow.flows import cli
from eurekaflow.models.archive import Archive, Hold, SeedRow
from eurekaflow.models.errors import PrerequisiteMissing
from eurekaflow.models.outgoing import EXPORTED
from eurekaflow.models.reader import reader_url
from eurekaflow.models.views import VIEWS
from tests.archives import expand

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services
HOSTILE = "print('a,\"b\"\n\t\\N é\x00 \ud800')"


@pytest.fixture
def searched(archive: Archive, hold: Hold, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Two steps with failures, hostile texts and a two-dimensional construction."""
    import numpy as np

    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    seed = SeedRow(slot=0, value=-0.9, program="x = 1", construction=np.eye(2))
    archive.add_seeds(hold, [seed])
    first = expand(archive, hold, 0, [(archive.attempts(hold.run_id, -1)[0].id, [-0.8, None])])
    archive.commit_step(hold, 0)
    expand(archive, hold, 1, [(first[0][0], [(-0.6, HOSTILE), None, (-0.7, "y = 2")])])
    archive.commit_step(hold, 1)
    return archive


def exported(form: str, out: Path, *more: str) -> Path:
    assert cli.main(["export", "last", "--format", form, "--out", str(out), *more]) == 0
    return out


def expected(archive: Archive, view: str, columns: str) -> list[tuple[Any, ...]]:
    return archive.query(f"select {columns} from {view} order by attempt")[1]


BASICS = "attempt, step, outcome, value, score"


def test_every_view_of_a_run_is_exported() -> None:
    whole = {view.name for view in VIEWS if "run_id" in view.columns}
    assert set(EXPORTED) == whole


def test_duckdb_and_pandas_read_the_parquet(searched: Archive, tmp_path: Path) -> None:
    folder = exported("parquet", tmp_path / "run")
    assert {file.stem for file in folder.glob("*.parquet")} == set(EXPORTED)
    sql = f"select {BASICS} from '{folder}/attempts.parquet' order by attempt"
    assert duckdb.sql(sql).fetchall() == expected(searched, "attempts", BASICS)
    frame = pandas.read_parquet(folder / "attempts.parquet")
    assert frame["verified_at"].dt.tz is not None
    assert frame["value"].max() == -0.6
    bodies = pyarrow.parquet.read_table(folder / "attempt_bodies.parquet").to_pylist()
    stored = {row[0]: row[1] for row in expected(searched, "attempt_bodies", "attempt, program")}
    assert {row["attempt"]: row["program"] for row in bodies} == stored
    assert [json.loads(row["construction"]) for row in bodies if row["construction"]] == [
        [[1.0, 0.0], [0.0, 1.0]]
    ]
    tree = pyarrow.parquet.read_table(folder / "tree.parquet").to_pylist()
    assert [] in [node["path"] for node in tree]
    about = json.loads((folder / "export.json").read_text())
    assert about["rows"]["attempts"] == len(frame) == 6


def test_csv_and_json_lines_hold_the_same_rows(searched: Archive, tmp_path: Path) -> None:
    with (exported("csv", tmp_path / "c") / "attempts.csv").open(newline="") as file:
        as_csv = [(int(r["attempt"]), int(r["step"]), r["outcome"]) for r in csv.DictReader(file)]
    lines = (exported("jsonl", tmp_path / "j") / "attempts.jsonl").read_text().splitlines()
    as_json = [(r["attempt"], r["step"], r["outcome"]) for r in map(json.loads, lines)]
    assert as_csv == as_json == expected(searched, "attempts", "attempt, step, outcome")
    text = (tmp_path / "j/attempt_bodies.jsonl").read_text(encoding="utf-8")
    programs = [json.loads(line)["program"] for line in text.split("\n") if line]
    assert programs == [r[0] for r in expected(searched, "attempt_bodies", "program")]


def test_sqlite_has_keys_and_links_for_datasette(searched: Archive, tmp_path: Path) -> None:
    file = exported("sqlite", tmp_path / "run.sqlite")
    with sqlite3.connect(file) as database:
        tables = {row[0] for row in database.execute("select name from sqlite_schema")}
        assert set(EXPORTED) <= tables
        sql = f"select {BASICS} from attempts order by attempt"
        assert database.execute(sql).fetchall() == expected(searched, "attempts", BASICS)
        info = database.execute("pragma table_info(attempts)").fetchall()
        assert [column[1] for column in info if column[5]] == ["attempt"]
        links = database.execute("pragma foreign_key_list(attempts)").fetchall()
        assert [(link[2], link[3], link[4]) for link in links] == [
            ("attempts", "parent", "attempt")
        ]
        assert database.execute("pragma foreign_key_check").fetchall() == []
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_datasette_serves_the_export_and_links_an_attempt_to_its_parent(
    searched: Archive, tmp_path: Path
) -> None:
    file = exported("sqlite", tmp_path / "run.sqlite")
    page = "/run/attempts.json?_shape=array&_labels=on&parent__notblank=1&_sort=attempt"
    served = subprocess.run(
        [Path(sys.executable).parent / "datasette", file, "--get", page],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    rows = json.loads(served.stdout)
    asked = expected(searched, "attempts", "attempt, parent, outcome")
    found = [(r["attempt"], r["parent"]["value"], r["outcome"]) for r in rows]
    assert found
    assert found == [row for row in asked if row[1] is not None]


def test_what_is_there_is_replaced_only_when_asked(searched: Archive, tmp_path: Path) -> None:
    out = tmp_path / "run"
    exported("csv", out, "--views", "attempts")
    assert [file.name for file in sorted(out.iterdir())] == ["attempts.csv", "export.json"]
    assert cli.main(["export", "--format", "csv", "--out", str(out)]) == 2
    exported("csv", out, "--views", "steps", "--force")
    assert not (out / "attempts.csv").exists()
    (tmp_path / "mine").mkdir()
    assert cli.main(["export", "--out", str(tmp_path / "mine"), "--force"]) == 2
    assert cli.main(["export", "--out", str(tmp_path / "x"), "--views", "nothing"]) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_without_pyarrow_or_pandas_the_command_to_install_them_is_told(
    searched: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert cli.main(["export", "--out", str(tmp_path / "run")]) == 3
    assert "pip install 'eurekaflow[export]'" in capsys.readouterr().err
    with pytest.raises(PrerequisiteMissing, match=r"eurekaflow\[dataframe\]"):
        searched.dataframe("select 1")


def test_pandas_reads_an_answer_and_the_database_itself(searched: Archive) -> None:
    frame = searched.dataframe(
        "select step, value from attempts where value > %s order by value desc", params=[-0.75]
    )
    assert frame.to_dict("list") == {"step": [1, 1], "value": [-0.6, -0.7]}
    from sqlalchemy import create_engine

    engine = create_engine(reader_url(searched.url))
    direct = pandas.read_sql("select outcome, count(*) as n from attempts group by 1", engine)
    engine.dispose()
    assert dict(zip(direct["outcome"], direct["n"], strict=True)) == {
        "seed": 1,
        "valid": 3,
        "raised": 2,
    }
