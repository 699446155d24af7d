"""Which preset fits which card, by estimate: `python -m benchmarks.cards` rewrites docs/cards.md.

The cards are descriptions of what PyTorch reports for them, not devices.
"""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.generated_page import rewrite, with_table
from ramengpt.config import Config, load_config
from ramengpt.device import Architecture, Profile, choose_dtype
from ramengpt.errors import UserError
from ramengpt.training.memory import MemoryEstimate
from ramengpt.training.micro_batch import choose_slice_tokens, runs_compiled

PAGE = Path("docs/cards.md")
BEGIN = "<!-- begin: python -m benchmarks.cards -->\n"
PRESETS = ("base", "small", "medium")
ARCHITECTURES = ("ramen", "speedrun", "plain")
RECOMPUTE = "train.recompute_activations=true"


def _card(
    name: str, architecture: Architecture, capability: tuple[int, int], gib: float
) -> Profile:
    has_bfloat16 = architecture == "amd" or capability[0] >= 8
    return Profile(architecture, name, capability, 0, int(gib * 2**30), has_bfloat16)


CARDS = (
    _card("RTX 3060", "ampere", (8, 6), 11.6),
    _card("RTX 4080, 5080", "ada", (8, 9), 15.6),
    _card("RTX 3090, 4090, L4", "ada", (8, 9), 23.5),
    _card("RTX 5090", "blackwell", (12, 0), 31.3),
    _card("A100 40 GB", "ampere", (8, 0), 39.4),
    _card("A100 80 GB, H100", "hopper", (9, 0), 79.1),
    _card("H200", "hopper", (9, 0), 139.8),
    _card("T4", "turing", (7, 5), 14.6),
    _card("V100 32 GB", "volta", (7, 0), 31.7),
    _card("MI300X", "amd", (9, 4), 191.5),
)


def cell(config: Config, card: Profile) -> str:
    """GiB and the tokens that pass through the network at once; why not, where it does not fit."""
    dtype = choose_dtype("auto", card)
    try:
        tokens = choose_slice_tokens(config, card, dtype, None)
    except UserError:
        return "-"
    estimate = MemoryEstimate.of(config, dtype, compiled=runs_compiled(card))
    whole = tokens == config.schedule.micro_batch_tokens
    return f"{estimate.training_bytes(tokens) / 2**30:.1f}: {'whole' if whole else f'{tokens:,}'}"


def rows() -> Iterator[str]:
    """The table's lines."""
    names = [f"{preset} {architecture}" for preset in PRESETS for architecture in ARCHITECTURES]
    columns: list[tuple[str, ...]] = [
        (f"model={preset}", f"schedule={preset}", f"architecture={architecture}")
        for preset in PRESETS
        for architecture in ARCHITECTURES
    ]
    default = load_config().architecture_name
    names.append(f"medium {default}, recomputed")
    columns.append((*columns[names.index(f"medium {default}")], RECOMPUTE))
    configs = [load_config(overrides) for overrides in columns]
    yield f"| card | GiB | precision | {' | '.join(names)} |\n"
    yield f"|---|---:|---|{'---:|' * len(names)}\n"
    for card in CARDS:
        dtype = str(choose_dtype("auto", card)).removeprefix("torch.")
        cells = " | ".join(cell(config, card) for config in configs)
        yield f"| {card.name} | {card.memory_bytes / 2**30:.1f} | {dtype} | {cells} |\n"


def page(before: str) -> str:
    """The page with a new table."""
    return with_table(before, BEGIN, rows())


if __name__ == "__main__":
    rewrite(PAGE, page, __doc__)
