"""The hashed table of token pairs: its rows, its signs, and whom a gradient reaches."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ramengpt.model.bigram import BigramEmbedding
from tests.model.tiny import packed, tiny_config, tiny_model

TOKEN = st.integers(0, 60)


def embedding() -> BigramEmbedding:
    return BigramEmbedding(tiny_config()).double()


@given(TOKEN, TOKEN)
def test_rows_are_those_of_the_equation(previous, token):
    table = embedding()
    row, sign = table.rows_of(torch.tensor([token]), torch.tensor([previous]))
    assert int(row) == (36313 * token ^ 27191 * previous) % (table.rows - 1)
    assert int(row) < table.rows - 1  # the last row is of first tokens alone
    assert int(sign) == (token ^ previous) % 8192


def test_the_order_of_a_pair_matters():
    table = embedding()
    rows, signs = table.rows_of(torch.tensor([3, 5]), torch.tensor([5, 3]))
    assert rows[0] != rows[1]
    assert signs[0] == signs[1]


def test_a_first_token_has_a_row_of_its_own():
    table = embedding()
    rows, signs = table.rows_of(torch.tensor([9, 50]), torch.tensor([-1, -1]))
    assert rows.tolist() == [table.rows - 1] * 2
    assert signs.tolist() == [0, 0]


def test_signs_are_the_same_in_every_process():
    first, second = embedding().signs, embedding().signs
    assert torch.equal(first, second)
    assert set(first.unique().tolist()) == {-1, 1}
    assert abs(float(first.double().mean())) < 0.01


def test_a_row_gathers_the_signed_gradients_of_its_pairs():
    model = tiny_model(tiny_config())
    table, lengths = model.bigram, [40, 1, 30]
    tokens, _, positions = packed(lengths, seed=4)

    class Before:
        def look_back(self, slot, x, at_start):
            return torch.where(positions == 0, at_start, torch.roll(x, 1))

    output = table(tokens, Before(), torch.float64)
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    expected = torch.zeros_like(table.weight)
    for t in range(sum(lengths)):
        previous = -1 if positions[t] == 0 else int(tokens[t - 1])
        row, sign = table.rows_of(tokens[t], torch.tensor(previous))
        expected[int(row)] += table.signs[int(sign)] * weights[t]
    torch.testing.assert_close(table.weight.grad, expected)
