"""Where the kernels of this package run; elsewhere their plain-PyTorch references run.

They are written and measured for NVIDIA GPUs with bfloat16 (Ampere and later). Older GPUs, AMD's,
and float16 use plain PyTorch: slower, with the same results.
"""

import torch
from torch import Tensor

OLDEST_MAJOR = 8
"""Compute capability of Ampere, the first with bfloat16 and with what Triton's kernels need."""


def supports_kernels(device: torch.device) -> bool:
    """Whether the kernels run on a device. AMD's devices are called "cuda" by PyTorch too."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_properties(device).major >= OLDEST_MAJOR


def runs_kernels(x: Tensor) -> bool:
    """Whether the kernels run on a tensor."""
    return x.is_cuda and x.dtype != torch.float16 and supports_kernels(x.device)
