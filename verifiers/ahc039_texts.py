"""What the model is told about AHC039, the records, and where runs start."""

from typing import Literal

FULL = """\
Write a C++20 program for AtCoder Heuristic Contest 039, "Purse Seine Fishing".

The sea is [0, 100000]^2. There are N = 5000 mackerels and N sardines at distinct integer points,
each kind drawn from 10 to 25 Gaussian clusters (standard deviations 1000 to 5000). Catch many
mackerels and few sardines with one net: a simple polygon with axis-parallel edges.

Input: N, then 2N lines "x y"; the first N points are mackerels, the others sardines.
Output: m, then m lines "x y", the vertices in order. 4 <= m <= 1000; coordinates are whole numbers
in [0, 100000]; the total edge length is at most 400000; no edge of length zero; edges that are not
neighbours must not touch, and no edge may turn back on the one before. You may print several
polygons; the last one counts.

A point on the boundary is inside. With a mackerels and b sardines inside, the case score is
max(0, a - b + 1). The score is the sum over the cases run; one invalid answer, a crash or a
timeout on any case makes it 0. Limits of a case: 2.0 seconds of CPU time (threads add up), 1 GiB.

Ideas: a good start by dynamic programming or on a grid, then simulated annealing that moves edges
and adds or removes notches, with fast range counts and checks; stop at about 1.9 seconds.
Use the standard library only; read standard input, write standard output.
"""

BRIEF = """\
A net is built from column strips; fine(cells) is what a step of that height costs, in fish.
A higher score is better.
"""

# The model completes the expression and closes the block: about ten tokens.
OPENING = """\
```cpp
#include "baseline.hpp"
double fine(int cells) {
    return"""

EXAMPLE = """\
#include "baseline.hpp"
double fine(int cells) {
    return 8 * cells;
}
"""

Kind = Literal["human", "ai", "claim"]
Role = Literal["human", "previous AI", "TTT-Discover", "newest", ""]
_PAPER = "arXiv 2601.16175, table 6"
RECORDS: tuple[tuple[str, float, Kind, Role, str], ...] = (
    ("best human", 566_997, "human", "human", _PAPER),
    ("second human", 557_212, "human", "", _PAPER),
    ("third human", 554_334, "human", "", _PAPER),
    ("fourth human", 552_933, "human", "", _PAPER),
    ("fifth human", 549_746, "human", "", _PAPER),
    ("ALE-Agent", 550_647, "ai", "", _PAPER),
    ("ShinkaEvolve", 558_026, "ai", "previous AI", _PAPER),
    ("best of 25 600", 554_171, "ai", "", _PAPER),
    ("TTT-Discover", 567_062, "ai", "TTT-Discover", _PAPER),
)
