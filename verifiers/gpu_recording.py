"""A program's call as a CUDA graph: recorded once, played on whatever its inputs hold by then.

While it is played nothing of the program runs on the host, so launches, which scatter with the
host and from process to process, are not in the time. A call that waits for the device or looks
at its data on the host cannot be recorded, and is timed as it is.

Standalone (torch): the candidate's worker receives this file as text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Recorder:
    """Records with what PyTorch was before any program was loaded."""

    def __init__(self) -> None:
        self._graph, self._recording = torch.cuda.CUDAGraph, torch.cuda.graph
        self._replay: Any = torch.cuda.CUDAGraph.replay

    def record(self, function: Callable[[Any], Any], data: Any) -> Recording:
        """Raises what the call raises, or RuntimeError where it does what no graph can."""
        graph = self._graph()
        with self._recording(graph):
            result = function(data)
        return Recording(graph, self._replay, result)


class Recording:
    """Called like the function that was recorded; its result lies where it lay then."""

    def __init__(self, graph: Any, replay: Callable[[Any], None], result: Any) -> None:
        self._graph, self._replay, self._result = graph, replay, result

    def __call__(self, data: Any) -> Any:
        self._replay(self._graph)
        return self._result

    def poison(self) -> None:
        """NaN where the result will be, so that what is not written shows."""
        parts = self._result if isinstance(self._result, (tuple, list)) else (self._result,)
        for part in parts:
            if type(part) is torch.Tensor and part.is_floating_point():
                part.fill_(torch.nan)
