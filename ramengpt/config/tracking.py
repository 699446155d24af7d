"""The section `tracking:` of params.yaml: what is logged, how often, and where to."""

from typing import Literal

from ramengpt.config.base import Name, Seconds, Section, Steps


class TrackingConfig(Section):
    """How a run is followed. Nothing here changes what is trained.

    Attributes:
        wandb: `online` sends rows to Weights & Biases, and keeps them on disk where that cannot be
            reached; `offline` keeps them on disk only; `disabled` never imports wandb. The
            environment variable WANDB_MODE, with the same three values, takes precedence.
        wandb_project: project that the wandb run belongs to.
        log_every_steps: copy logged values from the GPU at least this often; every step is logged.
        write_every_seconds: rewrite the files that DVC reads at most this often, and copy logged
            values from the GPU at least this often.
    """

    wandb: Literal["online", "offline", "disabled"]
    wandb_project: Name
    log_every_steps: Steps
    write_every_seconds: Seconds
