"""What decides the last bits of a run's numbers: device, threads, PyTorch version, micro-batch.

Each changes the order in which floating-point sums are rounded, so a resumed run is bit-exact only
where all are the same. They are recorded for every part of a run.
"""

from collections.abc import Mapping, Sequence

import torch

Environment = dict[str, str | int]


def compute_environment(
    device: torch.device, slice_tokens: int, *, recompute_activations: bool
) -> Environment:
    """Describe this process in plain values that a checkpoint can hold."""
    passes: Environment = {
        "micro_batch_tokens": slice_tokens,
        "recompute_activations": recompute_activations,
    }
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return {"device": name, "torch": str(torch.__version__)} | passes
    return passes | {
        "device": f"CPU with {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def resumed_environments(
    before: Sequence[Mapping[str, str | int]], now: Environment
) -> tuple[list[Environment], str]:
    """Add this process's environment to a run's, if it differs from the last.

    Args:
        before: from the run's checkpoint; empty for a new run.
        now: of this process.

    Returns:
        All environments of the run, and how exactly it resumes (empty for a new run).
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
