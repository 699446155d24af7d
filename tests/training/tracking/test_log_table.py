"""A table of numbers survives being written and read."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramengpt.training.tracking.log_table import LogTable

NUMBERS = st.integers(-(10**9), 10**9) | st.floats(width=32)
ROWS = st.lists(st.dictionaries(st.sampled_from("abcd"), NUMBERS, min_size=1), max_size=6)


@given(ROWS)
def test_a_table_read_back_is_written_again_bit_for_bit(rows: list[dict[str, float]]) -> None:
    table = LogTable()
    for row in rows:
        table.append(row)
    again = LogTable(table.text())
    assert again.text() == table.text()
    assert len(again) == len(rows)
    for row, read in zip(rows, again.rows(), strict=True):
        assert set(read) == set(row)
        for name, value in row.items():
            same = np.float32(read[name]) == np.float32(value)
            assert same or (math.isnan(read[name]) and math.isnan(value))


def test_a_new_column_leaves_earlier_cells_empty() -> None:
    table = LogTable()
    table.append({"step": 1, "loss": 2.5})
    table.append({"step": 2, "norm": 0.1})
    assert table.text() == "step\tloss\tnorm\n1\t2.5\t\n2\t\t0.1\n"
    assert table.rows() == [{"step": 1, "loss": 2.5}, {"step": 2, "norm": 0.1}]
    assert table.last == {"step": 2, "norm": 0.1}


def test_integers_stay_integers() -> None:
    table = LogTable("step\ttokens\n1\t12345678901\n")
    assert table.last == {"step": 1, "tokens": 12345678901}
    assert LogTable().text() == "" and LogTable().last == {}


def test_a_line_with_too_many_cells_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        LogTable("step\tloss\n1\t2\t3\n").rows()
