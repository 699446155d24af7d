import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.inference.decoding import Decoder
from tests.model.tiny import packed, tiny_config, tiny_model


@pytest.mark.parametrize("prompt_tokens", [1, 140, 300])
def test_one_token_at_a_time_equals_the_packed_forward(prompt_tokens):
    model = tiny_model(tiny_config(), window=256, max_sequence_tokens=320)
    tokens, _, positions = packed([310])
    expected = model.logits(tokens, positions)
    decoder = Decoder(model)
    logits = decoder.start(tokens[:prompt_tokens].tolist())
    torch.testing.assert_close(logits, expected[prompt_tokens - 1], rtol=0, atol=1e-10)
    for t in range(prompt_tokens, 310):
        logits = decoder.step(int(tokens[t]))
        torch.testing.assert_close(logits, expected[t], rtol=0, atol=1e-10)


@settings(deadline=None, max_examples=12)
@given(
    st.fixed_dictionaries(
        {
            name: st.booleans()
            for name in (
                "bigram_embedding", "exclusive_attention", "late_attention", "dense_connections",
                "smear", "skip_connection", "backout", "key_offset", "attention_gate",
                "embedding_mix", "attention_lambdas", "attention_free_layers",
                "split_value_gate", "paired_heads", "value_residual", "bigram_after_attention",
                "sublayer_gains", "hyper_connections", "token_gains",
            )
        }
        | {"value_embeddings": st.sampled_from(["none", "shared", "untied"])}
    )
)  # fmt: skip
def test_every_combination_of_parts_decodes_as_it_was_trained(parts):
    config = tiny_config(**parts, paired_heads_pattern="PP--")
    model = tiny_model(config, window=128, max_sequence_tokens=140)
    tokens, _, positions = packed([136])
    expected = model.logits(tokens, positions)
    decoder = Decoder(model)
    found = [decoder.start(tokens[:130].tolist())]
    found += [decoder.step(int(token)) for token in tokens[130:]]
    torch.testing.assert_close(torch.stack(found), expected[129:], rtol=0, atol=1e-10)


def test_a_decoder_can_start_again():
    model = tiny_model(tiny_config())
    decoder = Decoder(model)
    first = decoder.start([3, 1, 4])
    decoder.step(5)
    assert torch.equal(decoder.start([3, 1, 4]), first)


def test_a_decoder_is_full_at_the_longest_sequence():
    model = tiny_model(tiny_config(), max_sequence_tokens=3)
    decoder = Decoder(model)
    decoder.start([1, 2])
    assert not decoder.full
    decoder.step(3)
    assert decoder.full
    with pytest.raises(ValueError, match="max_sequence_tokens = 3"):
        decoder.step(4)
    with pytest.raises(ValueError, match="BOS token"):
        decoder.start([])
