"""The report and Prefect's pages in a real browser without a network, after a hostile run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from eurekaflow.flows import services
from tests.browser import Tab, chromium, program, tab
from tests.night_home import NightHome, night_home

pytestmark = [pytest.mark.services, pytest.mark.slow]

ATTACK = (
    "<script>document.title = 'owned'</script></pre></code>"
    "<img src=http://outside.invalid/a.png onerror=document.title='owned'>"
    " ![x](http://outside.invalid/b.png) [y](javascript:document.title='owned')"
)
ANSWERS = (
    f" h + np.random.normal(0, 0.02, len(h)))  # {ATTACK}\n```",
    f" np.roll(h, 1))  # {ATTACK}\n```",
    f' int("{ATTACK}"))\n```',  # ValueError: its message quotes the attack
)

OWN_ICONS = re.compile(r"/favicon\.ico|/ico/")  # which Prefect's own server does not have
LIVE = 'main img, main script, [onerror], a[href^="javascript"], a[href*="outside"]'


class Hostile(NamedTuple):
    """A finished run whose candidates write HTML and markdown."""

    home: NightHome
    report: Path
    flow_run: str


@pytest.fixture(scope="module")
def run() -> Iterator[Hostile]:
    program()
    with night_home() as home:
        (home.folder / "answers.json").write_text(json.dumps(ANSWERS))
        sizes = [word.replace("tokens=200", "tokens=600") for word in home.sizes]
        home.eureka("run", "erdos", "--steps", "3", *sizes)
        [(flow,)] = home.rows("select flow_run_id from archive.runs")
        [page] = (home.folder / "reports").glob("*.html")
        yield Hostile(home, page, str(flow))


@pytest.fixture(scope="module")
def browser() -> Iterator[int]:
    with chromium() as port:
        yield port


@pytest.fixture
def page(browser: int) -> Iterator[Tab]:
    with tab(browser) as opened:
        yield opened


def test_the_report_opens_without_a_complaint_and_asks_nobody(run: Hostile, page: Tab) -> None:
    page.open(run.report.as_uri())
    assert page.complaints == []
    assert page.asked == [run.report.as_uri()]
    assert page.value("document.querySelectorAll('section h2').length") > 5


def test_what_candidates_write_is_text_in_the_report(run: Hostile, page: Tab) -> None:
    page.open(run.report.as_uri())
    assert page.value("document.title").startswith("Erd")
    assert page.value("document.querySelectorAll('script, img, a').length") == 0
    shown = page.value("document.body.textContent")
    assert ATTACK in shown
    assert 'ValueError: invalid literal for int() with base 10: "<script>' in shown


def test_the_report_is_seen(run: Hostile, page: Tab) -> None:
    page.open("about:blank")
    blank = page.picture()
    page.open(run.report.as_uri())
    assert len(page.picture()) > 5 * len(blank)
    assert page.value("document.documentElement.scrollWidth <= window.innerWidth")


def origin(run: Hostile) -> str:
    url = services.prefect_status(run.home.folder).api_url
    assert url is not None
    return url.removesuffix("/api")


def strangers(page: Tab, own: str) -> list[str]:
    """What was asked of others than the server at `own`."""
    allowed = (own + "/", own.replace("http:", "ws:") + "/", "data:", "blob:")
    return [url for url in page.asked if not url.startswith(allowed)]


def test_prefects_page_of_the_run_renders_without_a_network(run: Hostile, page: Tab) -> None:
    own = origin(run)
    page.open(
        f"{own}/runs/flow-run/{run.flow_run}",
        until="['Completed', 'verify'].every(t => document.body.innerText.includes(t))",
    )
    assert [text for text in page.complaints if not OWN_ICONS.search(text)] == []
    assert strangers(page, own) == []


def test_what_candidates_write_is_text_on_prefects_page(run: Hostile, page: Tab) -> None:
    own = origin(run)
    found = run.home.api("artifacts/filter", {"artifacts": {"type": {"any_": ["markdown"]}}})
    hostile = {a["key"].partition("-")[0]: a["id"] for a in found if "owned" in a["data"]}
    assert set(hostile) == {"best", "report"}
    for artifact in hostile.values():
        shown = "document.body.innerText.includes('owned')"
        page.open(f"{own}/artifacts/artifact/{artifact}", until=shown)
        assert "owned" not in page.value("document.title")
        assert page.value(f"document.querySelectorAll({LIVE!r}).length") == 0
    assert strangers(page, own) == []
