"""Every built-in problem that needs no GPU keeps the contract that ships for users' problems."""

from __future__ import annotations

import pytest

from eurekaflow.verifiers.contract_problem import ProblemContract
from eurekaflow.verifiers.mutations import mutations

pytestmark = pytest.mark.slow


class TestErdos(ProblemContract):
    spec = "erdos"


class TestAc1(ProblemContract):
    spec = "ac1"


class TestAc2(ProblemContract):
    spec = "ac2"


class TestPacking26(ProblemContract):
    spec = "circle-packing-26"


class TestPacking32(ProblemContract):
    spec = "circle-packing-32"


class TestAhc039(ProblemContract):
    spec = "ahc039"


class TestAhc058(ProblemContract):
    spec = "ahc058"


class TestDenoising(ProblemContract):
    spec = "denoising"


@pytest.mark.services
class TestSqlQuery(ProblemContract):
    spec = "sql-query"

    @pytest.fixture(scope="class")
    def service(self, sql_url: str) -> str:
        return sql_url


def test_an_answer_is_mutated_at_its_edges_and_inside() -> None:
    found = mutations(b"[[1.0, 2.0], [3.0]]", text=False)
    assert found["shortened"] == b"[[1.0, 2.0]]"
    assert found["lengthened"] == b"[[1.0, 2.0], [3.0], [3.0]]"
    assert found["nested"] == b"[[[1.0, 2.0], [3.0]]]"
    assert found["emptied"] == b"[]"
    assert found["shortened inside"] == b"[[1.0], [3.0]]"
    assert found["emptied inside"] == b"[[], [3.0]]"
