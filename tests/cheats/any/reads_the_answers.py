"""Files of the host are searched for constructions and secrets.

expect: raised:
"""

from pathlib import Path


def run(**kwargs):
    return Path("/etc/shadow").read_text()
