"""What a policy is: the protocol that samples and learns, and the values that cross it.

Vocabulary: a *wave* is a fixed set of slots of one group, sampled together from one prompt; its
composition comes from the run's configuration and never from free memory, because a row's logits
depend on the batch's shape. *Version* t is the policy after t updates; version 0 is the pretrained
model with a fresh adapter made from the LoRA seed.

Randomness is counter-based: the uniform behind a token is a pure function of (run seed, step,
group, attempt, position), so no generator state exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A rendered prompt: the user's message and how the answer is opened for the model."""

    text: str  # the user message
    opening: str = ""  # prefilled start of the answer: counts as prompt, mask 0


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Slots of one group to be sampled together."""

    run_seed: int
    step: int
    group_index: int
    slots: tuple[int, ...]  # attempt_index of each row, ascending
    prompt_ids: tuple[int, ...]
    max_new_tokens: int  # all phases together
    temperature: float = 1.0
    stop: tuple[str, ...] = ()  # generation ends once the text contains one; kept in the response
    phase1_tokens: int | None = None  # two-phase: prompt + thinking bound; None = one phase
    window: int = 32768  # context window, for two-phase arithmetic


@dataclass(frozen=True, kw_only=True)
class Response:
    """One sampled response; arrays have length L."""

    attempt_index: int
    token_ids: IntArray  # [L]
    logprobs: FloatArray  # [L], of the sampled token at the wave's temperature; 0 where forced
    mask: BoolArray  # [L], False where forced
    text: str  # decoded response without the opening, special tokens dropped
    finish: Literal["stop", "length"]
    forced: bool = False  # two-phase: the final answer was forced


@dataclass(frozen=True, kw_only=True)
class TrainedResponse:
    """What the update needs of one response; arrays have length L."""

    token_ids: IntArray
    logprobs: FloatArray  # sampler's
    mask: BoolArray
    advantage: float  # of the attempt, float64


@dataclass(frozen=True, kw_only=True)
class TrainedGroup:
    """A group that is trained: one prompt, its responses."""

    prompt_ids: tuple[int, ...]
    responses: tuple[TrainedResponse, ...]


@dataclass(frozen=True, kw_only=True)
class UpdateSettings:
    """One optimizer step, fixed for the run."""

    lr: float = 4e-5
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    kl: float = 0.1  # lambda of the KL shaping; 0 skips the base pass
    temperature: float = 1.0
    substeps: int = 1
    micro_batch: int = 8  # responses of one group per backward pass, fixed for the run
    micro_tokens: int | None = None  # of a packed micro-batch; None on CUDA: by free memory
    checkpointing: bool = False  # keep layers' inputs only, compute the rest again


@dataclass(frozen=True, kw_only=True)
class UpdateReport:
    """What one update did, and the files it staged, if any."""

    metrics: dict[str, float] = field(default_factory=dict)  # loss, grad_norm, …
    files: dict[str, str] = field(default_factory=dict)  # staged file name -> sha256
    sha256: str = ""  # of the adapter: the identity of the new version


@dataclass(frozen=True, kw_only=True)
class Version:
    """Which weights: after `step_count` updates, stored in `folder` (None: version 0)."""

    number: int
    folder: Path | None = None
    sha256: str = ""


class Policy(Protocol):
    """Samples responses and learns from them. Not thread-safe: one run, one thread."""

    @property
    def trainable(self) -> bool: ...

    @property
    def replay(self) -> Literal["exact", "salvage"]:
        """`exact`: the same wave gives the same bits; `salvage`: ask for missing slots only."""

    @property
    def concurrent(self) -> bool:
        """Whether sampling leaves the CPU cores free, so that answers are judged meanwhile."""

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of the rendered prompt, the opening included."""

    def fingerprint(self) -> dict[str, str]:
        """Model hash, dtype, threads, device, library versions: what bit equality depends on."""

    def holds(self, version: Version) -> bool:
        """Whether `version` is resident: then its files need not be there, nor be read.

        The hash decides, not the number, which an untrained step may have moved.
        """

    def ensure(self, version: Version) -> None:
        """Make `version` resident; free when it is. Raises CheckpointDamaged."""

    def sample(self, wave: Wave) -> Iterator[Response]:
        """Responses of the wave, each as soon as it is finished, with the resident version."""

    def sample_together(self, waves: Sequence[Wave]) -> Iterator[tuple[int, Response]]:
        """Responses of several waves of one step as they finish, with the index of their wave.

        Where bits are promised, wave after wave (`in_turn`); elsewhere all may be in flight.
        """

    def update(
        self, groups: Sequence[TrainedGroup], settings: UpdateSettings, staging: Path | None
    ) -> UpdateReport:
        """One optimizer step from the resident version t; stages version t+1 into `staging`.

        Without a folder nothing is written, and the report has the hash only. A pure function of
        (version t, groups, settings). Afterwards t+1 is resident but unnamed: call `ensure` with
        its folder and hash once it is committed.
        """

    def save(self, staging: Path) -> dict[str, str]:
        """Stage the files of the resident version; sha256 by name. RuntimeError without one."""

    def close(self) -> None: ...


def in_turn(policy: Policy, waves: Sequence[Wave]) -> Iterator[tuple[int, Response]]:
    """`sample_together` for policies that sample one wave at a time."""
    for index, wave in enumerate(waves):
        for response in policy.sample(wave):
            yield index, response
