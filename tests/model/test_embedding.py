"""A table of vectors by token."""

import torch

from ramengpt.model.embedding import Embedding
from tests.model.tiny import tiny_config


def test_every_token_of_the_padded_vocabulary_has_a_row():
    table = Embedding(tiny_config(), "embedding")
    assert table.weight.shape == (64, 32)
    torch.nn.init.normal_(table.weight)
    tokens_T = torch.tensor([3, 60, 3], dtype=torch.int32)
    assert torch.equal(table(tokens_T), table.weight[tokens_T.long()])


def test_its_label_is_given():
    assert Embedding(tiny_config(), "value_embedding").weight.label == "value_embedding"
