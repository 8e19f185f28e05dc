"""What a run will cost, said before it is begun."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from eurekaflow.flows import cli
from eurekaflow.flows.forecast import Pace, forecast, one_step, pace, sentences
from eurekaflow.models.archive import Archive
from eurekaflow.models.settings import RunConfig, preset_values
from eurekaflow.models.spending import Spent
from eurekaflow.tasks.metering import cost
from tests.archives import expand, new_run, seeds

pytest_plugins = ("tests.archive_fixtures",)
PRICES = {"price_input": 0.18, "price_output": 0.44, "price_trained": 0.52}


def config(**settings: object) -> RunConfig:
    sizes = {**preset_values("paper"), "problem": "erdos", **PRICES, **settings}
    return RunConfig.model_validate(sizes)


def test_the_papers_run_costs_447_and_535_with_the_kl_pass() -> None:
    found = forecast(config(), cpus=2)
    assert round(found.money_tokens) == 447
    assert round(found.money) == 535
    assert round(forecast(config(kl=0.0)).money) == 447
    assert (found.attempts, found.tokens_in, found.tokens_out) == (25_600, 76_800_000, 409_600_000)
    assert round(found.verify_cpu_hours, -2) == 14_200


def test_qwen_at_its_prices_costs_432() -> None:
    prices = {"price_input": 0.13, "price_output": 0.40, "price_trained": 0.40}
    assert round(forecast(config(**prices)).money) == 432


def test_the_command_says_it_and_starts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("EUREKA_HOME", str(tmp_path))
    given = [word for k, v in PRICES.items() for word in ("--set", f"{k}={v}")]
    command = ["run", "erdos", "--dry-run", "--preset", "paper", *given]
    assert cli.main(command) == 0
    assert "about 447, or 535 with the KL pass" in capsys.readouterr().out
    assert cli.main([*command, "--json"]) == 0
    assert round(json.loads(capsys.readouterr().out)["forecast"]["money"]) == 535


def test_a_budget_that_will_not_do_is_named() -> None:
    small = config(max_money=100, max_attempts=30_000)
    said = [line for line in sentences(small, forecast(small)) if line.startswith("budget")]
    assert said == ["budget: max_money = 100.00 ends it before the last step"]


def test_lengths_that_nobody_measured_are_bounds() -> None:
    unknown = config(mean_prompt=None, mean_response=None)
    assert "at most" in sentences(unknown, forecast(unknown))[0]


def test_what_was_spent_is_priced_by_token_and_by_hour() -> None:
    prices = config(price_cpu_hour=0.5, price_gpu_hour=3.0)
    spent = Spent(tokens_in=10**6, tokens_out=10**6, tokens_trained=10**6, cpu_s=7200, gpu_s=1800)
    assert cost(spent, prices) == pytest.approx(0.18 + 0.44 + 0.52 + 1.0 + 1.5)


def test_without_a_measured_run_its_time_is_unknown_in_words() -> None:
    found = forecast(config())
    assert found.gpu_hours is None
    assert "GPU hours in all: unknown" in "\n".join(sentences(config(), found))


def test_hours_are_those_of_a_measured_run_and_budgets_are_held_against_them() -> None:
    measured = Pace(run=uuid4(), steps=4, seconds=90.0, cpu_s=120.0, gpu_s=72.0)
    limited = config(max_gpu_hours=0.9)
    said = sentences(limited, forecast(limited, measured=measured))
    short = str(measured.run)[:8]
    told = "time: about 1 h 15 min, 1.67 CPU and 1.00 GPU hours, at the pace of run "
    assert f"{told}{short}, 4 steps" in said
    assert "budget: max_gpu_hours = 0.90 ends it before the last step" in said


@pytest.mark.services
def test_the_newest_run_of_the_same_sizes_sets_the_pace(archive: Archive) -> None:
    for steps, group_size in ((2, 64), (1, 64), (1, 8)):
        same = config(group_size=group_size)
        run = new_run(archive, **same.model_dump(mode="json"))
        with archive.hold(run.id, owner="test") as hold:
            archive.add_seeds(hold, seeds(-1.0))
            [seed] = (row.id for row in archive.attempts(run.id, -1))
            for step in range(steps):
                expand(archive, hold, step, [(seed, [-0.5, None])])
                archive.stage_done(hold, step, "sample", 60.0)
                archive.add_ledger(hold, step, "sample", cpu_s=30.0, gpu_s=20.0 * steps)
                archive.commit_step(hold, step)
    new_run(archive, **config().model_dump(mode="json"))  # not measured
    found = pace(archive.url, config())
    assert found is not None
    assert (found.steps, found.cpu_s, found.gpu_s) == (1, 30.0, 20.0)
    assert found.seconds >= 60.0
    assert pace(archive.url, config(model="another")) is None


def test_the_first_step_is_expected_to_cost_what_the_forecast_says() -> None:
    measured = Pace(run=uuid4(), steps=4, seconds=90.0, cpu_s=3600.0, gpu_s=72.0)
    found = one_step(config(price_cpu_hour=2.0), measured)
    assert found.money - 2.0 == pytest.approx(forecast(config()).money / 50)
    assert (found.cpu_s, found.gpu_s) == (3600.0, 72.0)
    unknown = config(mean_prompt=None, mean_response=None)
    assert one_step(unknown, None) == Spent()
