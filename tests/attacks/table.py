"""Writes the table of docs/security.md: runs every attack behind every wall, and without any.

    python -m tests.attacks.table

needs root or an engine that answers, for the column of the containers.
"""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

from eurekaflow.verifiers.docker_sandbox import DockerSandbox
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Sandbox
from tests import docker_engine
from tests.attacks import suite

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- attacks: begin -->\n", "<!-- attacks: end -->\n"
HARMLESS = "harms only a careless parser"
BACKENDS = ("namespaces", "landlock", "docker")


def main() -> None:
    """Replace what stands between the two marks."""
    lines = _lines()
    text = PAGE.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + after)


def _lines() -> list[str]:
    world = suite.World()
    with contextlib.ExitStack() as stack:
        stack.callback(world.close)
        judge = stack.enter_context(Judge(1))
        columns = [_column(stack, name, judge, world) for name in BACKENDS]
        bare = [_cell(", ".join(suite.control(attack, world))) for attack in suite.ATTACKS]
    work = sum(cell != HARMLESS for cell in bare)
    head = (
        f"Linux {platform.release()}, {len(suite.ATTACKS)} attacks, of which {work} work without "
        "walls here; the others are malformed answers, which harm only a careless parser."
    )
    titles = "attack | idea | without walls | process, namespaces | process, Landlock | docker"
    lines = [head, "", f"| {titles} |", "|---|---|---|---|---|---|"]
    for attack, without, *walls in zip(suite.ATTACKS, bare, *columns, strict=True):
        cells = " | ".join([attack.idea.replace("|", "/"), without, *walls])
        lines.append(f"| `{attack.name}` | {cells} |")
    return lines


def _column(stack: contextlib.ExitStack, name: str, judge: Judge, world: suite.World) -> list[str]:
    cells = []
    with _backend(stack, name) as sandbox:
        for attack in suite.ATTACKS:
            result = suite.attempt(attack, sandbox, judge, world)
            failed = f"**{', '.join(result.gains)}** " if result.gains else ""
            cells.append(failed + _cell(result.wall))
    return cells


def _backend(stack: contextlib.ExitStack, name: str) -> contextlib.AbstractContextManager[Sandbox]:
    if name != "docker":
        return ProcessSandbox(1, levels=(name,))
    address = stack.enter_context(docker_engine.engine())
    return DockerSandbox(1, limits=suite.LIMITS, base_url=address)


def _cell(text: str) -> str:
    """Short, and the same from run to run."""
    import re

    text = re.sub(r"\d+ bytes kept", "all of it is kept", text)
    text = re.sub(r"process \d+", "a process", text)
    text = re.sub(r"for \d+\.\d s", "for seconds", text)
    text = re.sub(r"timed at \S+ s", "timed at no seconds", text)
    text = re.sub(r"ek[0-9a-f]{10}", "…", text)
    return text.replace("|", "/").replace("\n", " ")[:110] or HARMLESS


if __name__ == "__main__":
    main()
