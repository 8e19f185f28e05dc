"""`python program.py` by name, a shell, an alarm, an asyncio loop; the score is below zero."""

import asyncio
import math
import os
import signal
import subprocess


class Late(Exception):
    pass


def on_alarm(number, frame):
    raise Late("the program took more than two seconds")


async def evaluate(program_path):
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(2)
    try:
        done = subprocess.run(
            ["python", program_path],
            capture_output=True,
            text=True,
            env={**os.environ},
            check=False,
        )
    finally:
        signal.alarm(0)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    await asyncio.sleep(0)
    assert subprocess.check_output("echo shell", shell=True) == b"shell\n"
    return {"combined_score": -abs(float(done.stdout) - math.pi)}
