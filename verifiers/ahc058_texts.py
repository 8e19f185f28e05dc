"""What the model is told about AHC058, the records, and where runs start."""

from typing import Literal

FULL = """\
Write a C++20 program for AtCoder Heuristic Contest 058, "Apple Incremental Game".

There are N = 10 ids and L = 4 levels of machines, T = 500 turns and K = 1 apple at the start.
Machine (i, j) of level i and id j has a count B[i][j], at first 1, and a strength P[i][j], at
first 0. Each turn you may raise one P[i][j] by one for C[i][j] * (P[i][j] + 1) apples, which you
must have. Then, for levels 0, 1, 2, 3 in this order and every id j: level 0 adds
A[j] * B[0][j] * P[0][j] apples; level i >= 1 adds B[i][j] * P[i][j] to B[i-1][j].

Input: "N L T K"; then A[0..N-1], ascending from A[0] = 1; then L lines of N costs, C[i][j].
A[j] is about 10^u, u uniform in [0, 2]; C[i][j] is about A[j] * 500^i * 10^u; C[0][0] = 1.
Output: T lines, each "i j" (level, id) or "-1" to buy nothing.

With S apples at the end the case score is round(10^5 log2 S). The score is the sum over the cases
run; one invalid answer (an upgrade you cannot pay, too few lines), a crash or a timeout on any
case makes it 0. Limits of a case: 2.0 seconds of CPU time (threads add up), 1 GiB.

Ideas: beam search over what to buy and when; a plan as a sequence of phases (build level 3 and 2
of one id, then 1, then 0) improved by local search with fast simulation; stop at 1.9 seconds.
Use the standard library only; read standard input, write standard output.
"""

BRIEF = """\
Each turn buys the machine of the greatest worth. gain: apples it brings; cost: its price;
left: turns left; level: 0 to 3. A higher score is better.
"""

# The model completes the expression and closes the block: about ten tokens.
OPENING = """\
```cpp
#include "baseline.hpp"
double worth(double gain, double cost, double left, int level) {
    return"""

EXAMPLE = """\
#include "baseline.hpp"
double worth(double gain, double cost, double left, int level) {
    return gain / cost;
}
"""

Kind = Literal["human", "ai", "claim"]
Role = Literal["human", "previous AI", "TTT-Discover", "newest", ""]
_PAPER = "arXiv 2601.16175, table 6"
RECORDS: tuple[tuple[str, float, Kind, Role, str], ...] = (
    ("best human", 847_674_723, "human", "human", _PAPER),
    ("second human", 846_938_871, "human", "", _PAPER),
    ("third human", 846_350_877, "human", "", _PAPER),
    ("fourth human", 845_489_747, "human", "", _PAPER),
    ("fifth human", 845_324_831, "human", "", _PAPER),
    ("ALE-Agent", 848_373_282, "ai", "previous AI", _PAPER),
    ("best of 25 600", 772_429_752, "ai", "", _PAPER),
    ("TTT-Discover", 848_414_228, "ai", "TTT-Discover", _PAPER),
)
