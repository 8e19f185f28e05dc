"""sys.exit(0) looks like success to a harness that looks at the status.

expect: raised: SystemExit
"""

import sys


def run(**kwargs):
    sys.exit(0)
