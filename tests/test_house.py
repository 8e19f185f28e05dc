"""The house rules that code can check: who imports whom, who reads the environment, what ships."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("flows", "tasks", "verifiers", "models", "migrations")
MAY_IMPORT = {
    "flows": {"flows", "tasks", "verifiers", "models", "migrations"},
    "tasks": {"tasks", "verifiers", "models"},
    "verifiers": {"verifiers"},
    "models": {"models"},
    "migrations": {"migrations", "models"},
}
RIM = {"flows", "tasks"}  # where Prefect may be imported
SQL = re.compile(
    r"\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\w.*\sset\s|delete\s+from\s)",
    re.IGNORECASE | re.DOTALL,
)
OWN_PROCESS = {  # set up a process of their own
    "verifiers/judge_worker.py",
    "verifiers/zygote.py",
    "verifiers/foreign_driver.py",
}
OTHER_DATABASE = {"flows/prefect_server.py"}  # looks at Prefect's, not at the archive
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def folder_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{label(path)} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_imports_go_one_way(path: Path) -> None:
    own = {name.split(".")[1] for name in imports(path) if name.startswith("eurekaflow.")}
    assert own & set(FOLDERS) <= MAY_IMPORT[folder_of(path)]


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_prefect_stays_at_the_rim(path: Path) -> None:
    uses = any(name.split(".")[0].startswith("prefect") for name in imports(path))
    assert folder_of(path) in RIM or not uses


INNER = [p for p in SOURCES if folder_of(p) != "flows" and label(p) not in OWN_PROCESS]


@pytest.mark.parametrize("path", INNER, ids=label)
def test_only_flows_reads_the_environment(path: Path) -> None:
    found = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
    ]
    assert not found, f"{label(path)} reads the environment in lines {found}"


OUTER = [p for p in SOURCES if folder_of(p) in RIM and label(p) not in OTHER_DATABASE]


@pytest.mark.parametrize("path", OUTER, ids=label)
def test_flows_and_tasks_hold_no_sql(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    assert not [text for text in texts if isinstance(text, str) and SQL.match(text)]


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_files_are_short_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not text:
        return
    assert len(text.splitlines()) <= 300 or folder_of(path) == "migrations"
    assert (ast.get_docstring(ast.parse(text)) or "").strip()


IMPORTED = {name for path in SOURCES for name in imports(path)}


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_what_other_files_import_says_what_it_does(path: Path) -> None:
    module = "eurekaflow." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
    defined = {  # of a name's overloads the last one is the function
        node.name: node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    silent = [
        name
        for name, node in defined.items()
        if f"{module}.{name}" in IMPORTED and not ast.get_docstring(node)
    ]
    assert not silent


def test_no_module_of_flows_carries_the_name_of_another_package() -> None:
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    taken -= {"eurekaflow"}
    assert not {path.stem for path in (ROOT / "flows").glob("*.py")} & taken - {"__init__"}


def test_docker_is_no_package() -> None:
    assert not (ROOT / "docker/__init__.py").exists()
    assert not (ROOT / "__init__.py").exists()
    assert not (ROOT / "eurekaflow").exists()


def test_the_links_for_type_checkers_lead_to_the_five_folders() -> None:
    links = {link.name: link.resolve() for link in (ROOT / ".types/eurekaflow").iterdir()}
    assert links == {name: ROOT / name for name in FOLDERS}


@pytest.mark.slow
def test_the_wheel_holds_what_git_holds(tmp_path: Path) -> None:
    tracked = tracked_files()
    if tracked is None:
        pytest.skip("not a git checkout")
    copy = tmp_path / "copy"
    tracked += [f"docker/{n}" for n in ("base.Dockerfile", "candidate.Dockerfile", "healthy.py")]
    for name in [*tracked, "pyproject.toml", "README.md", "LICENSE", "NOTICE"]:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path)]
    if importable("setuptools", "77"):
        command += ["--no-build-isolation", "--no-index"]
    subprocess.run([*command, str(copy)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packed = {n.removeprefix("eurekaflow/") for n in names if n.startswith("eurekaflow/")}
    assert packed == set(tracked)
    assert not [n for n in names if not n.startswith(("eurekaflow/", "eurekaflow-"))]


def tracked_files() -> list[str] | None:
    """Files of the five packages that git tracks and that are here; None outside a checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *FOLDERS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    names = [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    return names if done.returncode == 0 and names else None


def importable(package: str, least: str) -> bool:
    """Whether a package is installed in at least the given major version."""
    try:
        return int(importlib.metadata.version(package).split(".")[0]) >= int(least)
    except importlib.metadata.PackageNotFoundError:
        return False
