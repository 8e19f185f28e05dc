"""`eureka verify --picture`: answers drawn into a file."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from eurekaflow.flows import cli

SQUARE = """print(4)
for x, y in ((0, 0), (50000, 0), (50000, 50000), (0, 50000)):
    print(x, y)
"""


def test_a_construction_is_drawn_into_a_file_that_stands_by_itself(tmp_path: Path) -> None:
    answer, target = tmp_path / "h.json", tmp_path / "h.svg"
    answer.write_text(json.dumps([0.5] * 40))
    assert cli.main(["verify", "erdos", str(answer), "--picture", str(target)]) == 0
    root = ET.parse(target).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{*}style") is not None


def test_what_has_no_picture_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer, target = tmp_path / "h.json", tmp_path / "h.svg"
    answer.write_text('"nothing"')
    assert cli.main(["verify", "erdos", str(answer), "--picture", str(target)]) == 2
    assert "there is nothing to draw" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.slow
def test_the_polygon_of_a_contest_program_is_drawn_over_the_first_case(tmp_path: Path) -> None:
    program, target = tmp_path / "square.py", tmp_path / "net.svg"
    program.write_text(SQUARE)
    given = ["verify", "ahc039", str(program), "--cases", "1", "--picture", str(target)]
    assert cli.main(given) == 0
    [net] = ET.parse(target).getroot().findall("{*}polygon")
    assert net.attrib["points"] == "0,100000 50000,100000 50000,50000 0,50000"
