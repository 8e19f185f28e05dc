"""The documents say what the code does: generated pages, executed examples, working links."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from eurekaflow.models.archive import Archive
from tests.reference import api_page, cli_page, report_page, schema_page

pytest_plugins = ("tests.archive_fixtures",)

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EXAMPLE = re.compile(r"```python\n(>>> .*?)```", re.DOTALL)
FIX = "run .venv/bin/python tests/reference.py"


def test_the_reference_of_the_commands_is_what_help_prints() -> None:
    assert (ROOT / "docs/cli.md").read_text(encoding="utf-8") == cli_page(), FIX


def test_the_reference_of_the_report_gives_its_questions() -> None:
    assert (ROOT / "docs/report.md").read_text(encoding="utf-8") == report_page(), FIX


@pytest.mark.services
def test_the_page_of_the_views_is_what_the_database_says_of_them(archive: Archive) -> None:
    page = (ROOT / "docs/schema.md").read_text(encoding="utf-8")
    assert page == schema_page(archive.url), FIX


def test_the_signatures_in_the_reference_are_the_codes() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert "solve_beta(" in page
    assert page == api_page(page), FIX


def test_the_examples_in_the_reference_give_what_they_show() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    source = "\n".join(EXAMPLE.findall(page))
    test = doctest.DocTestParser().get_doctest(source, {}, "docs/api.md", "docs/api.md", 0)
    told: list[str] = []
    result = doctest.DocTestRunner().run(test, out=told.append)
    assert result.attempted >= 10
    assert result.failed == 0, "".join(told)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)", text) if "://" not in t]
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_the_commands_in_the_readme_exist() -> None:
    from eurekaflow.flows.cli import COMMANDS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"eureka ([a-z]+)", text))
    assert used <= {name for _, name, _, _ in COMMANDS}
