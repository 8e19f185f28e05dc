"""Arrays on the wire, and what makes two answers the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eurekaflow.models import arrays


@given(
    hnp.arrays(
        st.sampled_from(["f8", "f4", "i4", "?"]).map(np.dtype),
        hnp.array_shapes(max_dims=2, max_side=5),
    )
)
def test_arrays_survive_the_wire_format(array: Any) -> None:
    back = arrays.from_wire(arrays.to_wire(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_minus_zero_is_the_same_answer_but_another_body() -> None:
    plus, minus = np.array([0.0, 1.0]), np.array([-0.0, 1.0])
    assert arrays.dedupe_key(plus, "") == arrays.dedupe_key(minus, "")
    assert arrays.array_hash(plus) != arrays.array_hash(minus)


def test_a_row_and_a_column_are_different_answers() -> None:
    flat = np.arange(4.0)
    assert arrays.dedupe_key(flat, "") != arrays.dedupe_key(flat.reshape(2, 2), "")


def test_without_construction_the_program_is_the_answer() -> None:
    assert arrays.dedupe_key(None, "p") == arrays.dedupe_key(np.empty(0), "p")
    assert arrays.dedupe_key(None, "") is None
