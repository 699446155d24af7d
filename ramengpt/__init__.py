"""ramengpt: train small GPTs on one GPU, reproducibly."""

import os
import sys

if sys.platform != "linux":
    raise SystemExit(
        f"error: ramengpt runs on Linux, found {sys.platform}: on Windows use WSL, on a Mac a "
        "Linux container or machine (Apple's GPU, MPS, is not supported)"
    )

# OpenMP's threads wait for each other by spinning, by default for milliseconds. Beside another
# busy process they then burn the time that the one they wait for needs. PyTorch's OpenMP reads
# this when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
