"""What is compiled in one process of a program reaches the next one, and nothing else does."""

from __future__ import annotations

import base64
import io
import tarfile
import tempfile
from pathlib import Path

import pytest

from eurekaflow.verifiers import gpu_compiled
from eurekaflow.verifiers.gpu_attached import CandidateFailed
from eurekaflow.verifiers.gpu_reference import KEPT_BYTES, Worker


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def test_what_was_compiled_is_put_back(scratch: Path) -> None:
    (scratch / "triton/ab").mkdir(parents=True)
    (scratch / "triton/ab/kernel.cubin").write_bytes(bytes(range(256)))
    (scratch / "other").write_text("not carried")
    packed = gpu_compiled.pack()
    for path in (scratch / "triton/ab/kernel.cubin", scratch / "other"):
        path.unlink()
    gpu_compiled.unpack(packed)
    assert (scratch / "triton/ab/kernel.cubin").read_bytes() == bytes(range(256))
    assert not (scratch / "other").exists()


def test_nothing_compiled_is_nothing_carried(scratch: Path) -> None:
    gpu_compiled.unpack(gpu_compiled.pack())
    gpu_compiled.unpack("")
    assert not list(scratch.iterdir())


def _packed(name: str) -> str:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    return base64.b64encode(made.getvalue()).decode()


@pytest.mark.parametrize(
    "packed", ["%", "AAAA", _packed("../outside")[:-9], _packed("../outside")]
)
def test_what_the_packer_cannot_have_given_is_left(packed: str, scratch: Path) -> None:
    gpu_compiled.unpack(packed)
    assert not (scratch.parent / "outside").exists()


def test_the_trusted_worker_hands_on_what_it_was_given_and_survives_a_lost_process() -> None:
    class Theirs:
        answers: object = {"compiled": "packed"}

        def ask(self, request: dict[str, object], timeout_s: float, largest: int = 0) -> object:
            if request["do"] == "load":
                return request
            assert largest == KEPT_BYTES
            if isinstance(self.answers, Exception):
                raise self.answers
            return self.answers

    worker, theirs = Worker(), Theirs()
    worker.candidate = theirs  # type: ignore[assignment]
    load = {"do": "load", "source": "s", "entry": "e", "timeout_s": 1.0}
    worker.do_keep({"timeout_s": 1.0})
    assert worker.do_load({**load, "kept": True})["compiled"] == "packed"
    assert worker.do_load({**load, "kept": False})["compiled"] == ""
    theirs.answers = CandidateFailed("died", "gone")
    worker.do_keep({"timeout_s": 1.0})
    assert worker.do_load({**load, "kept": True})["compiled"] == ""
