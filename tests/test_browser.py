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
        home.eureka("run", "erdos", "--steps", "3", *home.sizes)
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
    assert "ValueError: invalid literal for int() with base 10: '<script>" in shown


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
    assert page.complaints == []
    assert strangers(page, own) == []


def test_what_candidates_write_is_text_on_prefects_page(run: Hostile, page: Tab) -> None:
    own = origin(run)
    found = run.home.api("artifacts/filter", {"artifacts": {"type": {"any_": ["markdown"]}}})
    [report] = [a for a in found if "owned" in str(a["data"])]
    page.open(
        f"{own}/artifacts/artifact/{report['id']}", until="/owned/.test(document.body.innerText)"
    )
    assert "owned" not in page.value("document.title")
    assert (
        page.value("document.querySelectorAll('main img[onerror], a[href^=javascript]').length")
        == 0
    )
    assert strangers(page, own) == []
    assert not re.search("outside.invalid", " ".join(page.asked))
