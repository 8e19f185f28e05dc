"""What breaks under a run, and that it goes on afterwards: database, disk, a weights file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eurekaflow.flows.cli import ending
from eurekaflow.models import postgres, schema
from eurekaflow.models.archive import Archive
from eurekaflow.models.errors import ArchiveUnavailable, DeviceUnavailable
from eurekaflow.tasks import session
from tests.scripted_run import STAGES, add_run, place, work

pytestmark = pytest.mark.services


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a Postgres of its own, which a test may kill."""
    folder = Path(tempfile.mkdtemp(prefix="eurekaflow-faults-"))
    folder.chmod(0o755)
    with postgres.hold(folder):
        yield folder
    postgres.stop(folder, force=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_database_killed_mid_step_stops_the_stage_clearly_and_loses_nothing(home: Path) -> None:
    cluster = postgres.ensure(home)
    schema.bootstrap(cluster.url)
    run = add_run(cluster.url, steps=2)
    run_id = str(run.uuid)
    session.configure(place(cluster.url, home))
    with pytest.raises(ArchiveUnavailable):
        work_until_killed(home, run_id)
    session.close(run_id)
    again = postgres.ensure(home)
    session.configure(place(again.url, home))
    work(run_id)
    session.close(run_id, "finished")
    archive = Archive(again.url)
    assert archive.totals(run.id).attempts == 24
    assert archive.check_rebuild(run.id) == []
    archive.close()


def work_until_killed(home: Path, run_id: str) -> None:
    """The first step's sampling done, kill Postgres, and try to go on."""
    from eurekaflow.tasks.seed import seed

    seed.fn(run_id)
    for name, stage in STAGES.items():
        stage.fn(run_id, 0)
        if name == "sample":
            status = postgres.status(home)
            assert status.pid is not None
            os.kill(status.pid, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_stage_with_the_reason_and_the_run_goes_on_later(
    database_url: str, tmp_path: Path
) -> None:
    schema.bootstrap(database_url)
    run = add_run(database_url, steps=1)
    run_id, folder = str(run.uuid), tmp_path / "runs" / str(run.uuid)
    folder.mkdir(parents=True)
    session.configure(place(database_url, tmp_path))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        with pytest.raises(DeviceUnavailable, match="No space left") as failure:
            work(run_id)
        assert ending(failure.value)[0] == 3
        assert "full" in ending(failure.value)[1]
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    work(run_id)
    session.close(run_id, "finished")
    archive = Archive(database_url)
    assert archive.totals(run.id).steps == 1
    assert len(archive.checkpoints(run.id)) == 1
    archive.close()
