"""What the model is told about the autocorrelation inequalities, where it starts, the records."""

from eurekaflow.verifiers.problem import Record

AC1_FULL = """\
Find a step function that certifies a small bound for the first autocorrelation inequality.

Let C1 be the largest constant with max over |t| <= 1/2 of (f*f)(t) >= C1 (integral of f)^2 for all
f >= 0 on [-1/4, 1/4]. Every f proves that C1 is at most its own ratio, so the smaller the ratio,
the better the theorem. C1 is known to be at least 1.28.

Write f as n heights a on equal cells. Then f*f is linear between the knots of
c = np.convolve(a, a), and the ratio is exactly
    bound = 2 n max(c) / sum(a)^2.
It does not depend on the scale of a.

Rules: a flat list of 1 to 100000 finite numbers (at least 1000 to be built upon later), none below
-1e-12 of the maximum (such tiny negatives become 0), not all zero. The bound is recomputed; a
result beyond the record is checked in integer arithmetic.

Write `propose_candidate(seed, budget_s, **kwargs)` that returns the list. Also defined for you:
`evaluate_sequence(a)`, a copy of the check, which gives the bound or infinity. The global
`height_sequence_1` holds the best known heights to start from (float64 array; read it, do not
redefine it). Ideas: a linear program for a direction g (maximise sum(g) with f*g <= max(f*f) and
g >= 0, then f <- (1-t) f + t g with a search over t), gradient descent on a smoothed maximum,
refining a good function on more cells.
"""

AC2_FULL = """\
Find a step function that certifies a large bound for the second autocorrelation inequality.

Let C2 be the smallest constant with ||f*f||_2^2 <= C2 ||f*f||_1 ||f*f||_inf for all f >= 0. Every
f proves that C2 is at least its own ratio, so the larger the ratio, the better the theorem. By
Hoelder's inequality C2 <= 1, and no f reaches 1.

Write f as n heights a on equal cells. Then f*f is linear between the knots of
c = np.convolve(a, a), zero beyond, and the ratio is exactly
    bound = (2 sum(c_i^2) + sum(c_i c_(i+1))) / (3 sum(c) max(c)).
It depends neither on the scale of a nor on the width of the cells.

Rules: a flat list of 1 to 100000 finite numbers (at least 1000 to be built upon later), none below
-1e-12 of the maximum (such tiny negatives become 0), not all zero. The bound is recomputed; a
result beyond the record is checked in integer arithmetic.

Write `construct_function()` that returns the list. Also defined for you: `evaluate_sequence(a)`, a
copy of the check, which gives the bound, or 0 for an illegal list. The global `height_sequence_1`
holds the best known heights to start from (float64 array; read it, do not redefine it). Ideas:
L-BFGS on the square roots of the heights with a smoothed maximum, many starts, sparse combs of
narrow peaks, refining a good function on more cells.
"""

AC1_BRIEF = """\
Autocorrelation: a is a long array of heights >= 0, scored by c1(a), lower is better.
climb(a, change) keeps the random changes of a that lower it; bump(a) is a random bump.
"""

AC2_BRIEF = """\
Autocorrelation: a is a long array of heights >= 0, scored by c2(a), higher is better.
climb(a, change) keeps the random changes of a that raise it; bump(a) is a random bump.
"""

# The model completes the change and closes the block: about twenty tokens.
AC1_OPENING = """\
```python
def propose_candidate():
    return climb(height_sequence_1, lambda a:"""

AC2_OPENING = """\
```python
def construct_function():
    return climb(height_sequence_1, lambda a:"""

# What small models start from, beside the constant heights: an example of a change.
AC1_EXAMPLE = """\
def propose_candidate():
    return climb(height_sequence_1, lambda a: a + 0.5 * bump(a))
"""

AC2_EXAMPLE = """\
def construct_function():
    return climb(height_sequence_1, lambda a: a + 0.5 * bump(a))
"""

# Appended to the tools: the names that the statements promise.
AC1_NAMES = '''

def evaluate_sequence(sequence: object) -> float:
    """The bound on C1, or infinity when the sequence would be rejected."""
    try:
        a = heights(sequence)
    except (TypeError, ValueError):
        return float("inf")
    return c1(a, autoconvolution(a))


def climb(a, change, steps=300):
    """The best a after `steps` tries of `change`, each kept when the bound falls."""
    return climb_by(lambda a: -c1(a, autoconvolution(a)), a, change, steps)
'''

AC2_NAMES = '''

def evaluate_sequence(sequence: object) -> float:
    """The bound on C2, or 0 when the sequence would be rejected."""
    try:
        a = heights(sequence)
    except (TypeError, ValueError):
        return 0.0
    return c2(a, autoconvolution(a))


def climb(a, change, steps=300):
    """The best a after `steps` tries of `change`, each kept when the bound rises."""
    return climb_by(lambda a: c2(a, autoconvolution(a)), a, change, steps)
'''

# What large models start from: the steps of a linear program, on few cells.
AC1_STARTER = """\
import time
from scipy.linalg import convolution_matrix
from scipy.optimize import linprog

def propose_candidate(seed, budget_s, **kwargs):
    rng, stop, n = np.random.default_rng(seed), time.monotonic() + 0.5 * budget_s, 40
    f = np.array([part.mean() for part in np.array_split(height_sequence_1, n)])
    f = f * rng.uniform(0.8, 1.2, n)
    while time.monotonic() < stop:
        peak = np.convolve(f, f).max()
        found = linprog(-np.ones(n), A_ub=convolution_matrix(f, n), b_ub=np.full(2 * n - 1, peak))
        if found.x is None:
            break
        trials = [(1 - t) * f + t * found.x for t in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)]
        best = min(trials, key=evaluate_sequence)
        if evaluate_sequence(best) >= evaluate_sequence(f):
            break
        f = best
    return np.repeat(f, 25).tolist()  # the same function on 1000 cells
"""

# What large models start from: a gradient search on few cells.
AC2_STARTER = """\
from scipy.optimize import minimize

def construct_function():
    n = 50
    def loss(x, p):
        a = x * x
        c = np.convolve(a, a)
        top = c.max()
        z = c / top
        squares, powers = 2 * z @ z + z[1:] @ z[:-1], z ** p
        near = np.pad(z, 1)
        slope = (4 * z + near[2:] + near[:-2]) / squares - 1 / z.sum()
        slope = slope - z ** (p - 1) / powers.sum()
        value = np.log(squares / z.sum()) - np.log(powers.sum()) / p
        return -value, -2 * x * 2 * np.correlate(slope / top, a, "valid")
    best = np.ones(n)
    for start in range(3):
        x = np.random.uniform(0.2, 1.0, n)
        for p in (20, 100, 500, 2000):
            more = {"jac": True, "method": "L-BFGS-B", "options": {"maxiter": 150}}
            x = minimize(loss, x, args=(p,), **more).x
        if evaluate_sequence(x * x) > evaluate_sequence(best):
            best = x * x
    return np.repeat(best, 20).tolist()  # the same function on 1000 cells
"""

AC1_RECORDS = (
    Record(
        holder="Matolcsi and Vinuesa 2010",
        score=1.50973,
        kind="human",
        role="human",
        mode="float64, 208 steps",
        source="Improved bounds on the supremum of autoconvolutions, arXiv 0907.1379",
    ),
    Record(
        holder="AlphaEvolve",
        score=1.50530,
        kind="ai",
        role="previous AI",
        mode="float64, 600 steps",
        source="AlphaEvolve, appendix B",
    ),
    Record(
        holder="AlphaEvolve V2",
        score=1.50317,
        kind="ai",
        role="previous AI",
        mode="float64, 1,319 steps",
        source="arXiv 2601.16175, table 2",
    ),
    Record(
        holder="ThetaEvolve",
        score=1.50314,
        kind="ai",
        role="previous AI",
        mode="float64, refined from AlphaEvolve V2; 1.50681 from scratch",
        source="arXiv 2601.16175, table 2",
    ),
    Record(
        holder="TTT-Discover",
        score=1.50287,
        kind="ai",
        role="TTT-Discover",
        mode="float64, 30,000 steps",
        source="arXiv 2601.16175, table 2",
    ),
)

AC2_RECORDS = (
    Record(
        holder="Matolcsi and Vinuesa 2010",
        score=0.88922,
        kind="human",
        role="human",
        mode="float64",
        source="Improved bounds on the supremum of autoconvolutions, arXiv 0907.1379",
    ),
    Record(
        holder="Boyer and Li 2025",
        score=0.901564,
        kind="human",
        role="human",
        mode="float64, 575 steps",
        source="arXiv 2601.16175, related work",
    ),
    Record(
        holder="arXiv 2508.02803",
        score=0.94,
        kind="human",
        role="human",
        mode="float64, 2,399 steps; printed as about 0.94",
        source="arXiv 2508.02803",
    ),
    Record(
        holder="AlphaEvolve",
        score=0.8962,
        kind="ai",
        role="previous AI",
        mode="float64, 50 steps",
        source="AlphaEvolve, appendix B",
    ),
    Record(
        holder="ThetaEvolve",
        score=0.9468,
        kind="ai",
        role="previous AI",
        mode="float64",
        source="arXiv 2601.16175, table 2",
    ),
    Record(
        holder="TTT-Discover",
        score=0.9591,
        kind="ai",
        role="TTT-Discover",
        mode="float64, 50,000 steps; not a record",
        source="arXiv 2601.16175, table 2",
    ),
    Record(
        holder="AlphaEvolve V2",
        score=0.9610,
        kind="ai",
        role="newest",
        mode="float64, 50,000 steps, a sparse comb",
        source="arXiv 2601.16175, table 2",
    ),
)
