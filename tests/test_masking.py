"""Secrets are in no message, no representation, no log and no stored configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eurekaflow.flows import cli
from eurekaflow.flows.configure import Surroundings
from eurekaflow.models.errors import ArchiveUnavailable
from eurekaflow.models.masking import mask
from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks.session import Place

URL = "postgresql://me:hunter2secret@db.example/archive"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (URL, "postgresql://me:***@db.example/archive"),
        (
            "host=db user=me password=hunter2secret dbname=x",
            "host=db user=me password=*** dbname=x",
        ),
        ("OPENAI_API_KEY=hunter2secret", "OPENAI_API_KEY=***"),
        ('{"api_key": "hunter2secret"}', '{"api_key": "***"}'),
        ("Authorization: Bearer hunter2secret", "Authorization: Bearer ***"),
        ("key sk-hunter2secret0123456789 refused", "key *** refused"),
        ("redis://:hunter2secret@cache:6379/0", "redis://:***@cache:6379/0"),
    ],
)
def test_secrets_of_every_shape_are_masked(text: str, kept: str) -> None:
    assert mask(text) == kept


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:4200/api", "postgresql:///archive?host=/tmp/x", "512 tokens a second",
     "max_new_tokens = 40", "no module named tokenizers", "git@host:project"],
)  # fmt: skip
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert mask(text) == text


def test_errors_and_representations_do_not_show_them(tmp_path: Path) -> None:
    error = ArchiveUnavailable(f"cannot reach {URL}", f"psql {URL}")
    place = Place(home=tmp_path, database_url=URL)
    here = Surroundings(home=tmp_path, database_url=URL, prefect_api_url=URL)
    for shown in (str(error), repr(error), error.message, repr(place), repr(here)):
        assert "hunter2secret" not in shown


def test_the_doctor_and_failing_commands_do_not_show_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", "postgresql://me:hunter2secret@127.0.0.1:9/none")
    monkeypatch.setenv("EUREKA_DEBUG", "1")
    for command in (["doctor"], ["doctor", "--json"], ["runs"], ["db", "status"]):
        cli.main(command)
    shown = capsys.readouterr()
    assert "hunter2secret" not in shown.out + shown.err
    assert "127.0.0.1" in shown.out + shown.err


def test_a_secret_in_a_setting_is_refused_before_it_is_stored() -> None:
    with pytest.raises(ValueError, match=r"holds a secret .*me:\*\*\*@") as caught:
        RunConfig(problem="erdos", model="https://me:hunter2secret@hub.example/model")
    assert "environment" in str(caught.value)
    assert "hunter2secret" not in str(caught.value)


def test_the_stored_configuration_has_no_field_for_a_secret() -> None:
    names = json.dumps(RunConfig.model_json_schema()["properties"]).lower()
    assert not [word for word in ("password", "api_key", "secret") if word in names]
