"""The table of docs/what_reruns_when.md: `python -m benchmarks.what_reruns_when` writes it.

Every value of params.yaml is looked up in the params of dvc.yaml's stages, resolved as DVC does for
the defaults, and every file of code in what `check` writes for each stage.
"""

import argparse
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML

from pipeline.check import STAGES
from ramengpt.config.by_schedule import with_values_of_schedule
from ramengpt.config.optimizer_blocks import SHARED_BLOCKS
from ramengpt.source_code import PACKAGES, ROOT, stage_code

PAGE = ROOT / "docs" / "what_reruns_when.md"
INTRODUCTION = """# What reruns when

`dvc repro` reruns a stage when something that decides its outputs has changed. Stage `check` runs at every edit of
`params.yaml` or of the code; it takes a second, and its outputs change only for the stages below. A later stage
reruns only if what it reads comes out different. Comments and docstrings rerun `check` alone. `train` and `sample` take
results from DVC's cache where the same was run before.

A run that was killed resumes as long as nothing that reruns `train` was changed. When training starts, it names the
checkpoints that no run can resume from; `ramengpt unresumable --remove` deletes them.

Made by `python -m benchmarks.what_reruns_when` for the selectors of `params.yaml` as committed.
"""  # noqa: E501


def table() -> str:
    """The whole page."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    values = {key: stages_of_value(key, params) for key in leaves(params)}
    files = {
        str(path.relative_to(ROOT)): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.stat().st_size
    }
    rule = params["optimizers"][params["optimizer"]]["rule"]
    codes = {stage: stage_code(stage, rule) for stage in STAGES}
    code = {file: tuple(s for s in STAGES if file in codes[s]) for file in sorted(files)}
    parts = [
        INTRODUCTION,
        "| value of params.yaml | stages |\n|---|---|",
        *rows(grouped(values, ".")),
        "\n| code, other than comments | stages |\n|---|---|",
        *rows(grouped(code, "/")),
        "\n| other | stages |\n|---|---|",
        *rows({f"{dep}": stages for dep, stages in other_dependencies().items()}),
    ]
    return "\n".join(parts) + "\n"


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@functools.cache
def dvc_stages() -> dict[str, Any]:
    """The stages of dvc.yaml."""
    stages: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    return stages


def stages_of_value(key: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Stages whose params hold a value; `train` also reads the blocks that the optimizer names."""
    path = ROOT / "params.yaml"
    optimizers = with_values_of_schedule(params, params["schedule"], path)["optimizers"]
    optimizer = optimizers[params["optimizer"]]
    named = (
        f"{table}.{optimizer[block]}."
        for block, table in SHARED_BLOCKS.items()
        if isinstance(optimizer.get(block), str)
    )
    if key.startswith(tuple(named)):
        return ("train",)
    return tuple(
        stage
        for stage in STAGES
        if any(
            f"{key}.".startswith(f"{resolved(param, params)}.")
            for param in dvc_stages()[stage].get("params", ())
        )
    )


def resolved(param: str, params: Mapping[str, Any]) -> str:
    """A param of dvc.yaml with the selected entry in place of `${selector}`."""
    return re.sub(r"\$\{(\w+)\}", lambda match: str(params[match[1]]), param)


def other_dependencies() -> dict[str, tuple[str, ...]]:
    """Files that no stage makes and that are neither code nor params."""
    stages = dvc_stages()
    made = {str(out) for stage in stages.values() for out in stage["outs"]}
    own = {*made, *PACKAGES, "params.yaml"}
    deps = {dep for stage in stages.values() for dep in stage["deps"]} - own
    return {d: tuple(s for s in STAGES if d in stages[s]["deps"]) for d in sorted(deps)}


def grouped(results: Mapping[str, tuple[str, ...]], separator: str) -> dict[str, tuple[str, ...]]:
    """One entry for all names below a prefix that have the same result."""
    shown: dict[str, tuple[str, ...]] = {}
    for name, result in results.items():
        parts = name.split(separator)
        for length in range(1, len(parts) + 1):
            prefix = separator.join(parts[:length])
            below = {
                other
                for key, other in results.items()
                if f"{key}{separator}".startswith(f"{prefix}{separator}")
            }
            if below == {result}:
                shown[prefix if length == len(parts) else f"{prefix}{separator}*"] = result
                break
    return shown


def rows(results: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Lines of a table; names with the same stages, one after another, share a line."""
    names: list[str] = []
    before: tuple[str, ...] | None = None
    for name, stages in [*results.items(), ("", None)]:
        if stages != before and names and before is not None:
            listed = ", ".join(f"`{each}`" for each in names)
            yield f"| {listed} | {', '.join(before) or 'none but `check`'} |"
            names = []
        names.append(name)
        before = stages


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]).parse_args()
    PAGE.write_text(table())


if __name__ == "__main__":
    main()
