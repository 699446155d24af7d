"""Any mutation of params.yaml is accepted, or refused in a few short lines, and soon."""

import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramengpt.config import Config, ConfigError, load_config
from tests.conftest import ROOT

TEXT = (ROOT / "params.yaml").read_bytes()
LINES = TEXT.splitlines(keepends=True)
VALUE_LINES = [
    number
    for number, line in enumerate(LINES)
    if b": " in line.split(b"#")[0] and line.strip()[:1] != b"#"
]
LIMIT_CPU_SECONDS = 2  # of CPU, which other load hardly changes; refusals take 0.1

WORDS = """
~ null '' [] {} true yes No auto ramen LLLL ---- -1 0 0.0 -0.0 1. .5 1_000 0o17 1e-320 1e308 1e400
.inf -.inf .nan 1e11 1e12 100000000000 2147483648 18446744073709551616 0x7fffffff 4097.0
2020-13-45 2001-12-14t21:59:43.10-05:00 1:60:99 !!int !!float !thing *nothing << = % @ ` | > \t
/ ~nouser data/**x ../.. "\\ud800" "\\0" "\\x1b[31m" é
"""
ODD_VALUES = st.sampled_from(
    [
        *WORDS.split(),
        "",
        "1" + "0" * 30,
        "9" * 4299,
        "9" * 5000,
        "[" * 400,
        "{a: " * 50,
        "'" + "x" * 20_000 + "'",
        "[1, [2, [3]]]",
        "!!binary x",
        "!!set {a}",
        "&x [*x]",
        "? a",
        "- b",
        "a: b",
        "\u2028",
    ]
)


def check(content: bytes, folder: Path) -> Config | None:
    """Load a file; give back what it holds, None if it was refused as a user can understand."""
    path = folder / "params.yaml"
    path.write_bytes(content)
    start = time.process_time()
    try:
        config = load_config(path=path)
    except ConfigError as error:
        config = None
        lines = str(error).splitlines()
        assert 1 <= len(lines) <= 11, lines
        assert all(len(line) < 600 for line in lines), lines
        assert all(line.isprintable() for line in lines), lines
    assert time.process_time() - start < LIMIT_CPU_SECONDS
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("params")


FUZZ = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(number=st.sampled_from(VALUE_LINES), value=ODD_VALUES | st.text(max_size=30))
def test_any_value_in_place_of_any_other(folder: Path, number: int, value: str) -> None:
    key = LINES[number].split(b":")[0]
    new = key + b": " + value.encode("utf-8", "surrogatepass") + b"\n"
    check(b"".join([*LINES[:number], new, *LINES[number + 1 :]]), folder)


@FUZZ
@given(
    position=st.integers(0, len(TEXT) - 1),
    removed=st.integers(0, 40),
    inserted=st.binary(max_size=20),
)
def test_any_bytes_in_place_of_any_others(
    folder: Path, position: int, removed: int, inserted: bytes
) -> None:
    check(TEXT[:position] + inserted + TEXT[position + removed :], folder)


@FUZZ
@given(seed=st.integers(0, 2**32), moves=st.integers(1, 5))
def test_any_lines_lost_repeated_or_moved(folder: Path, seed: int, moves: int) -> None:
    draw = random.Random(seed)
    lines = list(LINES)
    for _ in range(moves):
        line = lines.pop(draw.randrange(len(lines)))
        for _ in range(draw.randrange(3)):
            lines.insert(draw.randrange(len(lines)), line)
    check(b"".join(lines), folder)


@FUZZ
@given(indent=st.integers(-4, 4), number=st.integers(0, len(LINES) - 1))
def test_any_indentation(folder: Path, indent: int, number: int) -> None:
    line = b" " * indent + LINES[number] if indent > 0 else LINES[number][-indent:]
    check(b"".join([*LINES[:number], line, *LINES[number + 1 :]]), folder)


@FUZZ
@given(
    key=st.sampled_from([line.split(b":")[0] for line in LINES if b":" in line]), value=ODD_VALUES
)
def test_any_override(key: bytes, value: str) -> None:
    override = f"{key.decode().strip()}={value}"
    start = time.process_time()
    try:
        load_config([override], ROOT / "params.yaml")
    except ConfigError as error:
        assert all(len(line) < 600 and line.isprintable() for line in str(error).splitlines())
    assert time.process_time() - start < LIMIT_CPU_SECONDS


def test_the_file_as_it_is_passes(folder: Path) -> None:
    assert check(TEXT, folder) is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"    scheduled_steps: 100000000000\n", "less than or equal to 1000000"),
        (b"    scheduled_steps: .inf\n", "expected integer, found inf"),
        (b"    micro_batch_tokens: 99999999999999\n", "less than or equal to 16777216"),
        (b"  learning_rate: .inf\n", "finite number"),
        (b"  weight_decay: .nan\n", "finite number"),
        (b"  weight_decay: 1e300\n", "less than or equal to 1000000"),
    ],
    ids=range(6),
)
def test_what_nobody_can_mean_is_refused_with_the_largest_value(
    tmp_path: Path, line: bytes, message: str
) -> None:
    key = line.split(b":")[0] + b":"
    number = max(number for number, old in enumerate(LINES) if old.startswith(key + b" "))
    path = tmp_path / "params.yaml"
    path.write_bytes(b"".join([*LINES[:number], line, *LINES[number + 1 :]]))
    with pytest.raises(ConfigError, match=message):
        load_config(path=path)
