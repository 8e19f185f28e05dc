"""What the trusted worker makes of a candidate's process that forges, hangs, dies or lingers."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from eurekaflow.verifiers import mla_task, trimul_task
from eurekaflow.verifiers.gpu_attached import Attached, CandidateFailed, finite
from eurekaflow.verifiers.gpu_compare import mismatch
from eurekaflow.verifiers.gpu_memory import ALIGNMENT, place

Start = Callable[[str], Attached]
PRELUDE = "import socket, struct, os, time, sys\nc = socket.socket(fileno=int(sys.argv[1]))\n"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that plays a candidate's worker by running a program of ours."""
    started: list[tuple[subprocess.Popen[bytes], Attached]] = []

    def _start(program: str) -> Attached:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-S", "-c", PRELUDE + program, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
            )
        attached = Attached(ours, process.pid)
        started.append((process, attached))
        return attached

    yield _start
    for process, attached in started:
        process.kill()
        process.wait()
        attached.channel.close()


def says(body: bytes) -> str:
    return f"c.send({struct.pack('>Q', len(body)) + body!r})\ntime.sleep(60)"


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        (says(b"check: pass"), "forged"),
        (says(b"[1, 2]"), "forged"),
        (says(b"\xff\xfe"), "forged"),
        (says(b"[" * 100_000), "forged"),
        ("c.send(b'check: pass\\nbenchmark.0.mean: 1.0\\n')\ntime.sleep(60)", "died"),
        ("c.send(struct.pack('>Q', 1 << 60))\ntime.sleep(60)", "died"),
        ("os._exit(0)", "died"),
        ("os.kill(os.getpid(), 11)", "died"),
        ("time.sleep(60)", "timeout"),
        ("for _ in range(60):\n  c.send(bytes(1))\n  time.sleep(0.3)", "timeout"),
        (says(b'{"error": "no", "kind": "refused"}'), "refused"),
    ],
)
def test_a_process_that_does_not_answer_as_it_should_is_told_apart(
    program: str, kind: str, start: Start
) -> None:
    with pytest.raises(CandidateFailed) as failed:
        start(program).ask({"do": "call"}, 2.0)
    assert failed.value.kind == kind


@pytest.mark.parametrize("value", [None, "1", True, float("nan"), float("inf"), -1.0, [1.0]])
def test_a_clock_that_says_anything_but_a_time_is_forged(value: object) -> None:
    with pytest.raises(CandidateFailed) as failed:
        finite(value)
    assert failed.value.kind == "forged"


def test_no_thread_of_a_stopped_process_moves(start: Start) -> None:
    counting = "import threading\nn = [0]\ndef count():\n  while True: n[0] += 1\n"
    counting += "threading.Thread(target=count, daemon=True).start()\n"
    counting += "while True:\n    c.recv(1)\n    c.send(struct.pack('>Q', n[0]))\n"
    theirs = start(counting)

    def count() -> int:
        theirs.channel.send(b"?")
        return int(struct.unpack(">Q", theirs.channel.recv(8))[0])

    count()
    theirs.stop()
    theirs.channel.send(b"?")
    time.sleep(0.3)
    used = _cpu_ticks(theirs.pid)
    time.sleep(0.3)
    assert _cpu_ticks(theirs.pid) == used
    theirs.go_on()
    theirs.channel.recv(8)
    time.sleep(0.3)
    assert _cpu_ticks(theirs.pid) > used


def _cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))


def test_threads_and_processes_of_a_candidate_are_counted_from_outside(start: Start) -> None:
    theirs = start("import threading, subprocess\n"
                   "for _ in range(2): threading.Thread(target=time.sleep, args=(60,)).start()\n"
                   "subprocess.Popen(['sleep', '60'])\nc.send(b'.')\ntime.sleep(60)")  # fmt: skip
    theirs.channel.settimeout(20.0)
    theirs.channel.recv(1)
    assert theirs.threads() == 3
    assert theirs.children() == 1
    for child in Path(f"/proc/{theirs.pid}/task/{theirs.pid}/children").read_text().split():
        os.kill(int(child), 9)


FAMILY = """
import subprocess
child = "import os, time; os.fork(); n = 0\\nwhile True: n += 1"
subprocess.Popen([sys.executable, "-S", "-c", child])
time.sleep(1.0)
c.send(b".")
time.sleep(60)
"""


def test_a_stopped_process_with_children_is_refused_and_none_of_them_moves(start: Start) -> None:
    theirs = start(FAMILY)
    theirs.channel.settimeout(20.0)
    theirs.channel.recv(1)
    (child,) = _children(theirs.pid)
    family = [child, *_children(child)]
    assert len(family) == 2
    try:
        with pytest.raises(CandidateFailed, match="2 processes of it were running") as failed:
            theirs.stop()
        assert failed.value.kind == "alive"
        time.sleep(0.1)
        used = [_cpu_ticks(pid) for pid in family]
        time.sleep(0.3)
        assert [_cpu_ticks(pid) for pid in family] == used
    finally:
        for pid in family:
            os.kill(pid, 9)


def _children(pid: int) -> list[int]:
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_process_that_has_ended_its_children_is_stopped_as_before(start: Start) -> None:
    theirs = start("import subprocess\nsubprocess.run(['true'])\n"
                   "subprocess.Popen(['true'])\ntime.sleep(0.3)\nc.send(b'.')\n"
                   "time.sleep(60)")  # fmt: skip
    theirs.channel.settimeout(20.0)
    theirs.channel.recv(1)
    theirs.stop()  # one of them is a zombie
    theirs.go_on()


@pytest.mark.parametrize(
    ("out", "bad"),
    [
        ([1.0, 2.0, float("nan"), float("inf")], 0),
        ([1.03, 2.05, float("nan"), float("inf")], 0),
        ([1.05, 2.0, float("nan"), float("inf")], 1),
        ([1.0, float("nan"), float("nan"), float("inf")], 1),
        ([1.0, 2.0, 0.0, float("inf")], 1),
        ([1.0, 2.0, float("nan"), float("-inf")], 1),
        ([float("nan")] * 4, 3),
    ],
)
def test_an_output_agrees_within_the_tolerance_and_nan_only_with_nan(
    out: list[float], bad: int
) -> None:
    wanted = torch.tensor([1.0, 2.0, float("nan"), float("inf")])
    assert mismatch(torch.tensor(out), wanted, rtol=2e-2, atol=2e-2)[0] == bad


@pytest.mark.parametrize("task", [trimul_task, mla_task], ids=["trimul", "mla-decode"])
def test_tensors_in_shared_memory_do_not_overlap(task: object) -> None:
    case = task.TESTS[0]  # type: ignore[attr-defined]
    ins = [(dtype, shape) for _, dtype, shape in task.inputs(case)]  # type: ignore[attr-defined]
    specs, end = place(ins)
    outs, end = place(task.outputs(case), end)  # type: ignore[attr-defined]
    edges = [spec[0] for spec in (*specs, *outs)] + [end]
    sizes = {"float32": 4, "bfloat16": 2}
    for (offset, dtype, shape), after in zip((*specs, *outs), edges[1:], strict=True):
        length = sizes[dtype]
        for extent in shape:
            length *= extent
        assert offset % ALIGNMENT == 0
        assert offset + length <= after


def test_a_recipe_names_every_input_once() -> None:
    text = json.dumps(trimul_task.recipe(trimul_task.TESTS[0]))
    named = [int(part.split("}")[0]) for part in text.split('"tensor": ')[1:]]
    assert sorted(named) == list(range(len(trimul_task.inputs(trimul_task.TESTS[0]))))
