"""The best attempt as a file that says where it is from and how to measure it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eurekaflow.flows.trust import FOREIGN
from eurekaflow.models.errors import UsageError

Row = dict[str, Any]
# Comment marks by the file's ending; a file of another kind has its provenance beside it.
_MARKS = {
    **dict.fromkeys((".py", ".sh", ".jl", ".r", ".rb", ".pl", ".toml", ".yaml", ".yml"), "#"),
    **dict.fromkeys(
        (".c", ".h", ".cc", ".cpp", ".hpp", ".cu", ".cuh", ".js", ".ts", ".rs", ".go", ".java"),
        "//",
    ),
    **dict.fromkeys((".sql", ".lua", ".hs", ".lean"), "--"),
}


def write(attempt: Row, run: Row, claim: Row | None, out: Path) -> list[Path]:
    """Write the program, or the construction as JSON, with its provenance; the files written.

    Raises UsageError when there is nothing to write or the file cannot be written.
    """
    content = _content(attempt, out)
    facts = provenance(attempt, run, claim, out)
    mark = _MARKS.get(out.suffix.lower())
    try:
        if mark is not None:
            out.write_text(with_header(content, facts, mark), encoding="utf-8")
            return [out]
        out.write_text(content, encoding="utf-8")
        beside = out.with_name(out.name + ".provenance.json")
        beside.write_text(_as_json(facts), encoding="utf-8")
        return [out, beside]
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error}", "choose another file") from None


def provenance(attempt: Row, run: Row, claim: Row | None, out: Path) -> dict[str, str]:
    """What the file's reader must know, as names and one-line values."""
    problem = str(run["config"].get("problem") or run["problem"])
    versions = {**run["versions"], "problem": run["problem_version"]}
    facts = {
        "run": run["run"],
        "problem": run["problem"],
        "attempt": f"{attempt['attempt']} (step {attempt['step']}, group "
        f"{attempt['group_index']}, slot {attempt['attempt_index']})",
        "score": repr(attempt["score"]),
        "value": f"{attempt['value']!r} (higher is better)",
        "measured": attempt["verified_at"],
        "mode": "in the run, by the verifier",
        "verifier": ", ".join(f"{name} {text}" for name, text in versions.items()),
        "hardware": _described(run["hardware"]),
    }
    if claim is not None:
        facts |= {
            "mode": claim["mode"],
            "value": f"{claim['value']!r} (higher is better)",
            "measured": claim["measured_at"],
            "verifier": claim["verifier_version"],
            "hardware": _described(claim["hardware"]),
        }
    if run["trust"] == "foreign":
        facts["trust"] = FOREIGN
    exact = " --exact" if claim is not None and claim["mode"] == "exact" else ""
    facts["verify again"] = f"eureka verify {problem} {out.name}{exact}"
    return {name: " ".join(str(value).split()) for name, value in facts.items()}


def with_header(content: str, facts: dict[str, str], mark: str) -> str:
    """`content` under one comment line per fact, and under its `#!` line where it has one."""
    lines = [f"{mark} {name}: {value}" for name, value in facts.items()]
    header = "\n".join([f"{mark} found by eurekaflow", *lines]) + "\n\n"
    if content.startswith("#!"):
        first, _, rest = content.partition("\n")
        return f"{first}\n{header}{rest}"
    return header + content


def _content(attempt: Row, out: Path) -> str:
    import json

    if out.suffix == ".json":
        if attempt["construction"] is None:
            raise UsageError("the best attempt has no construction", "give --out FILE.py")
        return json.dumps(attempt["construction"]) + "\n"
    if not attempt["program"]:
        raise UsageError("the best attempt has no program", "give --out FILE.json")
    return str(attempt["program"]) + "\n"


def _as_json(facts: dict[str, str]) -> str:
    import json

    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def _described(hardware: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in hardware.items()) or "not recorded"
