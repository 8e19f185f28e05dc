"""Escaping: whatever a candidate writes is stored readably and comes back as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eurekaflow.models.archive import Archive, Hold, VerdictRow
from eurekaflow.models.text import escape, from_bytes, plain_json, to_bytes, unescape
from tests.archives import planned, response, seeds

pytest_plugins = ("tests.archive_fixtures",)

ANY_TEXT = st.text(st.characters(exclude_categories=()))
NASTY = "a\x00b\ud800c\udcffd\\u{0}e\\\\u{5c}" + from_bytes(bytes(range(256)))


@given(ANY_TEXT)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert unescape(escape(text)) == text


@given(ANY_TEXT)
def test_escaped_text_is_valid_for_postgres(text: str) -> None:
    stored = escape(text)
    assert "\x00" not in stored
    stored.encode("utf-8")


@given(st.text(st.sampled_from("\\u{0}5c\x00\ud800")), st.text(st.sampled_from("\\u{0}5c\x00")))
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(st.text(st.characters(exclude_characters="\x00\\", exclude_categories=["Cs"])))
def test_ordinary_text_is_stored_as_it_reads(text: str) -> None:
    assert escape(text) == text


def test_an_ordinary_backslash_is_stored_as_it_reads() -> None:
    assert escape(r"\n \u0041 C:\users") == r"\n \u0041 C:\users"


@given(st.binary())
def test_any_bytes_survive_the_way_through_text(data: bytes) -> None:
    assert to_bytes(unescape(escape(from_bytes(data)))) == data


def test_jsonb_never_gets_a_number_that_is_none() -> None:
    value = {
        "a\x00": [float("nan"), float("inf"), np.float64(1.5)],
        "b": (np.int64(1), np.True_, None),
    }
    stored = json.dumps(plain_json(value))
    assert stored == r'{"a\\u{0}": [null, null, 1.5], "b": [1, true, null]}'


@pytest.mark.services
def test_nasty_texts_survive_the_database(archive: Archive, hold: Hold) -> None:
    archive.add_seeds(hold, seeds(0.0))
    seed = archive.attempts(hold.run_id, -1)[0]
    archive.plan(hold, 0, [planned(seed.id, size=1)])
    archive.store_responses(hold, 0, 0, [response(0, NASTY)])
    pending = archive.unverified(hold.run_id, 0)[0]
    stored = VerdictRow(
        attempt_id=pending.attempt_id,
        outcome="raised",
        message=NASTY,
        program=NASTY,
        stdout=NASTY,
        worker=NASTY,
        metrics={NASTY: float("nan")},
    )
    archive.store_verdicts(hold, 0, [stored])
    row = archive.attempt(pending.attempt_id)
    assert pending.response == archive.response(row.id) == NASTY
    assert archive.program(row.id) == archive.stdout(row.id) == row.message == NASTY
