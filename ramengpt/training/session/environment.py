"""What a run computes on, as far as it decides the last bits: device, threads, PyTorch.

Sums are rounded in another order with another number of threads, on another device or by another
version, so a resumed run gives the same bits only where all are the same. Each is recorded.
"""

from collections.abc import Mapping, Sequence

import torch

Environment = dict[str, str | int]


def compute_environment(device: torch.device) -> Environment:
    """Describe this process; plain values, as a checkpoint may hold them."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "torch": str(torch.__version__)}
    return {
        "device": f"CPU with {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def resumed_environments(
    before: Sequence[Mapping[str, str | int]], now: Environment
) -> tuple[list[Environment], str]:
    """Add this process's environment to a run's, if it is another than the last.

    Args:
        before: of the run's checkpoint; empty for a new run.
        now: of this process.

    Returns:
        All of the run, and what a user must know of the resumed run's numbers, empty for a new run.
    """
    environments = [dict(environment) for environment in before]
    if not environments:
        return [now], ""
    last = environments[-1]
    if last == now:
        return environments, "bit for bit where the operations used are deterministic"
    changes = ", ".join(
        f"{name} {last.get(name)} -> {now.get(name)}"
        for name in dict.fromkeys([*last, *now])
        if last.get(name) != now.get(name)
    )
    return [*environments, now], f"not bit for bit, since {changes}"
