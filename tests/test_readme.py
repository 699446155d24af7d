"""What README and the page of commands say is what params.yaml and the measurements say."""

import re

from ruamel.yaml import YAML

from ramengpt.config import load_config
from ramengpt.training.session.settings import RunOptions, plans_of
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
PERFORMANCE = (ROOT / "docs/performance.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """Cells of a section's table by its first cell."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    return {first: rest for first, *rest in cells}


def tokens_of(preset: str) -> int:
    config = load_config([f"model={preset}", f"schedule={preset}"], ROOT / "params.yaml")
    return sum(plan.tokens for plan in plans_of(config, RunOptions(None, None)))


def costs_of(costs: dict[str, list[str]], preset: str) -> list[str]:
    """The cells of a preset."""
    (name,) = [first for first in costs if f"`{preset}`" in first]
    return costs[name]


def scale_hours(preset: str) -> float:
    """GPU hours of ten billion tokens, as docs/scale.md has them."""
    text = (ROOT / "docs/scale.md").read_text()
    (line,) = re.findall(rf"^\| one epoch of `{preset}`.*", text, re.M)
    return float(line.split("|")[3])


def test_the_cost_of_a_preset_is_its_tokens_at_the_measured_speed() -> None:
    measured = dict(re.findall(r"^\| (base|small) \| .*?\*\*([\d.]+) M\*\*", PERFORMANCE, re.M))
    costs = rows("What it costs")
    for preset, unit_seconds in (("base", 1), ("small", 60)):
        tokens = tokens_of(preset)
        assert any(
            f"`{preset}`" in name and f"{tokens / 1e6:.0f} M tokens" in name for name in costs
        )
        seconds = tokens / (float(measured[preset]) * 1e6)
        assert costs_of(costs, preset)[1].split()[0] == f"{seconds / unit_seconds:.0f}"
    assert "training steps at 5,800 tokens/s" in PERFORMANCE and "89 s" in costs_of(
        costs, "instant"
    )
    medium_hours = tokens_of("medium") / 1e10 * scale_hours("medium")
    assert f"{medium_hours:.1f} h" in costs_of(costs, "medium")


def test_the_first_step_takes_what_was_measured() -> None:
    lines = re.findall(r"^\| (?:base|small) \| .*", PERFORMANCE, re.M)
    cells = [cell for line in lines for cell in re.findall(r"([\d.]+) and ([\d.]+) s \|", line)]
    seconds = [float(each) for cell in cells for each in cell]
    assert f"compiles for {min(seconds):.0f} to {max(seconds):.0f} s" in README


def test_the_memory_of_a_preset_is_what_was_measured_or_estimated() -> None:
    cards = (ROOT / "docs/cards.md").read_text()
    (h200,) = re.findall(r"^\| H200 \|.*", cards, re.M)
    header = next(line for line in cards.splitlines() if line.startswith("| card |")).split(" | ")
    for preset in ("base", "small", "medium"):
        estimate = h200.split(" | ")[header.index(f"{preset} ramen")].partition(":")[0]
        told = costs_of(rows("What it costs"), preset)[2].removesuffix(" GiB")
        assert abs(float(told) / float(estimate) - 1) < 0.01


def test_the_comparison_counts_the_optimizers() -> None:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    assert rows("How it compares")["optimizers of the matrices"][0] == str(
        len(params["optimizers"])
    )


def test_the_sample_continues_prompts_of_params() -> None:
    prompts = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["sample"]["prompts"]
    sampled = re.findall(r"^> \*\*(.*?)\*\*", README, re.M)
    assert sampled and set(sampled) <= set(prompts)


def test_the_selectors_have_the_entries_that_are_listed() -> None:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    page = (ROOT / "docs/commands.md").read_text()
    for selector in ("dataset", "model", "architecture", "optimizer", "schedule"):
        (cell,) = re.findall(rf"^\| `{selector}` \| (.*) \|$", page, re.M)
        named, entries = set(re.findall(r"`([\w-]+)`", cell)), set(params[f"{selector}s"])
        assert named <= entries and f"`{params[selector]}` (default" in cell
        others = len(entries - named)
        assert others == (("seven more" in cell) and 7)
