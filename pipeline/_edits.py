"""What a stage used must still be in params.yaml when it ends, since DVC records what is there."""

from collections.abc import Callable
from typing import Any

from ramengpt.config import Config, load_config
from ramengpt.errors import UserError


def check_values_unchanged(keys: str, used: Callable[[Config], Any], before: Config) -> None:
    """Fail where DVC would record the outputs under values that they do not come from.

    Args:
        keys: what `used` returns, by its names in params.yaml.
        used: the values that decide the stage's outputs.
        before: params.yaml as the stage read it.

    Raises:
        UserError: the values were edited since.
    """
    if used(load_config()) != used(before):
        raise UserError(
            f"params.yaml: {keys} changed while this stage ran; run the same command again, so "
            "that its outputs are not recorded under values they do not come from"
        )
