"""What the model is told about circle packing, the records, and where small models start."""

from eurekaflow.verifiers.problem import Record

FULL = """\
Pack {n} circles into the unit square so that the sum of their radii is as large as possible.

Rules: exactly {n} circles; every radius positive; every circle inside [0, 1] x [0, 1]; no two
circles overlap (distance of centers >= sum of radii). If the worst violation (an overlap, or the
part of a circle outside) is at most 1e-9, every radius is shrunk by all of it; what remains is
checked in exact rational arithmetic with zero tolerance, and the sum of the shrunk radii is the
score. Your own sum is only compared with ours.

Write `run_packing()` that returns `(centers, radii, sum_of_radii)`: centers of shape ({n}, 2),
radii of shape ({n},). You may return `centers` alone; the best radii for them are then found by
a linear program. Also defined for you: `validate_packing(centers, radii)`, which returns the sum
or raises ValueError naming the broken rule, and `best_radii(centers)`, that linear program.

What is known: the best packings are neither grids nor hexagonal, mix different radii, let circles
touch the walls and fill the corners with smaller ones. Optimising centers and radii together
(SLSQP or another constrained method with analytic gradients, from many starts) goes far.
"""

BRIEF = """\
Pack {n} circles in the unit square: c holds their centers ({n} x 2), scored by total_radii(c),
higher is better. climb(c, change) keeps the random changes of c that raise it.
"""

# The model completes the change and closes the block: about twenty tokens.
OPENING = """\
```python
def run_packing():
    return climb(parent_centers, lambda c:"""

# What small models start from, beside the concentric rings: an example of a change.
EXAMPLE = """\
def run_packing():
    return climb(parent_centers, lambda c: c + np.random.normal(0, 0.1, c.shape))
"""

_FRIEDMAN = "https://erich-friedman.github.io/packing/cirRsqu"
_TABLE = "arXiv 2601.16175, table 3"

RECORDS_26 = (
    Record(
        holder="Friedman, Packing Center",
        score=2.634,
        kind="human",
        role="human",
        mode="printed to three decimals",
        source=_FRIEDMAN,
    ),
    Record(
        holder="AlphaEvolve",
        score=2.635862,
        kind="ai",
        role="previous AI",
        mode="float64, no tolerance",
        source="AlphaEvolve, appendix B",
    ),
    Record(
        holder="ShinkaEvolve",
        score=2.635982,
        kind="ai",
        role="previous AI",
        mode="float64, tolerance not stated",
        source=_TABLE,
    ),
    Record(
        holder="AlphaEvolve V2, ThetaEvolve, TTT-Discover",
        score=2.635983,
        kind="ai",
        role="TTT-Discover",
        mode="float64, tolerance 1e-12",
        source=_TABLE,
    ),
    Record(
        holder="a public page of 2026",
        score=2.6359830853,
        kind="claim",
        role="newest",
        mode="stricter than 1e-12, by its own account",
        source="a web page; unconfirmed",
    ),
)

RECORDS_32 = (
    Record(
        holder="Friedman, Packing Center",
        score=2.936,
        kind="human",
        role="human",
        mode="printed to three decimals",
        source=_FRIEDMAN,
    ),
    Record(
        holder="AlphaEvolve",
        score=2.937944,
        kind="ai",
        role="previous AI",
        mode="float64, no tolerance",
        source="AlphaEvolve, appendix B",
    ),
    Record(
        holder="AlphaEvolve V2, TTT-Discover",
        score=2.939572,
        kind="ai",
        role="TTT-Discover",
        mode="float64, tolerance 1e-12",
        source=_TABLE,
    ),
)
