"""Configuration: precedence, sources, and refusals that name where the fault is."""

from __future__ import annotations

from pathlib import Path

import pytest

from eurekaflow.flows.configure import resolve, surroundings
from eurekaflow.flows.setting_sources import parse_assignments
from eurekaflow.models.errors import UsageError
from eurekaflow.models.settings import PRESETS


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_flags_win_over_environment_over_file_over_preset(tmp_path: Path) -> None:
    (tmp_path / "eureka.toml").write_text("lr = 1e-5\nkl = 0.2\ngroups = 3\n")
    environment = {"EUREKA_LR": "2e-5", "EUREKA_KL": "0.3"}
    found = resolve("erdos", preset="small-cpu", overrides={"lr": 3e-5}, environ=environment)
    assert (found.config.lr, found.config.kl, found.config.groups) == (3e-5, 0.3, 3)
    assert found.config.max_new_tokens == PRESETS["small-cpu"]["max_new_tokens"]
    sources = {name: found.sources[name] for name in ("lr", "kl", "groups", "max_new_tokens")}
    assert sources == {
        "lr": "--lr",
        "kl": "EUREKA_KL",
        "groups": "eureka.toml",
        "max_new_tokens": "preset small-cpu",
    }


def test_every_setting_has_a_source() -> None:
    found = resolve("erdos", environ={})
    assert all(source for _, _, source in found.rows())
    assert {name for name, _, _ in found.rows()} == set(type(found.config).model_fields)


def test_auto_takes_the_cpu_preset_where_the_gpu_is_hidden() -> None:
    found = resolve("erdos", preset="auto", environ={"CUDA_VISIBLE_DEVICES": ""})
    assert found.config.preset == "small-cpu"
    assert found.sources["preset"] == "auto"


def test_the_papers_model_takes_the_papers_sizes() -> None:
    found = resolve("erdos", overrides={"model": "openai/gpt-oss-120b"}, environ={})
    assert (found.config.preset, found.config.group_size) == ("paper", 64)


def test_steps_given_alone_drop_the_presets_time_limit() -> None:
    found = resolve("erdos", preset="small-cpu", overrides={"steps": 15}, environ={})
    assert (found.config.steps, found.config.minutes) == (15, None)


def test_minutes_given_alone_drop_the_presets_steps() -> None:
    found = resolve("erdos", preset="small-cpu", overrides={"minutes": 30}, environ={})
    assert found.config.minutes == 30
    assert found.config.min_steps == 1
    assert found.config.steps >= 1000


def test_steps_and_minutes_given_together_both_apply() -> None:
    found = resolve("erdos", overrides={"minutes": 30, "steps": 4}, environ={})
    assert (found.config.steps, found.config.minutes) == (4, 30)


def test_none_unsets_what_may_be_unset() -> None:
    found = resolve("erdos", preset="small-cpu", environ={"EUREKA_MINUTES": "none"})
    assert (found.config.minutes, found.config.steps) == (None, PRESETS["small-cpu"]["steps"])


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"EUREKA_LR": "fast"}, ["EUREKA_LR", "lr", "'fast'", "above 0"]),
        ({"EUREKA_REUSE": "best"}, ["EUREKA_REUSE", "'best'", "puct, greedy, fixed"]),
        ({"EUREKA_GROUPSIZE": "8"}, ["EUREKA_GROUPSIZE", "group_size"]),
        ({"EUREKA_PRESET": "huge"}, ["EUREKA_PRESET", "'huge'", "small-cpu"]),
        ({"EUREKA_GROUP_SIZE": "2"}, ["group_size is 2", "at least 4"]),
        ({"EUREKA_CONFIG": "missing.toml"}, ["missing.toml"]),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_allowed(
    environment: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("erdos", environ=environment)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("lr = ", ["my.toml", "not valid TOML"]),
        ("lrr = 1", ["my.toml", "'lrr'", "lr"]),
        ("steps = 0", ["my.toml", "steps = 0", "at least 1"]),
        ("problem = 'ac1'", ["my.toml", "'problem'"]),
        ("[run]\nlr = 1", ["my.toml", "'run'"]),
    ],
)
def test_a_wrong_file_is_named_with_key_and_value(
    tmp_path: Path, content: str, words: list[str]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text(content)
    with pytest.raises(UsageError) as caught:
        resolve("erdos", config_file=file, environ={})
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("text", ["lr", "=1", "nothing=1", "lr=1"])
def test_a_wrong_assignment_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_assignments([text], given={"lr": 1e-3})


def test_an_assignment_may_hold_an_equals_sign_and_dashes() -> None:
    found = parse_assignments(["model=/a=b", "max-new-tokens=9"])
    assert found == {"model": "/a=b", "max_new_tokens": "9"}


def test_home_follows_eureka_home_then_xdg(tmp_path: Path) -> None:
    assert surroundings({"XDG_DATA_HOME": str(tmp_path)}).home == tmp_path / "eurekaflow"
    both = {"XDG_DATA_HOME": "/x", "EUREKA_HOME": str(tmp_path)}
    assert surroundings(both).home == tmp_path
    assert surroundings({}).home == Path.home() / ".local/share/eurekaflow"


def test_an_empty_database_url_means_the_embedded_server() -> None:
    assert surroundings({"EUREKA_DATABASE_URL": ""}).database_url is None


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_a_postgres_url_is_the_same_url(scheme: str) -> None:
    here = surroundings({"EUREKA_DATABASE_URL": f"{scheme}://me:p%40@/x?host=/run/own"})
    assert here.database_url == "postgresql://me:p%40@/x?host=/run/own"


@pytest.mark.parametrize(
    "url",
    [
        "garbage",
        "mysql://x/y",
        "host=/run dbname=x",
        "postgresql://",
        "postgresql://h:port/x",
        "postgresql://[::1/x",
        "postgresql://me:p%zz@h/x",
        "postgresql://h/x?nonsense=1",
        "postgresql://h/x?connect_timeout=soon",
    ],
)
def test_a_database_url_that_cannot_be_is_refused_at_the_edge(url: str) -> None:
    with pytest.raises(UsageError, match="EUREKA_DATABASE_URL is ") as refused:
        surroundings({"EUREKA_DATABASE_URL": url})
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("setting", ["lr", "target", "minutes", "max_money", "budget_s"])
@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
def test_a_setting_is_a_finite_number(setting: str, number: str) -> None:
    with pytest.raises(UsageError, match=f": {setting} = .*finite"):
        resolve("erdos", overrides={setting: number}, environ={})
