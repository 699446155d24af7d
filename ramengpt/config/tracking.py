"""The section `tracking:` of params.yaml: what is logged, how often, and where to."""

from typing import Literal

from pydantic import Field

from ramengpt.config.base import Section


class TrackingConfig(Section):
    """How a run is followed. Nothing here changes what is trained.

    Attributes:
        wandb: `online` sends rows to Weights & Biases, and keeps them on disk where that cannot be
            reached; `offline` keeps them on disk only; `disabled` never imports wandb. The
            environment variable WANDB_MODE, with the same three values, takes precedence.
        wandb_project: project that the wandb run belongs to.
        log_every_steps: most steps between two transfers of logged values from a GPU to the host;
            every step is still logged.
        write_every_seconds: least time between two rewrites of the files that DVC reads, and most
            time between two such transfers.
    """

    wandb: Literal["online", "offline", "disabled"]
    wandb_project: str = Field(min_length=1)
    log_every_steps: int = Field(gt=0)
    write_every_seconds: float = Field(gt=0)
