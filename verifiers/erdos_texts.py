"""What the model is told about the Erdős problem: full statement, brief one, opening."""

FULL = """\
Find a step function with a small overlap: Erdős' minimum overlap problem.

h is a step function on [0, 2] with values in [0, 1] and integral 1. Its overlap at shift x is the
integral of h(t) (1 - h(t + x)) dt, where both h and 1 - h are zero outside [0, 2]. C5(h) is the
maximum of the overlap over all shifts. Every h proves that Erdős' constant is at most C5(h), so
the smaller C5(h), the better the theorem. The constant is known to lie above 0.379005.

Write h as n values on n equal cells of width 2/n, with sum n/2. Then
    C5 = max over k of (2/n) * sum_i h[i] * (1 - h[i + k]),   terms outside the list dropped,
which is `np.correlate(h, 1 - h, "full").max() * 2 / n`. The maximum over whole shifts is exact.

Rules for h: one-dimensional, at most 1000 values, all finite and not negative. Its sum is
rescaled to n/2 exactly, no value may then exceed 1, and the rescaled function is scored. Your own
C5 is only compared with ours.

Write `run(seed, budget_s, **kwargs)` that returns `(h, c5, n_points)`: the values, their C5 and
their number. Also defined for you: `evaluate_erdos_solution(h, c5, n_points)`, which gives C5 or
infinity, and `verify_c5_solution(h, c5, n_points)`, which raises ValueError with the reason; both
are copies of the real check. The global `initial_h_values` holds the best known h to start from
(float64 array; read it, do not redefine it). More cells allow better functions; they need not be
symmetric. Ideas: sequential linear programming on the linearised overlaps with a trust region,
gradient descent on a smoothed maximum, refining a coarse solution on more cells.
"""

BRIEF = """\
Erdos overlap: h is an array of values in [0, 1], scored by c5(h), lower is better.
climb(h, change) keeps the changes of h that lower it. improve(h, reach) lowers c5(h), no value
moves by more than reach at once. cells(h, n) is h on n cells.
"""

# The model completes the change and closes the block: about twenty tokens.
OPENING = """\
```python
def run():
    return climb(initial_h_values, lambda h:"""

# What small models start from, beside the random h: an example of a change, far from the best.
EXAMPLE = """\
def run():
    return climb(initial_h_values, lambda h: improve(h + np.random.normal(0, 0.01, len(h)), 0.01))
"""
