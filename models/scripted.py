"""A policy without a model: answers from a script, learned by a small vector of weights.

It keeps every promise of a real one: sampling is a pure function of (version, wave), an update of
(version, batch, settings), versions live in the same kind of folder, and a list of canned answers
is really learned, as a softmax with one weight per answer. It needs no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy as sn
from safetensors import SafetensorError

from eurekaflow.models import adapter_files
from eurekaflow.models.checkpoints import RESTORE
from eurekaflow.models.counters import uniforms
from eurekaflow.models.entropic import importance_loss
from eurekaflow.models.errors import CheckpointDamaged
from eurekaflow.models.policy import (
    Prompt,
    Response,
    TrainedGroup,
    TrainedResponse,
    UpdateReport,
    UpdateSettings,
    Version,
    Wave,
    in_turn,
)

Script = Callable[[Wave, int, int], str]  # (wave, attempt_index, version) -> response text
Vector = npt.NDArray[np.float64]

FREE_WEIGHTS = 8  # of a scripted function, which does not read them


class ScriptedPolicy:
    """Answers from a function or from a list of canned texts. One token is one byte of UTF-8.

    The log-prob of the chosen text stands on its first token; the others have 0. Texts longer than
    the wave allows are cut.
    """

    def __init__(self, script: Script | Sequence[str], *, seed: int = 0) -> None:
        self.script, self.seed = script, seed
        self._answers = () if callable(script) else tuple(script)
        self._resident: tuple[int, str] | None = None
        self._state: dict[str, Vector] = {}

    @property
    def trainable(self) -> bool:
        return True

    @property
    def replay(self) -> Literal["exact", "salvage"]:
        return "exact"

    @property
    def weights(self) -> Vector:
        """The resident version's weights."""
        return self._state["weights"]

    @property
    def concurrent(self) -> bool:
        return False

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        return tuple(f"{prompt.text}\n{prompt.opening}".encode())

    def fingerprint(self) -> dict[str, str]:
        return {"model": "scripted", "device": "cpu", "dtype": "float64"}

    def holds(self, version: Version) -> bool:
        if self._resident is None:
            return False
        number, sha256 = self._resident
        return sha256 == version.sha256 and (number == version.number or bool(sha256))

    def ensure(self, version: Version) -> None:
        if self.holds(version):
            self._resident = (version.number, version.sha256)
            return
        self._resident = None
        self._state = self._fresh() if version.folder is None else _read(version)
        self._resident = (version.number, version.sha256)

    def sample(self, wave: Wave) -> Iterator[Response]:
        number = self._number()
        limit = min(wave.max_new_tokens, wave.window - len(wave.prompt_ids) - 50)
        if limit < 1:
            raise ValueError(f"a prompt of {len(wave.prompt_ids)} tokens leaves no room")
        for attempt in wave.slots:
            text, logprob = self._answer(wave, attempt, number)
            ids = np.frombuffer(text.encode()[:limit] or b"\n", dtype=np.uint8).astype(np.int32)
            logprobs = np.zeros(len(ids), dtype=np.float32)
            logprobs[0] = logprob
            yield Response(
                attempt_index=attempt,
                token_ids=ids,
                logprobs=logprobs,
                mask=np.ones(len(ids), dtype=np.bool_),
                text=bytes(ids.astype(np.uint8)).decode(errors="replace"),
                finish="length" if len(text.encode()) > limit else "stop",
            )

    def sample_together(self, waves: Sequence[Wave]) -> Iterator[tuple[int, Response]]:
        return in_turn(self, waves)

    def update(
        self, groups: Sequence[TrainedGroup], settings: UpdateSettings, staging: Path | None
    ) -> UpdateReport:
        number = self._number()
        responses = [response for group in groups for response in group.responses]
        gradient = -sum(
            (response.advantage * self._score(response) for response in responses),
            np.zeros(len(self.weights)),
        )
        self._state = _adam(self._state, gradient, settings)
        files = {} if staging is None else adapter_files.stage(staging, self._contents())
        sha256 = files.get(adapter_files.ADAPTER) or hashlib.sha256(self._weights()).hexdigest()
        self._resident = (number + 1, sha256)
        metrics = {**_metrics(responses), "grad_norm": float(np.linalg.norm(gradient))}
        return UpdateReport(metrics=metrics, files=files, sha256=sha256)

    def save(self, staging: Path) -> dict[str, str]:
        self._number()
        return adapter_files.stage(staging, self._contents())

    def close(self) -> None:
        self._resident = None

    def _number(self) -> int:
        if self._resident is None:
            raise RuntimeError("no version is resident: call ensure(version) first")
        return self._resident[0]

    def _fresh(self) -> dict[str, Vector]:
        size = len(self._answers) or FREE_WEIGHTS
        return {name: np.zeros(size) for name in ("weights", "m", "v")} | {"step": np.zeros(1)}

    def _answer(self, wave: Wave, attempt: int, version: int) -> tuple[str, float]:
        if callable(self.script):
            return self.script(wave, attempt, version), -1.0
        uniform = uniforms(
            run_seed=wave.run_seed,
            step=wave.step,
            group=wave.group_index,
            attempts=[attempt],
            position=0,
        )[0]
        chances = self._chances(wave.temperature)
        index = min(int(np.searchsorted(chances.cumsum(), uniform)), len(chances) - 1)
        return self._answers[index], float(np.log(chances[index]))

    def _chances(self, temperature: float = 1.0) -> Vector:
        scaled = np.exp((self.weights - self.weights.max()) / temperature)
        return np.asarray(scaled / scaled.sum())

    def _score(self, response: TrainedResponse) -> Vector:
        """Gradient of the response's log-prob; for a scripted function, a summary of its bytes."""
        data = response.token_ids.astype(np.uint8)
        matching = [i for i, text in enumerate(self._answers) if _same(text, data)]
        if not matching:
            return np.bincount(data % len(self.weights), minlength=len(self.weights)) / len(data)
        one_hot = np.zeros(len(self.weights))
        one_hot[matching[0]] = 1.0
        return one_hot - self._chances()

    def _weights(self) -> bytes:
        return bytes(sn.save({"weights": self.weights}))

    def _contents(self) -> dict[str, bytes]:
        moments = {name: value for name, value in self._state.items() if name != "weights"}
        return {
            adapter_files.ADAPTER: self._weights(),
            adapter_files.OPTIMIZER: sn.save(moments),
        }


def _same(text: str, data: npt.NDArray[np.uint8]) -> bool:
    """Whether a canned text was answered, possibly cut to the wave's bound."""
    return (text.encode() or b"\n").startswith(data.tobytes())


def _read(version: Version) -> dict[str, Vector]:
    assert version.folder is not None
    adapter_files.checked(version.folder, version.sha256)
    try:
        return {
            **sn.load_file(version.folder / adapter_files.ADAPTER),
            **sn.load_file(version.folder / adapter_files.OPTIMIZER),
        }
    except (SafetensorError, OSError) as error:
        raise CheckpointDamaged(f"{version.folder} cannot be read: {error}", RESTORE) from error


def _adam(
    state: dict[str, Vector], gradient: Vector, settings: UpdateSettings
) -> dict[str, Vector]:
    step = state["step"] + 1
    m = settings.beta1 * state["m"] + (1 - settings.beta1) * gradient
    v = settings.beta2 * state["v"] + (1 - settings.beta2) * gradient**2
    rate = settings.lr * np.sqrt(1 - settings.beta2**step) / (1 - settings.beta1**step)
    weights = state["weights"] - rate * m / (np.sqrt(v) + settings.eps)
    return {"weights": weights, "m": m, "v": v, "step": step}


def _metrics(responses: Sequence[TrainedResponse]) -> dict[str, float]:
    flat = np.concatenate([np.zeros(0), *(r.logprobs[r.mask] for r in responses)])
    each = [np.full(int(r.mask.sum()), r.advantage) for r in responses]
    advantage = np.concatenate([np.zeros(0), *each])
    return {
        "loss": importance_loss(flat, flat, advantage, np.ones(len(flat))),
        "kl_policy_base": 0.0,
        "logprob_gap_mean": 0.0,
        "logprob_gap_half_mean_square": 0.0,
        "negative_logprob_mean": float(-flat.mean()) if len(flat) else 0.0,
        "tokens": float(len(flat)),
    }
