"""Responses in the making, as arrays over all rows of a call: tokens, counts, pages, limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eurekaflow.models.counters import row_seeds
from eurekaflow.models.paged_attention import PAGE, Whole
from eurekaflow.models.policy import Wave
from eurekaflow.models.sampler import limits

NEVER = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class RowState:
    """What the device must know of the rows in flight, each array [R]."""

    seed: Whole  # `counters.row_seeds`
    token: Whole  # the newest, not fed yet
    position: Whole  # of that token in its sequence
    place: Whole  # of the next token in its response; as many own tokens are cached
    prompt: Whole
    pages: npt.NDArray[np.int32]  # [R, most]
    forced: dict[int, tuple[int, Sequence[int]]]  # row -> (place, tokens that replace drawn ones)


class Flights:
    """The rows of several waves, by prompt; `rows` arguments are indices into them."""

    def __init__(self, waves: Sequence[Wave], *, most_pages: int, slack: int) -> None:
        """`slack`: tokens that a row may run beyond its limit before it is cut there."""
        self.waves = waves
        self.prompts = list(dict.fromkeys(wave.prompt_ids for wave in waves))
        number = {ids: i for i, ids in enumerate(self.prompts)}
        order = sorted(range(len(waves)), key=lambda i: number[waves[i].prompt_ids])
        parts = [(i, waves[i], len(waves[i].slots)) for i in order]
        counts = [n for _, _, n in parts]
        self.wave = np.repeat([i for i, _, _ in parts], counts)
        self.prompt = np.repeat([number[w.prompt_ids] for _, w, _ in parts], counts)
        self.slot = np.concatenate([np.asarray(w.slots) for _, w, _ in parts])
        self.seed = np.concatenate([_seeds(w) for _, w, _ in parts])
        bounds = [limits(w) for _, w, _ in parts]
        self.limit = np.repeat([limit for limit, _ in bounds], counts)
        self.bound = np.repeat([NEVER if b is None else b for _, b in bounds], counts)
        longest = int(self.limit.max()) + slack
        self.count = np.zeros(len(self.slot), dtype=np.int64)
        self.ids = np.zeros((len(self.slot), longest), dtype=np.int64)
        self.logprobs = np.zeros((len(self.slot), longest), dtype=np.float32)
        self.pages = np.zeros((len(self.slot), most_pages), dtype=np.int32)
        self.held = np.zeros(len(self.slot), dtype=np.int64)  # pages
        self.forced: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.slot)

    def steps(self, rows: Whole, most: int) -> int:
        """Tokens until the host must look: at most `most`, and never past a bound of phase 1."""
        count = self.count[rows]
        before = self.bound[rows] - count
        return int(
            min(most, (self.limit[rows] - count).max(), before[before > 0].min(initial=most))
        )

    def lacking(self, rows: Whole, steps: int) -> Whole:
        """Pages each row needs before it takes `steps` more tokens."""
        needed: Whole = -(-(self.count[rows] + steps) // PAGE) - self.held[rows]
        return np.maximum(needed, 0)

    def hold(self, row: int, pages: Sequence[int]) -> None:
        start = int(self.held[row])
        self.pages[row, start : start + len(pages)] = pages
        self.held[row] += len(pages)

    def drop(self, row: int) -> list[int]:
        """The pages of a row that holds them no more."""
        pages: list[int] = self.pages[row, : int(self.held[row])].tolist()
        self.pages[row], self.held[row] = 0, 0
        return pages

    def restart(self, row: int) -> None:
        """Back to the start: its counters will draw the same tokens."""
        self.count[row] = 0
        self.forced.pop(row, None)

    def append(self, rows: Whole, tokens: Whole, logprobs: npt.NDArray[np.float32]) -> None:
        """Tokens and log-probs [steps, R] at the rows' ends."""
        places = self.count[rows][:, None] + np.arange(len(tokens))
        self.ids[rows[:, None], places] = tokens.T
        self.logprobs[rows[:, None], places] = logprobs.T
        self.count[rows] += len(tokens)

    def state(self, rows: Whole) -> RowState:
        known = np.array([len(ids) for ids in self.prompts])[self.prompt[rows]]
        last = np.array([ids[-1] for ids in self.prompts])[self.prompt[rows]]
        count = self.count[rows]
        newest = self.ids[rows, np.maximum(count - 1, 0)]
        return RowState(
            seed=self.seed[rows],
            token=np.where(count == 0, last, newest),
            position=known - 1 + count,
            place=count,
            prompt=self.prompt[rows],
            pages=self.pages[rows],
            forced={
                i: (int(self.bound[row]), self.forced[row])
                for i, row in enumerate(rows.tolist())
                if row in self.forced
            },
        )

    def mask(self, row: int) -> npt.NDArray[np.bool_]:
        """Which tokens so far were drawn, not forced."""
        drawn = np.ones(int(self.count[row]), dtype=np.bool_)
        start = int(self.bound[row])
        drawn[start : start + len(self.forced.get(row, ()))] = False
        return drawn


def _seeds(wave: Wave) -> Whole:
    return row_seeds(
        run_seed=wave.run_seed, step=wave.step, group=wave.group_index, attempts=wave.slots
    )
