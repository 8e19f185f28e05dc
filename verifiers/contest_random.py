"""The random numbers of AtCoder's input generators: ChaCha20 and the draws made from it.

Bit for bit those of the Rust crates rand 0.8.5, rand_chacha 0.3.1 and rand_distr 0.4.3, written
from their specification: Bernstein, "ChaCha, a variant of Salsa20", 2008 (64-bit counter, stream
0); Marsaglia and Tsang, "The ziggurat method for generating random variables", 2000 (256 layers);
Lemire's widening multiplication for integers, with rejection.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

BLOCKS = 4096  # computed at a time: 2^16 words, about what one input takes
CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # "expand 32-byte k"
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
ZIGGURAT_R = 3.654152885361008796
MASK_32, MASK_64 = (1 << 32) - 1, (1 << 64) - 1


def key_of(seed: int) -> list[int]:
    """The eight key words of a u64 seed: rand_core's PCG32 filler. Raises ValueError."""
    if not 0 <= seed <= MASK_64:
        raise ValueError(f"a seed is an unsigned 64-bit number, not {seed}")
    state, words = seed, []
    for _ in range(8):
        state = (state * 6364136223846793005 + 11634580027462260723) & MASK_64
        shifted, turn = (((state >> 18) ^ state) >> 27) & MASK_32, state >> 59
        words.append((shifted >> turn | shifted << (-turn & 31)) & MASK_32)
    return words


def _quarter_round(x: list[Words], a: int, b: int, c: int, d: int) -> None:
    for left, right, target, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x[left] = x[left] + x[right]
        mixed = x[target] ^ x[left]
        x[target] = mixed << np.uint32(turn) | mixed >> np.uint32(32 - turn)


def chacha20(key: Sequence[int], first: int, blocks: int) -> Words:
    """16 `blocks` words of the key stream, from block `first` on."""
    counter = np.arange(first, first + blocks, dtype=np.uint64)
    low, high = (counter & np.uint64(MASK_32)), counter >> np.uint64(32)
    nonce = np.zeros(blocks, np.uint32)
    start = [np.full(blocks, word, np.uint32) for word in (*CONSTANTS, *key)]
    start += [low.astype(np.uint32), high.astype(np.uint32), nonce, nonce]
    x = list(start)
    for _ in range(10):
        for quarter in (*COLUMNS, *DIAGONALS):
            _quarter_round(x, *quarter)
    return np.stack([a + b for a, b in zip(x, start, strict=True)], axis=1).ravel()


class ContestRandom:
    """The generator a contest's tool makes of a u64 seed. Every draw advances it."""

    def __init__(self, seed: int) -> None:
        self._key = key_of(seed)
        self._block = 0
        self._words: list[int] = []
        self._at = 0

    def u32(self) -> int:
        if self._at == len(self._words):
            self._refill()
        self._at += 1
        return self._words[self._at - 1]

    def u64(self) -> int:
        at = self._at
        if at + 2 > len(self._words):
            low = self.u32()
            return low | self.u32() << 32
        self._at = at + 2
        return self._words[at] | self._words[at + 1] << 32

    def _refill(self) -> None:
        self._words = chacha20(self._key, self._block, BLOCKS).tolist()
        self._block += BLOCKS
        self._at = 0

    def unit(self) -> float:
        """Uniform in [0, 1), 53 bits."""
        return (self.u64() >> 11) * 2.0**-53

    def whole(self, lowest: int, highest: int) -> int:
        """A 32-bit integer in `lowest`..=`highest`."""
        count = highest - lowest + 1
        zone = (count << (32 - count.bit_length())) - 1
        while True:
            product = self.u32() * count
            if product & MASK_32 <= zone:
                return lowest + (product >> 32)

    def between(self, lowest: float, highest: float) -> float:
        """Uniform in `lowest`..=`highest`, 52 bits."""
        scale = (highest - lowest) / (1.0 - 2.0**-52)
        while lowest + scale * (1.0 - 2.0**-52) > highest:
            scale = math.nextafter(scale, 0.0)
        return (self.u64() >> 12) * 2.0**-52 * scale + lowest

    def normal(self) -> float:
        """Standard normal by the ziggurat."""
        edges, heights = ziggurat()
        while True:
            bits = self.u64()
            layer = bits & 255
            u = 2.0 * (1.0 + (bits >> 12) * 2.0**-52) - 3.0
            x = u * edges[layer]
            if abs(x) < edges[layer + 1]:
                return x
            if layer == 0:
                return self._tail(u)
            above = heights[layer + 1] + (heights[layer] - heights[layer + 1]) * self.unit()
            if above < math.exp(-x * x / 2.0):
                return x

    def _tail(self, u: float) -> float:
        while True:
            across = math.log(self._open_unit()) / ZIGGURAT_R
            down = math.log(self._open_unit())
            if -2.0 * down >= across * across:
                return across - ZIGGURAT_R if u < 0.0 else ZIGGURAT_R - across

    def _open_unit(self) -> float:
        return (self.u64() >> 12) * 2.0**-52 + 2.0**-53


class WeightedIndex:
    """Draws indices in proportion to float weights."""

    def __init__(self, weights: Sequence[float]) -> None:
        *self._sums, total = accumulate(weights)
        self._scale = total
        while self._scale * (1.0 - 2.0**-52) >= total:
            self._scale = math.nextafter(self._scale, 0.0)

    def draw(self, rng: ContestRandom) -> int:
        return bisect_right(self._sums, (rng.u64() >> 12) * 2.0**-52 * self._scale)


@cache
def ziggurat() -> tuple[list[float], list[float]]:
    """(x_0 … x_256, f(x_0) … f(x_256)) of 256 layers of equal area under f = exp(-x^2/2)."""

    def f(x: float) -> float:
        return math.exp(-x * x / 2.0)

    r = ZIGGURAT_R
    area = r * f(r) + math.sqrt(math.pi / 2.0) * math.erfc(r / math.sqrt(2.0))
    x = [area / f(r), r]
    while len(x) < 256:
        x.append(math.sqrt(-2.0 * math.log(area / x[-1] + f(x[-1]))))
    x.append(0.0)
    return x, [f(edge) for edge in x]


def rounded(x: float) -> int:
    """The nearest whole number, halves away from zero."""
    return math.trunc(x + math.copysign(0.5 - 2.0**-54, x))
