"""The whole network against its plain equations: documents, windows, gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.model.gpt import GPT
from tests.model.reference import reference_logits
from tests.model.tiny import new_model, packed, tiny_config, tiny_model

OFF = {
    "attention_gate": False,
    "key_offset": False,
    "smear": False,
    "skip_connection": False,
    "backout": False,
    "dense_connections": False,
    "value_embeddings": "none",
    "bigram_embedding": False,
    "exclusive_attention": False,
    "late_attention": False,
    "paired_heads": False,
    "value_residual": False,
    "bigram_after_attention": False,
    "token_gains": False,
    "embedding_mix": False,
    "attention_lambdas": False,
    "attention_free_layers": False,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        OFF,
        *({key: value} for key, value in OFF.items()),
        {"attention_pattern": "SSSS", "value_embedding_pattern": "a-ba"},
        {
            "attention_pattern": "----",
            "value_embedding_pattern": "----",
            "paired_heads_pattern": "----",
        },
        {"value_embeddings": "untied"},
        {"sublayer_gains": True},
        {"hyper_connections": True},
        {"hyper_connections": True, "hyper_connection_streams": 3, "sublayer_gains": True},
        {"paired_heads_pattern": "PP-P"},
    ],
    ids=lambda changes: "+".join(changes) or "everything",
)
def test_logits_equal_the_plain_equations(changes):
    model = tiny_model(tiny_config(**changes), window=128)
    tokens, _, positions = packed([150, 3, 1, 60])
    expected = reference_logits(model, tokens, positions)
    torch.testing.assert_close(model.logits(tokens, positions), expected, rtol=0, atol=1e-10)


def test_switched_off_parts_have_no_parameters():
    labels = {parameter.label for parameter in tiny_model(tiny_config(**OFF)).parameters()}
    assert labels == {"embedding", "head", "attention", "mlp_in", "mlp_out"}


@pytest.mark.parametrize("hyper_connections", [False, True])
def test_every_document_is_as_if_it_were_alone(hyper_connections):
    model = tiny_model(tiny_config(hyper_connections=hyper_connections))
    lengths = [300, 1, 2, 129, 64]
    tokens, targets, positions = packed(lengths)
    together = model.token_losses(tokens, targets, positions)
    split = [x.split(lengths) for x in (tokens, targets, positions)]
    alone = torch.cat([model.token_losses(*document) for document in zip(*split, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)  # token losses are float32


@settings(deadline=None, max_examples=10)
@given(
    st.lists(st.one_of(st.integers(1, 9), st.integers(100, 300)), min_size=1, max_size=6),
    st.sampled_from(["SL-L", "LSLS", "SSSS", "LLLL"]),
    st.sampled_from([128, 256, 384]),
)
def test_random_documents_are_as_if_they_were_alone(lengths, pattern, window):
    config = tiny_config(attention_pattern=pattern, value_embedding_pattern="a---")
    model = tiny_model(config, window=window)
    tokens, _, positions = packed(lengths)
    together = model.logits(tokens, positions)
    documents = zip(tokens.split(lengths), positions.split(lengths), strict=True)
    alone = torch.cat([model.logits(*document) for document in documents])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("changed", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_changing_one_document_leaves_the_losses_of_the_others_bit_equal(changed, dtype):
    model = tiny_model(tiny_config(), dtype=dtype)
    lengths = [100, 1, 130, 70]
    tokens, targets, positions = packed(lengths)
    before = model.token_losses(tokens, targets, positions)
    other = tokens.clone().split(lengths)
    other[changed].copy_((other[changed] + 7) % 61)
    after = model.token_losses(torch.cat(other), targets, positions)
    for index, (one, two) in enumerate(
        zip(before.split(lengths), after.split(lengths), strict=True)
    ):
        assert torch.equal(one, two) == (index != changed)


def test_tokens_do_not_see_later_ones():
    model = tiny_model(tiny_config())
    tokens, _, positions = packed([200])
    changed = tokens.clone()
    changed[150] = (changed[150] + 1) % 61
    same = (model.logits(tokens, positions) == model.logits(changed, positions)).all(1)
    assert same[:150].all() and not same[150:].any()


@pytest.mark.parametrize(("paired", "first_blind"), [("-", 228), ("P", 165)])
def test_the_short_window_bounds_what_a_layer_sees(paired, first_blind):
    """128 tokens, or as many slots: half of the token at 164 sees the second one of that at 100."""
    config = tiny_config(
        attention_pattern="S---",
        value_embedding_pattern="----",
        paired_heads_pattern=f"{paired}---",
        smear=False,
        bigram_embedding=False,
    )
    model = tiny_model(config, window=256)
    tokens, _, positions = packed([300])
    changed = tokens.clone()
    changed[100] = (changed[100] + 1) % 61
    same = (model.logits(tokens, positions) == model.logits(changed, positions)).all(1)
    assert same.nonzero()[:, 0].tolist() == [*range(100), *range(first_blind, 300)]


def test_forward_is_the_mean_of_the_token_losses_and_of_the_logits_cross_entropy():
    model = tiny_model(tiny_config())
    tokens, targets, positions = packed([90, 50])
    loss = model(tokens, targets, positions)
    assert loss.dtype == torch.float32 and loss.shape == ()
    torch.testing.assert_close(loss, model.token_losses(tokens, targets, positions).mean())
    logits = model.logits(tokens, positions)
    expected = torch.nn.functional.cross_entropy(logits, targets.long())
    torch.testing.assert_close(loss.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "relu_squared"},
        {"activation": "swiglu", "sublayer_gains": True, "hyper_connections": True},
    ],
)
def test_gradient_of_every_parameter_is_nonzero(changes):
    model = tiny_model(tiny_config(**changes))
    model(*packed([100, 60])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        rows = parameter.grad.flatten(1) if parameter.dim() > 1 else parameter.grad[:, None]
        least = 0.3 if name == "bigram.weight" else 0.8  # rare pairs, rare tokens, dead units
        assert (rows != 0).any(1).float().mean() > least, name


def test_parameters_that_start_at_zero_move_within_three_steps():
    model = new_model(tiny_config(), dtype=torch.float32)
    initial = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for seed in range(3):
        optimizer.zero_grad()
        model(*packed([100, 60], seed=seed)).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, initial[name]), name


def test_finite_differences_confirm_the_gradients():
    parts = {"hyper_connections": True, "sublayer_gains": True}
    config = tiny_config(head_dim=8, activation="gelu", vocabulary=13, **parts)
    model = tiny_model(config, window=128)
    tokens, targets, positions = packed([9, 1, 6], vocabulary=13)
    names, parameters = zip(*model.named_parameters(), strict=True)

    def loss(*values: torch.Tensor) -> torch.Tensor:
        swapped = dict(zip(names, values, strict=True))
        logits = torch.func.functional_call(
            _Logits(model), {f"model.{name}": value for name, value in swapped.items()},
            (tokens, positions),
        )  # fmt: skip
        return torch.nn.functional.cross_entropy(logits, targets.long())

    inputs = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)
    grads = torch.autograd.grad(loss(*inputs), inputs)
    model(tokens, targets, positions).backward()  # the fused head agrees
    for name, parameter, grad in zip(names, parameters, grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-5, atol=1e-8, msg=name)


class _Logits(torch.nn.Module):
    """`functional_call` reaches forward only."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self.model.logits(tokens, positions)


def test_bfloat16_stays_near_float64_and_parameters_stay_float32():
    config = tiny_config()
    tokens, targets, positions = packed([200, 56])
    exact = tiny_model(config)(tokens, targets, positions).detach()
    model = tiny_model(config, dtype=torch.bfloat16)
    loss = model(tokens, targets, positions)
    loss.backward()
    assert abs(loss.detach() - exact) < 0.02
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}


def test_forward_before_any_window_says_what_to_do():
    model = GPT(tiny_config(), max_sequence_tokens=8, backend="sdpa", compute_dtype=torch.float32)
    with pytest.raises(ValueError, match="set_window"):
        model(*packed([8]))
