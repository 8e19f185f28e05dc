"""The verifier's code is imported to be patched or read.

expect: raised: eurekaflow
"""


def run(**kwargs):
    from eurekaflow.verifiers import erdos

    erdos.exact_c5 = lambda *a: 0
    return [0.5] * 10
