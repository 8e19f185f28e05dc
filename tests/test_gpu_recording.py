"""Recorded calls, without a GPU: what is played, poisoned and refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eurekaflow.verifiers.gpu_attached import CandidateFailed
from eurekaflow.verifiers.gpu_recording import Recorder
from eurekaflow.verifiers.gpu_reference import Worker


class Graph:
    """Stands for a CUDA graph: playing it adds one to what the call returned."""

    def replay(self) -> None:
        self.result.add_(1)


class Recording:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.graph.result = RESULT


RESULT = torch.zeros(3)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Recording)
    return Recorder()


def test_a_recorded_call_is_played_and_its_result_poisoned_before(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []

    def function(data: Any) -> torch.Tensor:
        called.append(data)
        return RESULT

    recording = recorder.record(function, "data")
    monkeypatch.setattr(Graph, "replay", lambda self: pytest.fail("replaced by the program"))
    assert recording("other") is RESULT
    assert RESULT.tolist() == [1, 1, 1]
    assert called == ["data"]
    recording.poison()
    assert bool(RESULT.isnan().all())


def test_what_the_call_raises_while_it_is_recorded_is_raised(recorder: Recorder) -> None:
    with pytest.raises(ZeroDivisionError):
        recorder.record(lambda data: 1 / 0, None)


@pytest.mark.parametrize(("kind", "told"), [("raised", "unrecorded"), ("timeout", "timeout")])
def test_only_a_call_that_raises_is_one_that_cannot_be_recorded(kind: str, told: str) -> None:
    def ask(request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        raise CandidateFailed(kind, "no")

    worker, theirs = Worker(), SimpleNamespace(ask=ask)
    worker.candidate = theirs  # type: ignore[assignment]
    with pytest.raises(CandidateFailed) as failed:
        worker._record(None, {"compile_s": 1.0})
    assert failed.value.kind == told
