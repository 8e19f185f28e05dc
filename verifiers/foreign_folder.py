"""What an OpenEvolve-style folder holds: initial program, evaluator, configuration, files."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eurekaflow.verifiers.problem import ProblemUnusable

LARGEST_BYTES = 64 << 20  # of a folder: every attempt gets a copy
LEFT_OUT = ("__pycache__", "node_modules", "venv", "openevolve_output")  # and hidden names
TIMEOUT_S, THRESHOLDS = 300.0, (0.5, 0.75, 0.9)  # OpenEvolve's defaults
_SECRET = re.compile(r"(?im)^(\s*-?\s*[\w-]*(?:api_?key|secret|password)[\w-]*\s*:).*$")


@dataclass(frozen=True)
class Folder:
    """A folder with an evaluator; file names are relative to `path`."""

    path: Path
    evaluator: str
    initial: str
    config: Mapping[str, Any]

    @property
    def program(self) -> str:
        """The initial program's text."""
        return (self.path / self.initial).read_text(encoding="utf-8")

    @property
    def task(self) -> str:
        """What the configuration tells the model; "" when it tells nothing."""
        message = _section(self.config, "prompt").get("system_message", "")
        message = message.strip() if isinstance(message, str) else ""
        return message if " " in message else ""  # a single word names a template of OpenEvolve's

    @property
    def timeout_s(self) -> float:
        """Seconds that one stage of the evaluation may take."""
        given: Any = _section(self.config, "evaluator").get("timeout")
        return float(given) if _is_number(given) and given > 0 else TIMEOUT_S

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """What a stage must reach for the next one to be run; None when there is no cascade."""
        section = _section(self.config, "evaluator")
        if section.get("cascade_evaluation") is False:
            return None
        given = section.get("cascade_thresholds")
        if isinstance(given, list) and all(map(_is_number, given)):
            return tuple(map(float, given))
        return THRESHOLDS

    @property
    def features(self) -> frozenset[str]:
        """Metrics that describe a program and are no part of its score."""
        given = _section(self.config, "database").get("feature_dimensions")
        return frozenset(map(str, given)) if isinstance(given, list) else frozenset()

    @cached_property
    def stages(self) -> int:
        """How many evaluations a candidate may go through."""
        text = (self.path / self.evaluator).read_text(encoding="utf-8", errors="replace")
        defined = re.findall(r"(?m)^(?:async )?def (evaluate_stage[123])\b", text)
        return max(1, len(set(defined))) if self.thresholds is not None else 1

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Every file by its name that a candidate is shown; raises ProblemUnusable if too large.

        Hidden files stay out, and the values of keys and passwords in YAML files are blanked.
        """
        found, size = {}, 0
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path)
            if not path.is_file() or any(p in LEFT_OUT or p[0] == "." for p in name.parts):
                continue
            size += path.stat().st_size
            if size > LARGEST_BYTES:
                raise ProblemUnusable(
                    f"{self.path} holds more than {LARGEST_BYTES >> 20} MiB, and every attempt "
                    "gets a copy: move what the evaluator does not read out of it"
                )
            found[str(name)] = _shown(path)
        return found

    @cached_property
    def packed(self) -> str:
        """The files as a compressed archive in base64."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
            for name, content in self.files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                entry.mode = 0o755 if content.startswith(b"#!") else 0o644
                archive.addfile(entry, io.BytesIO(content))
        return base64.b64encode(buffer.getvalue()).decode()

    @cached_property
    def digest(self) -> str:
        """A hash of names and contents: another one is another version of the problem."""
        state = hashlib.sha256()
        for name, content in self.files.items():
            state.update(f"{name}\0{len(content)}\0".encode() + content)
        return state.hexdigest()[:12]

    def absent(self) -> list[str]:
        """Packages that requirements.txt asks for and that are not installed here."""
        path = self.path / "requirements.txt"
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [found[0] for line in lines if (found := re.match(r"[A-Za-z][\w.-]*", line))]
        return [name for name in named if not _installed(name)]


def read(path: Path) -> Folder:
    """The folder at `path`. Raises ProblemUnusable with what is missing."""
    path = path.resolve()
    sources = sorted(p.name for p in path.glob("*.py"))
    evaluator = _one(path, [n for n in sources if n == "evaluator.py"]
                     or [n for n in sources if "evaluator" in n], "an evaluator.py")  # fmt: skip
    imports = _text(path / evaluator)
    others = [name for name in sources if name != evaluator]
    initial = _one(path, _initial(path, others, imports), "an initial_program.py")
    return Folder(path=path, evaluator=evaluator, initial=initial, config=_config(path))


def _initial(path: Path, sources: Sequence[str], evaluator: str) -> list[str]:
    """Candidates for the initial program: by name, by its markers, or what is not imported."""
    by_name = [n for n in ("initial_program.py", "initial.py", "init_program.py") if n in sources]
    marked = [n for n in sources if "EVOLVE-BLOCK-START" in _text(path / n)]
    used = [n for n in sources if re.search(rf"(?m)^\s*(from|import)\s+{n[:-3]}\b", evaluator)]
    return by_name[:1] or marked or [n for n in sources if n not in used]


def _one(path: Path, names: Sequence[str], wanted: str) -> str:
    if len(names) == 1:
        return names[0]
    elsewhere = [p.name for p in path.glob("initial_program.*") if p.suffix != ".py"]
    if not names and elsewhere:
        raise ProblemUnusable(
            f"{path / elsewhere[0]} is no Python program; folders of other languages are not run"
        )
    found = ", ".join(names) or "none"
    raise ProblemUnusable(f"{path} must hold {wanted}; found: {found}")


def _config(path: Path) -> Mapping[str, Any]:
    """config.yaml, or the first file named like one; {} without any."""
    import yaml

    named = [path / "config.yaml", *sorted(path.glob("*config*.y*ml"))]
    file = next((p for p in named if p.is_file()), None)
    if file is None:
        return {}
    try:
        found = yaml.safe_load(_text(file))
    except yaml.YAMLError as error:
        raise ProblemUnusable(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    return found if isinstance(found, dict) else {}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _shown(path: Path) -> bytes:
    if path.suffix in (".yaml", ".yml"):
        return _SECRET.sub(r"\1 ''", _text(path)).encode()
    return path.read_bytes()


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
