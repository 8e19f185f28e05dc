# rejected: changed its input
# fools: reference_after, faster
"""Makes the input trivial before the reference sees it."""

import torch


def custom_kernel(data):
    for tensor in (data[0], data[1], *data[2].values()):
        tensor.zero_()
    return torch.zeros_like(data[0])
