"""The root folder of the sandbox image, packed from this machine: Python, numpy, scipy, C++.

No registry is asked. What goes in: the interpreter with its standard library, numpy and scipy, the
shared libraries that these need, the files of g++ and of the Debian packages it depends on (where
dpkg knows g++), and the few files of ours that run inside. Paths are the host's, so an interpreter
works as it does outside; no account, key, home or configuration of the host is among them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO

CODE, SITE = "/opt/code", "/opt/site"  # where ours and numpy's lie in the image
RECIPE = "3"  # raise it when this file packs something else
FOLDER = Path(__file__).resolve().parent
INSIDE = """
__init__ candidate cgroup confine docker_frames docker_porter exchange landlock layers namespaces
process sandbox seccomp stub syscalls worker zygote
"""
SKIPPED_FOLDERS = frozenset({
    "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages",
    "dist-packages", "pip", "doc", "man", "locale", "lintian", "info", "gdb", "gconv", "gprofng",
})  # fmt: skip
SKIPPED_FILES = re.compile(r"lto1$|lto-dump|gprof|lib[alt]san|libubsan|libpython.*\.a$|dwp$|gcov")
EMPTY = ("opt/code", "proc", "sys", "dev", "etc", "scratch", "tmp", "run")
LINKS = ("bin", "lib", "lib32", "lib64", "sbin")
COMPILER = "g++"


def packages() -> list[str]:
    """numpy and scipy, where installed."""
    return [name for name in ("numpy", "scipy") if find_spec(name) is not None]


def tag() -> str:
    """A name for exactly this content: equal on machines with the same versions."""
    parts = [RECIPE, platform.machine(), sys.version, sys.base_prefix]
    parts += [f"{name}=={importlib.metadata.version(name)}" for name in packages()]
    parts += [f"{name}={version}" for name, version in sorted(compiler_packages().items())]
    return _hashed(*parts)


def code_tag() -> str:
    """A name for the base together with our own sources in it."""
    return _hashed(tag(), *(path.read_text(encoding="utf-8") for path in _own_files()))


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _own_files() -> list[Path]:
    return [FOLDER / f"{name}.py" for name in INSIDE.split()] + sorted(
        path for path in FOLDER.glob("*.py") if path.stem.startswith("cpp_")
    )


@cache
def compiler_packages() -> dict[str, str]:
    """Debian packages with their versions that g++ needs; empty where dpkg or g++ is absent."""
    form = "${Package}\t${Version}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
    try:
        listing = subprocess.run(
            ["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    versions: dict[str, str] = {}
    needs: dict[str, list[list[str]]] = {}
    providers: dict[str, str] = {}
    for line in listing.splitlines():
        name, version, provided, needed = line.split("\t")
        versions[name], needs[name] = version, [_names(group) for group in needed.split(",")]
        providers |= {other: name for group in provided.split(",") for other in _names(group)}
    chosen: dict[str, str] = {}
    waiting = [COMPILER] if COMPILER in versions else []
    while waiting:
        name = waiting.pop()
        if name in chosen:
            continue
        chosen[name] = versions[name]
        for group in needs[name]:
            found = [n for n in group if n in versions] or [
                providers[n] for n in group if n in providers
            ]
            waiting += found[:1]
    return chosen


def _names(alternatives: str) -> list[str]:
    words = [re.match(r"[a-z0-9.+-]+", part.strip()) for part in alternatives.split("|")]
    return [word[0] for word in words if word]


def write(target: IO[bytes]) -> None:
    """Pack the root folder into `target` as an uncompressed tar file."""
    with tarfile.open(fileobj=target, mode="w", dereference=False) as archive:
        _Packer(archive).pack()


def write_code(target: IO[bytes]) -> None:
    """Pack our own files into `target` as an uncompressed tar file."""
    with tarfile.open(fileobj=target, mode="w") as archive:
        for path in _own_files():
            archive.add(path, f"eurekaflow/verifiers/{path.name}", filter=_readable)


class _Packer:
    """Adds files under their real folders, each once; links bring what they point at."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._added: set[str] = set()

    def pack(self) -> None:
        for name in EMPTY:
            self._folder(f"/{name}")
        for name in LINKS:
            if os.path.islink(f"/{name}"):
                self._entry(f"/{name}", f"/{name}")
        self._text("/etc/passwd", "candidate:x:65534:65534::/scratch:/usr/sbin/nologin\n")
        self._python()
        for path in _compiler_files():
            self.add(path)

    def _python(self) -> None:
        executable = os.path.realpath(sys.executable)
        library = os.path.dirname(os.path.realpath(os.__file__))
        self.add(executable)
        binaries = [executable, *self._tree(library, library)]
        for name in packages():
            source = str(Path(str(find_spec(name).origin)).parent)  # type: ignore[union-attr]
            binaries += self._tree(source, f"{SITE}/{name}")
            libraries = f"{source}.libs"
            if os.path.isdir(libraries):
                binaries += self._tree(libraries, f"{SITE}/{name}.libs")
        here = tuple({str(Path(path).parent) for path in binaries})
        for path in _needed_libraries(binaries):
            if not path.startswith(here):
                self.add(path)

    def _tree(self, source: str, target: str) -> Iterator[str]:
        """Add a folder; gives the shared objects in it."""
        for folder, names, files in os.walk(source):
            names[:] = [name for name in names if name not in SKIPPED_FOLDERS]
            for name in files:
                stale = name.endswith(".pyc") and f".{sys.implementation.cache_tag}." not in name
                if stale or name.endswith((".a", ".pyi")):
                    continue
                path = f"{folder}/{name}"
                self._entry(path, target + path[len(source) :])
                if ".so" in name:
                    yield path

    def add(self, path: str) -> None:
        """Add a file at its own real place, and what it links to."""
        place = f"{os.path.realpath(os.path.dirname(path))}/{os.path.basename(path)}"
        if place in self._added or not os.path.lexists(place) or _is_folder(place):
            return
        self._entry(place, place)
        if os.path.islink(place):
            self.add(os.path.join(os.path.dirname(place), os.readlink(place)))

    def _entry(self, source: str, target: str) -> None:
        if target in self._added:
            return
        self._added.add(target)
        self._folder(os.path.dirname(target))
        self._archive.add(source, target.lstrip("/"), recursive=False, filter=_readable)

    def _folder(self, path: str) -> None:
        if path in ("", "/") or path in self._added:
            return
        self._folder(os.path.dirname(path))
        self._added.add(path)
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.mode = tarfile.DIRTYPE, 0o1777 if path == "/scratch" else 0o755
        self._archive.addfile(info)

    def _text(self, path: str, text: str) -> None:
        info = tarfile.TarInfo(path.lstrip("/"))
        info.size, info.mode = len(text), 0o644
        self._archive.addfile(info, io.BytesIO(text.encode()))


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _readable(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owned by root, readable by all, never set-uid."""
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode = (info.mode & 0o755) | 0o444
    if info.islnk():  # every name as a file of its own
        info.type = tarfile.REGTYPE
    return info


def _compiler_files() -> Iterator[str]:
    names = list(compiler_packages())
    if not names:
        return
    listing = subprocess.run(
        ["dpkg-query", "-L", *names], capture_output=True, text=True, check=True
    ).stdout
    for path in listing.splitlines():
        parts = path.split("/")
        wanted = len(parts) > 2 and parts[1] in ("usr", *LINKS)
        skipped = SKIPPED_FOLDERS.intersection(parts) or SKIPPED_FILES.search(parts[-1])
        if wanted and not skipped:
            yield path


def _needed_libraries(binaries: Iterable[str]) -> list[str]:
    """Absolute paths of the shared libraries, the loader included, that `binaries` ask for."""
    listing = subprocess.run(
        ["ldd", *binaries], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    ).stdout
    found = re.findall(r"(?:=> |^\s)(/\S+)", listing, re.MULTILINE)
    return sorted(set(found))
