"""What a problem is: statement, entry point, seeds, verifier, direction and records.

A problem turns a program into a sandbox job (`job`) and the JSON that came back into a verdict
(`judge`). `judge` runs in a trusted process that never imports candidate code; whatever score the
candidate claims is only logged. Values are higher-is-better (`value`), scores are the metric as
papers print it (`score`), rewards are what the objective sees (0 for every failure).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from eurekaflow.verifiers.records import Record as Record  # part of this interface
from eurekaflow.verifiers.records import best_of
from eurekaflow.verifiers.sandbox import Job, Limits, Sandbox

if TYPE_CHECKING:
    from eurekaflow.verifiers.judge import Judge

Construction = npt.NDArray[np.float64]  # 1-D (a step function) or 2-D (rows such as x, y, r)


class Outcome(StrEnum):
    """The class of a verdict. Only VALID earns a reward; SEED marks starting points."""

    SEED = "seed"
    VALID = "valid"
    UNPARSEABLE = "unparseable"  # no program in the response
    RAISED = "raised"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    KILLED = "killed"
    NO_RESULT = "no_result"
    TOO_LARGE = "too_large"
    INVALID = "invalid"  # the verifier rejected the answer
    EXPLOIT = "exploit"  # better than a proven bound: a verifier bug or a cheat


class InvalidAnswer(ValueError):
    """The answer breaks a rule; the message is the reason shown to the user."""


class PrerequisiteAbsent(RuntimeError):
    """Something that a problem needs is not installed; `fix` is the command that installs it."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message, fix)
        self.message, self.fix = message, fix

    def __str__(self) -> str:
        return self.message


class ProblemUnusable(ValueError):
    """A problem's own files are at fault; the message says what to correct, `fix` how if known."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


class ProvenBoundBroken(InvalidAnswer):
    """The answer beats a proven bound, so it cannot be what it claims."""


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A starting point of the tree: a finite value, perhaps a program, perhaps a construction."""

    value: float
    program: str = ""
    construction: Construction | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What verification says of one attempt."""

    outcome: Outcome
    value: float | None = None  # finite when VALID, else None
    reward: float = 0.0
    message: str = ""  # one line, for people
    construction: Construction | None = None  # repaired and normalised: what the value belongs to
    stdout: str = ""  # the tail shown to the next attempt
    metrics: dict[str, float] = field(default_factory=dict)
    mode: str = ""  # how the value was measured; "" = it was not
    exact: str = ""  # the score as a fraction p/q, when it was measured exactly


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a verifier says of one valid answer. Anything else is an `InvalidAnswer`."""

    value: float
    construction: Construction | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    exact: Fraction | None = None  # the score, when it was computed in rational arithmetic


@dataclass(frozen=True, kw_only=True)
class Remeasurement:
    """One answer of a finalist measured again on held-out material."""

    mode: str  # what it was measured on, such as "held-out" or "strict"
    value: float
    message: str = ""
    score: float | None = None  # where it is on another scale than the problem's own


JUDGE_BYTES = 4 << 30
VERIFY = "verify"  # by hand: as in training, with answers as long as a claim's
TRAINING = "training"  # the mode of a run: fast, and precise enough to search with
EXACT = "exact"  # rational arithmetic


class Problem:
    """One problem. Subclass it, set the attributes, write `seeds` and `judge`."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[str] = "1"  # changes whenever `judge` or the statement changes
    title: ClassVar[str] = ""
    direction: ClassVar[Literal["min", "max"]] = "max"
    metric: ClassVar[str] = "score"  # what `score` is called
    unmeasured: ClassVar[float | None] = None  # a seed's value that stands for none
    answer: ClassVar[Literal["python", "cpp", "json", "text"]] = "python"
    entry_point: ClassVar[str] = "run"
    returns: ClassVar[Literal["json", "array"]] = "json"  # array: one real matrix, raw float64
    service: ClassVar[Literal["", "postgres"]] = ""  # a server that `judge` needs, see `attach`
    construction_name: ClassVar[str] = ""  # variable that holds the parent's construction
    same_by: ClassVar[Literal["construction", "program"]] = "construction"  # equal: one node only
    target: float | None = None  # a score slightly better than the record
    records: ClassVar[tuple[Record, ...]] = ()
    modes: ClassVar[tuple[str, ...]] = (TRAINING, EXACT)  # of `measure`
    claim_mode: ClassVar[str] = EXACT  # the mode that a reported result rests on
    finalists: ClassVar[int] = 1  # best attempts that the final selection measures again
    redraws: ClassVar[bool] = False  # seeds are drawn anew whenever one is chosen as parent
    timed: ClassVar[bool] = False  # speed decides: each candidate gets a core to itself
    told_budget: ClassVar[bool] = True  # candidates are told how many seconds they have
    noise: ClassVar[float] = 0.0  # declared scatter of values, as a part of them: timed answers
    verification_s: float = 30.0  # seconds after which `judge` is given up
    # foreign: the evaluator is somebody else's and shares the sandbox, so nothing can be claimed
    trust: ClassVar[Literal["verified", "foreign"]] = "verified"

    def statement(self, *, brief: bool = False) -> str:
        """The task in words, with the validity rules. `brief` is for small models."""
        raise NotImplementedError

    def opening(self) -> str:
        """How the answer may be opened for a small model (fence, imports, signature); "" = not."""
        return ""

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """`count` starting points with finite values; `brief` asks for the small models' start."""
        raise NotImplementedError

    def complete(self, program: str) -> str:
        """The whole program that an answer's program stands for, when it is only a part."""
        return program

    def answer_tokens(self) -> int:
        """Tokens below which answers would be cut short; 0: a preset's bound is long enough."""
        return 0

    def excerpt(self, program: str) -> str:
        """What the model is shown of a parent's whole program."""
        return program

    def job(self, program: str, *, parent: Construction | None, seed: int, budget_s: float) -> Job:
        """How the sandbox runs `program` (answer kind `python`)."""
        arrays = {self.construction_name: parent} if parent is not None else {}
        if not self.construction_name:
            arrays = {}
        return Job(
            program=program,
            entry_point=self.entry_point,
            prelude=self.prelude(),
            arrays=arrays,
            arguments={"seed": seed, "budget_s": budget_s},
            seed=seed,
        )

    def cases(self) -> Sequence[int]:
        """Seeds of the inputs that a program is tried on; none: no input."""
        return ()

    def with_cases(self, count: int) -> Self:
        """This problem with at most `count` cases."""
        return self

    def configured(self, options: Mapping[str, str]) -> Problem:
        """This problem with the options of a spec `NAME?key=value&…`. Raises ValueError."""
        raise ValueError(f"{self.name} takes no options")

    def attach(self, url: str) -> None:
        """Take the URL of the `service` before an answer's time starts. Raises without it."""

    def require(self) -> None:
        """Raise PrerequisiteAbsent when the machine lacks what the problem needs."""

    def prove(self) -> None:
        """Before a run is made: raise ProblemUnusable when the start cannot be scored."""

    def prelude(self) -> str:
        """Trusted source the candidate may call: a copy of the evaluator."""
        return ""

    def limits(self, *, budget_s: float) -> Limits:
        """The sandbox's limits for a candidate that was told `budget_s` seconds."""
        return Limits(wall_s=1.1 * budget_s + 2.0, cpu_s=1.1 * budget_s + 2.0)

    def memory(self) -> tuple[int, int]:
        """Bytes that a candidate needs at least, and that verification may use."""
        return 0, JUDGE_BYTES

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        """Recompute the score of a parsed JSON answer, or of text for data answers.

        `exact` asks for rational arithmetic where the problem has it. Raises `InvalidAnswer`.
        """
        raise NotImplementedError

    def measure(self, answer: object, *, mode: str) -> Judgement:
        """`judge` in one of `modes`. Override it when there are more than training and exact."""
        return self.judge(answer, exact=mode == EXACT)

    def claim(self, construction: Construction | list[object]) -> Fraction:
        """The exact score of a construction. Raises InvalidAnswer, TypeError without that mode."""
        answer: object = construction
        if isinstance(construction, np.ndarray):
            answer = self.answer_of(construction)
        exact = self.measure(answer, mode=EXACT).exact
        if exact is None:
            raise TypeError(f"{self.name} has no exact arithmetic")
        return exact

    def answer_of(self, construction: Construction) -> object:
        """The JSON answer that a stored construction is, for measuring it again."""
        return construction.tolist()

    def remeasure(
        self, program: str, *, spec: str, sandbox: Sandbox, judge: Judge
    ) -> Sequence[Remeasurement]:
        """Measure a finalist's program on held-out material; `spec` names the problem to `judge`.

        Problems whose answer is a construction leave this empty: it is measured in `claim_mode`.
        Raises InvalidAnswer when the program fails there.
        """
        return ()

    def reward(self, value: float) -> float:
        """The objective's reward of a valid value."""
        return value

    def baseline_reward(self, value: float) -> float:
        """The reward under the estimator `mean_baseline`, whose advantage depends on its scale."""
        return self.reward(value)

    def score(self, value: float) -> float:
        """The metric as printed."""
        return -value if self.direction == "min" else value

    def value(self, score: float) -> float:
        """The inverse of `score`."""
        return -score if self.direction == "min" else score

    def archivable(self, construction: Construction | None) -> bool:
        """Whether a valid answer may become a parent (the archive's own size limits)."""
        return True

    def picture(self, named: Mapping[str, Construction]) -> str:
        """Constructions by name as one SVG, "" where there is nothing to draw."""
        return ""

    def comparable(self, *, mode: str) -> Sequence[Record]:
        """The records that a score measured here, in this mode, may be compared with."""
        return self.records

    def record(self, *, mode: str = "") -> Record | None:
        """The best confirmed record that values of a mode, else claims, are compared with."""
        return best_of(self.comparable(mode=mode or self.claim_mode), direction=self.direction)
