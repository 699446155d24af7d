"""Says what replaced this command of the project that this one descends from."""

import sys

if __name__ == "__main__":
    shards = sys.argv[1] if len(sys.argv) > 1 else "9"
    sys.stderr.write(
        "data/cached_fineweb10B.py: to download and verify shards, set dataset: fineweb10B and "
        f"datasets.fineweb10B.train_shards: {shards} in params.yaml, then run `dvc repro index`; "
        "`dvc exp run -S dataset=fineweb10B -S model=base -S schedule=base` also trains\n"
    )
    raise SystemExit(2)
