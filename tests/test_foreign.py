"""Other people's problem folders, unmodified: each in the sandbox, by its own evaluator's word."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurekaflow.flows.configure import resolve
from eurekaflow.verifiers import evolve_block, foreign_driver
from eurekaflow.verifiers.answers import parse
from eurekaflow.verifiers.fitness import (
    VARIANTS,
    distinct_programs,
    evaluator_noise,
    variants,
)
from eurekaflow.verifiers.foreign import ForeignProblem, load
from eurekaflow.verifiers.foreign_folder import read
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.problem import InvalidAnswer, Problem, ProblemUnusable, Seed, Verdict
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.safety import Bench
from eurekaflow.verifiers.sandbox import Cause, Execution, Sandbox, SandboxUnavailable

FOLDERS = Path(__file__).parent / "foreign"
NAMES = sorted(path.name for path in FOLDERS.iterdir() if path.is_dir())
VALUES = {
    "alarm_timeout": (-0.001, -0.0009),
    "circle_packing": (0.36, 0.37),
    "filter_with_config": (0.57, 0.58),
    "function_minimization": (0.5, 1.0),
    "process_timeout": (1.0, 1.0),
}
BETTER_PACKING = """\
import numpy as np
def construct_packing():
    grid = (np.arange(5) + 0.5) / 5
    centers = np.array([(x, y) for x in grid for y in grid] + [(0.2, 0.2)])
    radii = np.append(np.full(25, 0.1), np.sqrt(2) / 10 - 0.1)
    return centers, radii, radii.sum()
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    try:
        opened = ProcessSandbox(1, required=frozenset({"private-tmp"}))
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(1) as opened:
        yield opened


def executed(sandbox: Sandbox, problem: Problem, program: str) -> Execution:
    job = problem.job(problem.complete(program), parent=None, seed=0, budget_s=1.0)
    return sandbox.run(job, problem.limits(budget_s=1.0))


def judged(sandbox: Sandbox, judge: Judge, name: str, program: str) -> Verdict:
    execution = executed(sandbox, load(FOLDERS / name), program)
    return judge.verdict(str(FOLDERS / name), execution)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_folder_runs_unmodified(name: str, sandbox: Sandbox, judge: Judge) -> None:
    verdict = judged(sandbox, judge, name, read(FOLDERS / name).program)
    assert verdict.value is not None, verdict
    low, high = VALUES[name]
    assert low <= verdict.value <= high
    assert verdict.reward > 0
    assert verdict.mode == "training"


@pytest.mark.slow
def test_a_new_block_alone_scores_with_the_rest_of_the_file(
    sandbox: Sandbox, judge: Judge
) -> None:
    verdict = judged(sandbox, judge, "circle_packing", BETTER_PACKING)
    assert verdict.value == pytest.approx((2.5 + np.sqrt(2) / 10 - 0.1) / 2.635)
    assert verdict.metrics["validity"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "block", "reason"),
    [
        ("circle_packing", "def construct_packing():\n    return nothing\n", "not defined"),
        ("function_minimization", "x = 1", "All trials failed|search_algorithm"),
        ("alarm_timeout", "while True: pass", "more than two seconds"),
        ("filter_with_config", "def smooth(signal):\n    return signal[1:]", "changed the length"),
        ("process_timeout", "def sort(values):\n    return values[::-1]", "nothing is sorted"),
        ("alarm_timeout", "def approximate(:", "SyntaxError|invalid syntax"),
    ],
)
def test_what_the_evaluator_reports_as_failed_is_invalid(
    name: str, block: str, reason: str, sandbox: Sandbox, judge: Judge
) -> None:
    verdict = judged(sandbox, judge, name, block)
    assert (verdict.value, verdict.reward) == (None, 0.0)
    assert re.search(reason, verdict.message), verdict


@pytest.mark.slow
def test_an_endless_candidate_is_ended_by_the_limits(sandbox: Sandbox) -> None:
    problem = load(FOLDERS / "filter_with_config")
    job = problem.job("while True:\n    pass", parent=None, seed=0, budget_s=1.0)
    limits = replace(problem.limits(budget_s=1.0), wall_s=1.0)
    assert sandbox.run(job, limits).cause is Cause.TIMEOUT


PROBE = """
import os, socket, subprocess, sys
def denied(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False
here = os.path.dirname(sys.modules["evaluation_module"].__file__)
facts = {
    "network": denied(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
    "unix": denied(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)),
    "child": subprocess.run([sys.executable, "-c",
        "import socket; socket.create_connection(('127.0.0.1', 1))"],
        capture_output=True).returncode != 0,
    "original": not os.path.exists(ORIGINAL),
    "home": denied(lambda: os.mkdir("/usr/x")) and denied(lambda: os.mkdir("/x")),
    "hidden": not os.path.exists(here + "/.env"),
    "keys": "sk-not" not in open(here + "/config_phase_1.yaml").read(),
    "alone": sorted(os.listdir("/proc")) == [] if os.path.exists("/proc") else True,
}
print({name for name, held in facts.items() if not held} or "walls hold")
"""


@pytest.mark.slow
def test_the_walls_stand_around_evaluator_and_candidate(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "packing"
    shutil.copytree(FOLDERS / "circle_packing", folder)
    (folder / ".env").write_text("KEY=secret")
    (folder / "evaluator.py").write_text(
        "def evaluate(path):\n"
        f"    exec(open(path).read(), dict(ORIGINAL={str(folder)!r}))\n"
        "    return {'x': 1}\n"
    )
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    execution = executed(sandbox, load(folder), f"# EVOLVE-BLOCK-START\n{PROBE}# EVOLVE-BLOCK-END")
    assert "walls hold" in execution.stdout.decode(), execution
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


CASCADE = """
from openevolve.evaluation_result import EvaluationResult
def evaluate(path):
    return {"combined_score": -1.0}
def evaluate_stage1(path):
    return EvaluationResult(metrics={"combined_score": float(open(path).read()), "first": 1})
def evaluate_stage2(path):
    return {"combined_score": 0.8, "second": True}
def evaluate_stage3(path):
    raise ValueError("broken")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "config", "value", "metrics"),
    [
        ("0.4", "", 0.4, {"combined_score", "first"}),
        ("0.6", "", 0.8, {"combined_score", "first", "stage3_passed"}),
        ("0.6", "evaluator: {cascade_thresholds: [0.7, 0.9]}", 0.6, {"combined_score", "first"}),
        ("0.9", "evaluator: {cascade_thresholds: [0.7, 0.9]}", 0.8, {"combined_score", "first"}),
        ("0.9", "evaluator: {cascade_evaluation: false}", -1.0, {"combined_score"}),
    ],
)
def test_stages_follow_the_thresholds_of_the_configuration(
    first: str, config: str, value: float, metrics: set[str], sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "evaluator.py").write_text(CASCADE)
    (tmp_path / "initial_program.py").write_text(first)
    (tmp_path / "config.yaml").write_text(config)
    problem = load(tmp_path)
    execution = executed(sandbox, problem, first)
    assert execution.result is not None, execution
    judgement = problem.judge(parse(execution.result))
    assert judgement.value == value
    assert set(judgement.metrics) == metrics


UTILS = """
import asyncio
from openevolve.utils import run_in_executor
from openevolve.utils.code_utils import calculate_edit_distance, parse_evolve_blocks
from openevolve.utils.format_utils import format_metrics_safe
from openevolve.utils.metrics_utils import get_fitness_score, safe_numeric_average

def evaluate(path):
    text = open(path).read()
    metrics = {"a": 1.0, "b": 3, "nan": float("nan"), "text": "x", "size": 9.0}
    assert format_metrics_safe({"a": 1.0, "s": "x"}) == "a=1.0000, s=x"
    assert calculate_edit_distance("kitten", "sitting") == 3
    return {
        "combined_score": get_fitness_score(metrics, ["size"]),
        "mean": safe_numeric_average({"a": 1, "b": 2.0}),
        "blocks": len(parse_evolve_blocks(text)),
        "later": asyncio.run(run_in_executor(pow, 2, 3)),
    }
"""


@pytest.mark.slow
def test_evaluators_find_the_functions_of_openevolve_that_they_use(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "evaluator.py").write_text(UTILS)
    initial = "# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\n"
    (tmp_path / "initial_program.py").write_text(initial)
    problem = load(tmp_path)
    execution = executed(sandbox, problem, initial)
    assert execution.result is not None, execution
    metrics = parse(execution.result)["metrics"]  # type: ignore[index]
    assert metrics == {"combined_score": 2.0, "mean": 1.5, "blocks": 1.0, "later": 8.0}


@pytest.mark.slow
def test_a_part_of_openevolve_that_is_not_there_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "evaluator.py").write_text(
        "from openevolve.database import ProgramDatabase\ndef evaluate(path):\n    return {}\n"
    )
    (tmp_path / "initial_program.py").write_text("x = 1\n")
    execution = executed(sandbox, load(tmp_path), "x = 1\n")
    assert b"openevolve.database is no part of the stand-in" in (execution.result or b"")


def valued(**metrics: object) -> float:
    answer = {"metrics": metrics, "stage": 0}
    return ForeignProblem.judge(load(FOLDERS / "filter_with_config"), answer).value


def test_the_value_is_the_combined_score_else_the_mean_without_features() -> None:
    assert valued(combined_score=0.3, accuracy=0.9) == 0.3
    assert valued(accuracy=0.2, speed=0.6, complexity=99.0, valid=True, error=5.0, note="x") == (
        pytest.approx(0.4)
    )


@pytest.mark.parametrize(
    "metrics",
    [
        {"combined_score": "nan"},
        {"combined_score": True},
        {"combined_score": None},
        {"note": "no number"},
        {"combined_score": 0.0, "error": "it broke"},
        {"combined_score": -1e9, "valid": 0.0},
        {"accuracy": 0.0, "timeout": True},
    ],
)
def test_metrics_without_an_honest_value_are_invalid(metrics: dict[str, object]) -> None:
    with pytest.raises(InvalidAnswer):
        valued(**metrics)


def test_what_the_evaluator_says_went_wrong_is_the_reason() -> None:
    with pytest.raises(InvalidAnswer, match="the evaluator reports: no points"):
        valued(error="no points")


@pytest.mark.parametrize(
    ("returned", "metrics", "artifacts"),
    [
        ({"metrics": {"combined_score": 0.5}, "artifacts": {"a": 1}},
         {"combined_score": 0.5}, {"a": 1}),
        ({"combined_score": 0.5, "artifacts": {"a": 1}}, {"combined_score": 0.5}, {"a": 1}),
        ({"validity": 0, "combined_score": (0.8, 3.2), "metrics": {"runs": 5}},
         {"validity": 0.0, "combined_score": "(0.8, 3.2)", "metrics": "{'runs': 5}"}, {}),
    ],
    ids=["metrics and artifacts", "artifacts beside the score", "a score beside metrics"],
)  # fmt: skip
def test_a_score_is_read_where_the_evaluator_puts_it(
    returned: dict[str, Any], metrics: dict[str, Any], artifacts: dict[str, Any]
) -> None:
    assert foreign_driver._asked(lambda path: returned, "") == (metrics, artifacts)


def test_any_valid_program_earns_more_than_a_failure_and_better_ones_more() -> None:
    problem = load(FOLDERS / "circle_packing")
    values = [-1e9, -2.0, -1e-9, 0.0, 1e-9, 0.5, 40.0]
    rewards = [problem.reward(value) for value in values]
    assert rewards == sorted(set(rewards))
    assert rewards[0] > 0


def test_the_frame_is_kept_whatever_the_answer_says_around_the_block() -> None:
    initial = "import a\n# EVOLVE-BLOCK-START\nold\n# EVOLVE-BLOCK-END\nfixed()\n"
    whole = "import a\n# EVOLVE-BLOCK-START\nnew\n# EVOLVE-BLOCK-END\nfixed()\n"
    assert evolve_block.complete(initial, "new") == whole
    assert evolve_block.complete(initial, whole.replace("fixed()", "cheat()")) == whole
    assert evolve_block.complete(initial, r"a = '\1 \g<0>'").count(r"\1 \g<0>") == 1
    assert evolve_block.complete("no markers", "new") == "new"
    assert evolve_block.excerpt(whole) == "new\n"
    assert evolve_block.excerpt("no markers") == "no markers"


def test_the_model_is_shown_the_task_the_block_and_what_stays() -> None:
    problem = load(FOLDERS / "circle_packing")
    full, brief = problem.statement(), problem.statement(brief=True)
    assert "expert mathematician" in full
    assert "def run_packing" in full
    assert "def construct_packing" not in full
    assert len(brief) < 700
    assert "`construct_packing`" in brief
    shown = problem.excerpt(load(FOLDERS / "circle_packing").folder.program)  # type: ignore[attr-defined]
    assert "def construct_packing" in shown
    assert "def run_packing" not in shown


def test_the_check_tells_how_far_an_evaluator_disagrees_with_itself() -> None:
    assert evaluator_noise([0.5, 0.5, 0.501]).status == "pass"
    assert evaluator_noise([0.5, 0.6]).status == "warn"
    assert evaluator_noise([]).status == "warn"


def test_programs_near_the_initial_one_have_one_number_changed() -> None:
    program = "def f2(x):\n    return 0.5 * x + 10 - 1e-3 * 0x10\n"
    found = variants(program)
    assert 3 <= len(set(found)) == len(found) <= VARIANTS
    pairs = [
        [(a, b) for a, b in zip(changed.split(), program.split(), strict=True) if a != b]
        for changed in found
    ]
    assert all(len(different) == 1 for different in pairs)
    assert {different[0][1] for different in pairs} == {"0.5", "10", "1e-3"}
    assert {different[0][0] for different in pairs} >= {"9", "11"}
    assert variants("def f(x):\n    return x\n") == []


@pytest.mark.parametrize(
    ("score", "status", "said"),
    [("X", "pass", "answers near a seed"), ("1.0 if X > 0 else 0.0", "warn", "pass or fail"),
     ("1 / (X == 2.5)", "warn", "0 are valid")],
)  # fmt: skip
def test_the_check_looks_for_distinct_values_near_the_initial_program(
    tmp_path: Path, sandbox: Sandbox, judge: Judge, score: str, status: str, said: str
) -> None:
    (tmp_path / "initial_program.py").write_text("X = 2.5\n")
    (tmp_path / "evaluator.py").write_text(
        "import runpy\ndef evaluate(path):\n    X = runpy.run_path(path)['X']\n"
        f"    return {{'combined_score': {score}}}\n"
    )
    problem = load(tmp_path)
    bench = Bench(spec=str(tmp_path), problem=problem, judge=judge, sandbox=sandbox, budget_s=1.0)
    found = distinct_programs(bench, Seed(value=1.0, program="X = 2.5\n"))
    assert (found.name, found.status) == ("distinct values", status)
    assert said in found.message


def test_the_small_presets_leave_room_for_a_whole_block() -> None:
    def found(**flags: object) -> tuple[int, str]:
        made = resolve(
            str(FOLDERS / "circle_packing"), preset="small-cpu", overrides=flags, environ={}
        )
        return made.config.max_new_tokens, made.sources["max_new_tokens"]

    tokens, source = found()
    assert 400 < tokens < 1024
    assert source == "problem"
    assert found(max_new_tokens=60)[0] == 60


def test_the_limits_are_the_folders_own() -> None:
    packing, filtering = load(FOLDERS / "circle_packing"), load(FOLDERS / "filter_with_config")
    assert packing.limits(budget_s=1).wall_s == 2 * 60 + 10
    assert filtering.limits(budget_s=1).wall_s == 30 + 10
    assert packing.limits(budget_s=1).processes > 1


def test_another_file_is_another_version_and_no_name_is_ours(tmp_path: Path) -> None:
    folder = tmp_path / "erdos"
    shutil.copytree(FOLDERS / "alarm_timeout", folder)
    first = load(folder)
    (folder / "data.txt").write_text("x")
    second = load(folder)
    assert first.name == second.name == "foreign:erdos"
    assert first.version != second.version
    assert first.trust == "foreign"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "evaluator.py"),
        ({"evaluator.py": ""}, "initial_program.py"),
        ({"evaluator.py": "", "a.py": "", "b.py": ""}, "found: a.py, b.py"),
        ({"evaluator.py": "", "initial_program.rs": ""}, "no Python program"),
        ({"evaluator.py": "", "a.py": "", "config.yaml": "a: [1"}, "not YAML"),
    ],
)
def test_a_folder_that_is_no_problem_says_what_is_missing(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ProblemUnusable, match=message):
        load(tmp_path)


@pytest.mark.slow
def test_a_start_without_a_value_says_why_and_what_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "evaluator.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "initial_program.py").write_text("")
    (tmp_path / "requirements.txt").write_text("numpy\nnowhere-to-be-found>=1\n")
    with pytest.raises(ProblemUnusable) as raised:
        load(tmp_path).prove()
    assert "No module named 'nowhere_to_be_found'" in str(raised.value)
    assert "by requirements.txt: nowhere-to-be-found" in str(raised.value)
    assert raised.value.fix == "pip install nowhere-to-be-found"
