"""One throwaway server for the tests of a module, in a folder that is removed afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eurekaflow.models import postgres
from eurekaflow.models.throwaway import FOLDER, throwaway


@pytest.fixture(scope="session")
def open_home() -> Iterator[Path]:
    """A home that every user may enter, as a server started by root needs it."""
    home = Path(tempfile.mkdtemp(prefix="eurekaflow-sql-"))
    home.chmod(0o755)
    yield home
    if (home / FOLDER).exists():
        postgres.stop(home / FOLDER, force=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def sql_url(open_home: Path) -> Iterator[str]:
    """The URL of a throwaway server."""
    with throwaway(open_home) as url:
        yield url
