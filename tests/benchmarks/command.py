"""How long the command takes to start: wall and CPU seconds, the best of five."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time

COMMANDS = (["--help"], ["--version"], ["problems"], ["runs"], ["run", "erdos", "--dry-run"])


def measure(arguments: list[str]) -> tuple[float, float]:
    """(wall, CPU) seconds of one call."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "eurekaflow.flows.cli", *arguments]
    subprocess.run(command, check=True, capture_output=True)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print one line per command."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    for arguments in COMMANDS:
        wall, cpu = map(min, zip(*(measure(arguments) for _ in range(5)), strict=True))
        print(f"eureka {' '.join(arguments):<24} wall {wall:.2f} s  cpu {cpu:.2f} s")


if __name__ == "__main__":
    main()
