"""The image of docker/Dockerfile, built without a registry and without a network.

Its base is imported from this machine: Debian's required packages and g++ with what it needs, the
interpreter and its standard library, and the installed packages that eurekaflow depends on, which
pip then finds satisfied, of the model's libraries no more than their names. The base lacks
eurekaflow, apt's lists and every account and key.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from packaging.requirements import Requirement

from eurekaflow.verifiers import docker_rootfs

ROOT = Path(__file__).resolve().parent.parent
BASE, IMAGE = "python-of-this-machine", "eurekaflow:local"
SKIPPED = re.compile(
    r"/(__pycache__|test|tests|idlelib|tkinter|turtledemo|include|doc|man|locale|EXTERNALLY-MANAGED)"
    r"(/|$)|libpython[^/]*\.a$"
)
NEEDED_TESTS = re.compile(r"/numpy/")  # imported by the package
COMPILING = re.compile(r"/cc1(plus)?$|\.a$")  # a quarter of the image: no C++ is compiled in it
# Half of the image, and not imported where the policy is a scripted one: pip asks for their names.
UNUSED = {"torch", "triton", "transformers", "sympy", "networkx", "tokenizers"}
BUILD = ("pip", "setuptools", "packaging")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*:1::::::\n",
    "etc/login.defs": "",
}


def docker(address: str | None, *arguments: str, stdin: IO[bytes] | None = None) -> str:
    """One command of the engine's client; what it prints. Fails with all that it said."""
    where = [] if address is None else ["--host", address]
    done = subprocess.run(
        ["docker", *where, *arguments],
        stdin=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said[-4000:]
    return done.stdout.decode(errors="replace").strip()


def build(address: str | None) -> str:
    """The image, from the clone as a user builds it; its name."""
    read, write = os.pipe()
    where = [] if address is None else ["--host", address]
    with os.fdopen(read, "rb") as source:
        command = ["docker", *where, "import", "-", BASE]
        importing = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE)
    with os.fdopen(write, "wb") as target:
        pack(target)
    out, _ = importing.communicate(timeout=300)
    assert importing.returncode == 0, out
    arguments = [f"BASE={BASE}", "TORCH=" + torch(), "PIP_OPTIONS=--no-index --no-build-isolation"]
    options = [word for text in arguments for word in ("--build-arg", text)]
    docker(address, "build", "--network", "none", "--file", str(ROOT / "docker/Dockerfile"),
           "--tag", IMAGE, *options, str(ROOT))  # fmt: skip
    return IMAGE


def torch() -> str:
    """The installed version, without the build's label."""
    return importlib.metadata.version("torch").partition("+")[0]


def pack(target: IO[bytes]) -> None:
    """Write the base's root folder as a tar file."""
    with tarfile.open(fileobj=target, mode="w|", bufsize=1 << 20) as archive:
        links = [name for name in docker_rootfs.LINKS if os.path.islink(f"/{name}")]
        for name in links:
            archive.add(f"/{name}", name)
        for name, mode in {"tmp": 0o1777, "proc": 0o755, "sys": 0o755, "dev": 0o755}.items():
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            archive.addfile(info)
        for source, place in files():
            archive.add(source, place.lstrip("/"), recursive=False, filter=readable)
        for name, text in FILES.items():
            with open_text(text) as content:
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, content)


def files() -> Iterator[tuple[str, str]]:
    """Everything that goes in, each once: where it lies here, and in the image."""
    seen: set[str] = set()
    for source, place in (*debian(), *python(), *libraries()):
        real = f"{os.path.realpath(os.path.dirname(place))}/{os.path.basename(place)}"
        top = real.startswith("//")  # /bin and the like, links that are there already
        if real not in seen and not top and os.path.lexists(source):
            seen.add(real)
            yield source, real


def debian() -> Iterator[tuple[str, str]]:
    """The files of Debian's required packages and of g++ with what it needs."""
    listing = run("dpkg-query", "-W", "-f", "${Priority} ${Package}\n")
    names = [line.split()[1] for line in listing.splitlines() if line.startswith("required ")]
    owned = run("dpkg-query", "-L", *names, *docker_rootfs.compiler_packages())
    for path in owned.splitlines():
        inside = path.startswith(("/usr", "/bin", "/sbin", "/lib"))
        skipped = SKIPPED.search(path) or docker_rootfs.SKIPPED_FILES.search(path)
        skipped = skipped or COMPILING.search(path)
        if inside and not skipped and (os.path.islink(path) or os.path.isfile(path)):
            yield path, path


def python() -> Iterator[tuple[str, str]]:
    """The interpreter as /usr/bin or /usr/local/bin/python3, its library, installed packages."""
    prefix = "/usr" if sys.base_prefix == "/usr" else "/usr/local"
    library = os.path.dirname(os.path.realpath(os.__file__))
    name = os.path.basename(library)
    yield os.path.realpath(sys.executable), f"{prefix}/bin/python3"
    for path in below(library):
        if "/site-packages/" not in path:
            yield path, f"{prefix}/lib/{name}{path[len(library) :]}"
    site = f"{prefix}/lib/python3/dist-packages" if prefix == "/usr" else ""
    for path, inner in packages():
        yield path, f"{site or f'{prefix}/lib/{name}/site-packages'}/{inner}"


def packages() -> Iterator[tuple[str, str]]:
    """The files of what eurekaflow depends on, and of what builds it."""
    for name in sorted(closure([*BUILD, *(importlib.metadata.requires("eurekaflow") or [])])):
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or []:
            inner = os.path.normpath(str(file))
            full = str(distribution.locate_file(file))
            if SKIPPED.search(f"/{inner}") and not NEEDED_TESTS.search(f"/{inner}"):
                continue
            if inner.startswith("../../../bin/"):
                continue  # their first line names this machine's interpreter
            if name in UNUSED and ".dist-info/" not in inner:
                continue
            if not inner.startswith(".."):
                yield full, inner


def closure(wanted: list[str]) -> set[str]:
    """The names of installed packages that these requirements lead to, extras included."""
    waiting = [Requirement(text) for text in wanted]
    found: set[tuple[str, str]] = set()
    while waiting:
        need = waiting.pop()
        for extra in {"", *need.extras}:
            if (need.name.lower(), extra) in found or (
                need.marker is not None and not need.marker.evaluate({"extra": ""})
            ):
                continue
            found.add((need.name.lower(), extra))
            for text in importlib.metadata.requires(need.name) or []:
                inner = Requirement(text)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    inner.marker = None
                    waiting.append(inner)
    return {name for name, _ in found}


def libraries() -> Iterator[tuple[str, str]]:
    """The shared libraries that the interpreter, its modules and Debian's programs ask for."""
    library = os.path.dirname(os.path.realpath(os.__file__))
    asking = [str(path) for path in Path(library, "lib-dynload").glob("*.so")]
    asking += [path for path, _ in debian() if "bin/" in path]
    for path in docker_rootfs._needed_libraries([os.path.realpath(sys.executable), *asking]):
        known = path.startswith(("/usr/lib", "/lib"))  # where the loader looks without being told
        yield os.path.realpath(path), path if known else f"/usr/lib/{os.path.basename(path)}"


def below(folder: str) -> Iterator[str]:
    """The files in a folder, those of tests and caches left out."""
    for path, names, found in os.walk(folder):
        names[:] = [name for name in names if not SKIPPED.search(f"/{name}")]
        yield from (f"{path}/{name}" for name in found if not SKIPPED.search(f"/{name}"))


def readable(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owned by root; never set-uid; every name a file of its own."""
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode &= 0o755
    return info


def open_text(text: str) -> IO[bytes]:
    """A text as a file."""
    import io

    return io.BytesIO(text.encode())


def run(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
