"""The kernel problems where there is no GPU: cases, rules, answers, records."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from eurekaflow.flows import hardware, launch
from eurekaflow.flows.cli import main
from eurekaflow.flows.configure import resolve
from eurekaflow.flows.running import summary_text
from eurekaflow.models.errors import UsageError
from eurekaflow.models.states import RunState
from eurekaflow.tasks.session import Session
from eurekaflow.verifiers import gpu_problem, gpu_source, kernel_config, trimul_texts
from eurekaflow.verifiers.contest_trial import Trial
from eurekaflow.verifiers.gpu_plan import Plan
from eurekaflow.verifiers.gpu_problem import Kernel, records_of
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import InvalidAnswer, Outcome, PrerequisiteAbsent, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution

NAMES = ("trimul", "mla-decode", "kernel-config")
STARTER = Path(gpu_problem.__file__).parent / "trimul_kernel.py"
MINIMAL = "import triton\n@triton.jit\ndef k(x):\n    pass\ndef custom_kernel(data):\n    pass\n"


def kernel(name: str) -> Kernel:
    found = load(name)
    assert isinstance(found, Kernel)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_without_a_gpu_verify_says_so_and_exits_with_3(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> None:
        raise PrerequisiteAbsent("kernels are measured on an NVIDIA GPU", "use a machine with one")

    monkeypatch.setattr(gpu_problem, "require_gpu", absent)
    (tmp_path / "kernel.py").write_text(MINIMAL)
    assert main(["verify", name, str(tmp_path / "kernel.py"), "--strict"]) == 3
    assert "NVIDIA GPU" in capsys.readouterr().err


def test_the_machine_is_asked_for_its_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_problem, "GPUS", tmp_path)
    assert gpu_problem.gpu_model() == ""
    (tmp_path / "0000:00:04.0").mkdir()
    (tmp_path / "0000:00:04.0/information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\n")
    assert gpu_problem.gpu_model() == "NVIDIA H100 80GB HBM3"


def test_records_are_those_of_this_gpu_and_an_unlisted_one_has_none() -> None:
    listed = records_of(trimul_texts.RECORDS, "NVIDIA H100 80GB HBM3")
    assert [record.score for record in listed] == [1371.1, 1161.2]
    assert records_of(trimul_texts.RECORDS, "NVIDIA H200") == ()
    assert records_of(trimul_texts.RECORDS, "") == ()


def test_what_we_measured_is_listed_on_its_gpu_alone_and_is_no_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = records_of(trimul_texts.OURS, "NVIDIA H200")
    assert {r.kind for r in ours} == {"ours"}
    assert all(r.source and r.mode for r in ours)
    assert records_of(trimul_texts.OURS, "NVIDIA H100 80GB HBM3") == ()
    problem = kernel("trimul")
    monkeypatch.setattr(type(problem), "records", ours)
    assert problem.record() is None
    published = records_of(trimul_texts.RECORDS, "NVIDIA H100")
    monkeypatch.setattr(type(problem), "records", (*published, *ours))
    assert problem.record() == published[1]


def test_only_a_program_of_checked_numbers_runs_without_walls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[gpu_problem.Bench] = []

    def trial(bench: gpu_problem.Bench, program: str, plan: object) -> Trial:
        made.append(bench)
        failed = Verdict(outcome=Outcome.INVALID, message="")
        return Trial(verdict=failed, execution=Execution(cause=Cause.RETURNED))

    monkeypatch.setattr(gpu_problem.Bench, "trial", trial)
    kernel("kernel-config").try_out("{}")
    kernel("trimul").try_out(MINIMAL)
    assert [(bench.confined, bool(bench.cache)) for bench in made] == [
        (False, True),
        (True, False),
    ]


@pytest.mark.parametrize(
    ("mode", "processes", "calls"), [("training", 1, 20), ("strict", 7, 10), ("official", 7, 10)]
)
def test_a_mode_that_is_asked_for_is_timed_in_several_processes(
    mode: str, processes: int, calls: int
) -> None:
    plans: list[Plan] = []

    def trial(program: str, plan: Plan) -> Trial:
        plans.append(plan)
        failed = Verdict(outcome=Outcome.INVALID, message="")
        return Trial(verdict=failed, execution=Execution(cause=Cause.RETURNED))

    bench: Any = SimpleNamespace(device={}, trial=trial)
    kernel("trimul").try_out(MINIMAL, mode=mode, bench=bench)
    assert [(plan.processes, plan.calls) for plan in plans] == [(processes, calls)]


def test_the_cases_are_the_published_ones() -> None:
    plan = kernel("trimul").plan("strict")
    assert [len(plan.tests), len(plan.benchmarks), plan.calls] == [18, 7, 20]
    shapes = [(c["n"], c["b"], c["c"]) for c in plan.benchmarks]
    assert shapes == [(256, 2, 128), (768, 1, 128), (256, 2, 384), (512, 1, 128), (1024, 1, 128),
                      (768, 1, 384), (1024, 1, 384)]  # fmt: skip
    assert [c["mask"] for c in plan.benchmarks] == [False, False, True, False, False, True, False]
    assert any(c["n"] % 64 and c["b"] == 3 and c["c"] == 192 for c in plan.hidden)


def test_official_mode_has_masks_of_ones_and_no_hidden_shapes() -> None:
    plan = kernel("trimul").plan("official")
    assert not any(c["mask"] for c in (*plan.benchmarks, *plan.tests))
    assert (plan.mode, plan.hidden) == ("official", ())


def test_official_configurations_are_tested_without_masks_too() -> None:
    plan = kernel("kernel-config").plan("official")
    assert not any(c["mask"] for c in (*plan.benchmarks, *plan.tests))


def test_the_version_of_the_configuration_problem_follows_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernel("kernel-config").version.endswith(kernel_config.kernel_hash())
    before = kernel_config.kernel_hash()
    (tmp_path / kernel_config.KERNEL).write_text(STARTER.read_text() + "# changed\n")
    monkeypatch.setattr(kernel_config, "FOLDER", tmp_path)
    assert kernel_config.kernel_hash() != before


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_leaves_room_for_the_program_that_small_models_start_from(name: str) -> None:
    config = resolve(name, overrides={"preset": "small-gpu"}).config
    start = kernel(name).program_of_start(brief=True)
    assert config.max_new_tokens > len(start) / 3.0
    assert config.window > 2 * config.max_new_tokens
    given = resolve(name, overrides={"preset": "small-gpu", "max_new_tokens": 99}).config
    assert given.max_new_tokens == 99


def test_the_plain_start_keeps_the_format_and_is_what_small_models_see() -> None:
    plain = kernel("trimul").program_of_start(brief=True)
    assert gpu_source.refused(plain) == ""
    assert gpu_source.findings(plain) == []
    seeds = kernel("trimul").seeds(np.random.default_rng(0), 6)
    assert [seed.program for seed in seeds[:3]] == ["", plain, STARTER.read_text()]


def test_the_policys_cached_memory_is_released_before_a_kernel_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    cuda = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True,
        synchronize=lambda: done.append("idle"), empty_cache=lambda: done.append("released"),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    bench = SimpleNamespace(device={}, trial=lambda program, plan: Trial(
        verdict=Verdict(outcome=Outcome.TIMEOUT), execution=Execution(cause=Cause.TIMEOUT)
    ))  # fmt: skip
    kernel("trimul").try_out(MINIMAL, bench=bench)  # type: ignore[arg-type]
    assert done == ["idle", "released"]


def test_mla_decode_is_scored_at_its_longest_cache() -> None:
    plan = kernel("mla_decode_nvidia").plan("strict")
    assert [plan.benchmarks[i] for i in plan.scored or ()] == [{"prefill": 6144}]
    assert [case["prefill"] for case in plan.tests] == [128, 512, 1024, 2048]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def custom_kernel(data):\n    return data[0]\n", "no function under @triton.jit"),
        (MINIMAL + "# identity\n", 'contains "identity"'),
        ("def (", "not Python"),
        ("# @triton.jit\n" + "x = '@triton.jit'\n", "no function under @triton.jit"),
    ],
)
def test_what_is_no_triton_kernel_is_refused_before_it_runs(source: str, reason: str) -> None:
    verdict = kernel("trimul").try_out(source).verdict
    assert (verdict.outcome, verdict.reward) == (Outcome.INVALID, 0.0)
    assert reason in verdict.message


def test_our_own_kernel_keeps_the_format_and_names_nothing_suspect() -> None:
    source = STARTER.read_text()
    assert gpu_source.refused(source) == ""
    assert gpu_source.findings(source) == []


def test_suspect_names_are_found_however_they_are_imported() -> None:
    source = (
        "from torch.cuda import Stream\nimport gc, os\nos.environ\nopen('x')\ntorch.cuda.graph"
    )
    assert gpu_source.findings(source) == [
        "gc", "open", "os.environ", "torch.cuda.Stream", "torch.cuda.graph"
    ]  # fmt: skip


def test_a_configuration_is_written_into_the_kernel() -> None:
    problem = kernel("kernel-config")
    source = problem.program_of('{"rows": 128, "split": 3}')
    tree = ast.parse(source)
    config = next(n.value for n in tree.body if isinstance(n, ast.Assign)
                  and n.targets[0].id == "CONFIG")  # type: ignore[attr-defined]  # fmt: skip
    written = ast.literal_eval(config)
    assert (written["rows"], written["split"]) == (128, 3)
    assert {k: v for k, v in written.items() if k not in ("rows", "split")} == {
        k: v
        for k, v in json.loads(problem.program_of_start()).items()
        if k not in ("rows", "split")
    }


@pytest.mark.parametrize(
    "answer",
    ["[]", "{", '{"rows": 65}', '{"rows": true}', '{"rows": 64.0}', '{"product": "os.system"}',
     '{"other": 1}', '{"rows": [64]}', '{"rows": "64"}', '{"rows": null}'],
)  # fmt: skip
def test_a_configuration_outside_its_choices_is_invalid(answer: str) -> None:
    with pytest.raises(InvalidAnswer):
        kernel("kernel-config").program_of(answer)
    assert kernel("kernel-config").try_out(answer).verdict.outcome is Outcome.INVALID


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("brief", [False, True])
def test_every_start_is_worse_than_any_kernel(name: str, brief: bool) -> None:
    problem = kernel(name)
    seeds = problem.seeds(np.random.default_rng(0), 6, brief=brief)
    assert {seed.value for seed in seeds} == {-1e6}
    assert problem.reward(-1000.0) == 3.0
    assert problem.program_of(seeds[-1].program)


@pytest.mark.parametrize(
    ("problem", "before", "now", "goes_on"),
    [
        ("trimul", "NVIDIA H200", "NVIDIA H200", True),
        ("trimul", "NVIDIA H200", "NVIDIA H100 80GB HBM3", False),
        ("trimul", "NVIDIA H200", "", False),
        ("trimul", None, "NVIDIA H200", True),
        ("erdos", "NVIDIA H200", "", True),
    ],
)
def test_times_of_two_gpu_models_never_meet_in_one_tree(
    problem: str, before: str | None, now: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_problem, "gpu_model", lambda: now)
    run: Any = SimpleNamespace(uuid="r", hardware={} if before is None else {"gpu": before})
    if goes_on:
        hardware.refuse_other_gpu(load(problem), run)
        return
    with pytest.raises(UsageError, match="has timed its kernels on NVIDIA H200"):
        hardware.refuse_other_gpu(load(problem), run)


def test_a_run_records_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_problem, "gpu_model", lambda: "NVIDIA H200")
    assert launch.hardware()["gpu"] == "NVIDIA H200"
    monkeypatch.setattr(gpu_problem, "gpu_model", lambda: "")
    assert "gpu" not in launch.hardware()


def test_a_start_that_nobody_measured_is_not_compared_with() -> None:
    totals = SimpleNamespace(
        seed=gpu_problem.START_VALUE, best=-1000.0, steps=3, attempts=12, valid=9, seconds=60.0
    )
    session = SimpleNamespace(
        archive=SimpleNamespace(totals=lambda run: totals),
        run=SimpleNamespace(id=1, uuid="a-run"),
        problem=load("kernel-config"),
        ending=None,
    )
    found = launch.summary(cast("Session", session), state=RunState.FINISHED)
    assert "best microseconds 1,000" in summary_text(found)
    assert "seed" not in summary_text(found)
