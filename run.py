"""Says what replaced `python run.py`, the command of the project that this one descends from."""

import sys

if __name__ == "__main__":
    sys.stderr.write(
        "run.py: values live in params.yaml; the real run is `dvc exp run -S dataset=fineweb10B "
        "-S model=base -S schedule=base`, a scratch run with your flags `python -m pipeline.train "
        "--early_stop_steps 10 --seed 123`\n"
    )
    raise SystemExit(2)
