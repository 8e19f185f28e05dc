"""The best program as a file: its header, and that it still runs and is still the program."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.flows.provenance import write
from eurekaflow.models.errors import UsageError

WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
RUN: dict[str, Any] = {
    "run": "0000-1111",
    "problem": "erdos",
    "problem_version": "3",
    "config": {"problem": "erdos"},
    "versions": {"eurekaflow": "0.1.0", "template": "2"},
    "hardware": {"cpus": 2, "machine": "x86_64"},
    "trust": "verified",
}
ATTEMPT: dict[str, Any] = {
    "attempt": 7,
    "step": 3,
    "group_index": 1,
    "attempt_index": 4,
    "score": 0.381,
    "value": -0.381,
    "verified_at": WHEN,
    "program": "#!/usr/bin/env python\nfrom __future__ import annotations\nx = 1",
    "construction": [0.5, 1.0],
}
CLAIM: dict[str, Any] = {
    "mode": "exact",
    "value": -0.3805,
    "verifier_version": "4",
    "hardware": {"cpus": 8},
    "measured_at": WHEN,
}


def test_a_python_file_says_where_it_is_from_and_still_runs(tmp_path: Path) -> None:
    out = tmp_path / "best.py"
    assert write(ATTEMPT, RUN, None, out) == [out]
    text = out.read_text()
    assert text.startswith("#!/usr/bin/env python\n# found by eurekaflow\n")
    for line in (
        "# run: 0000-1111",
        "# attempt: 7 (step 3, group 1, slot 4)",
        "# score: 0.381",
        "# hardware: cpus 2, machine x86_64",
        "# mode: in the run, by the verifier",
        "# verifier: eurekaflow 0.1.0, template 2, problem 3",
        "# verify again: eureka verify erdos best.py",
    ):
        assert line + "\n" in text
    names: dict[str, Any] = {}
    exec(compile(text, "best.py", "exec"), names)
    assert names["x"] == 1


def test_a_claim_is_what_the_header_rests_on(tmp_path: Path) -> None:
    write(ATTEMPT, RUN, CLAIM, tmp_path / "best.py")
    text = (tmp_path / "best.py").read_text()
    assert "# mode: exact\n# verifier: 4\n" in text
    assert "# value: -0.3805 (higher is better)\n" in text
    assert "eureka verify erdos best.py --exact\n" in text


@pytest.mark.parametrize(("name", "mark"), [("a.cpp", "//"), ("a.cu", "//"), ("a.sql", "--")])
def test_other_languages_have_their_own_comments(tmp_path: Path, name: str, mark: str) -> None:
    write({**ATTEMPT, "program": "body"}, RUN, None, tmp_path / name)
    lines = (tmp_path / name).read_text().splitlines()
    assert lines[-2:] == ["", "body"]
    assert all(line.startswith(mark + " ") for line in lines[:-2])


def test_data_has_its_provenance_beside_it(tmp_path: Path) -> None:
    files = write(ATTEMPT, RUN, None, tmp_path / "best.json")
    assert json.loads(files[0].read_text()) == [0.5, 1.0]
    assert files[1].name == "best.json.provenance.json"
    assert json.loads(files[1].read_text())["run"] == "0000-1111"


def test_a_value_cannot_leave_its_comment_line(tmp_path: Path) -> None:
    hostile = {**RUN, "hardware": {"cpus": "2\nimport os"}}
    write(ATTEMPT, hostile, None, tmp_path / "best.py")
    assert "\nimport os" not in (tmp_path / "best.py").read_text()


def test_nothing_to_write_is_told(tmp_path: Path) -> None:
    for missing, name in (("program", "a.py"), ("construction", "a.json")):
        with pytest.raises(UsageError, match="no " + missing):
            write({**ATTEMPT, missing: None}, RUN, None, tmp_path / name)
