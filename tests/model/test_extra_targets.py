"""Extra targets against a loop over documents, and a whole network's loss and gradient."""

import pytest
import torch
from torch import Tensor

from ramengpt.model.extra_targets import ExtraTargets
from tests.model.tiny import tiny_config, tiny_model

WEIGHTS = ((0.5, 0.25), 0.125)
LENGTHS = [5, 1, 2, 9, 3]


def packed(vocabulary: int = 61) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens, targets and positions of documents of some lengths, and a table of prefixes."""
    generator = torch.Generator().manual_seed(1)
    stream_T = torch.randint(0, vocabulary, (sum(LENGTHS) + 1,), generator=generator)
    positions_T = torch.cat([torch.arange(length) for length in LENGTHS])
    prefixes_V = torch.randint(-1, vocabulary, (vocabulary,), generator=generator)
    prefixes_V[::3] = -1
    parts = (stream_T[:-1], stream_T[1:], positions_T, prefixes_V)
    tokens_T, targets_T, positions_T, prefixes_V = (part.to(torch.int32) for part in parts)
    return tokens_T, targets_T, positions_T, prefixes_V


def expected_pairs(
    targets_T: Tensor, prefixes_V: Tensor | None, further: tuple[float, ...], prefix: float
) -> list[dict[int, float]]:
    """Weight by target of every position, document by document."""
    pairs: list[dict[int, float]] = []
    targets = targets_T.tolist()
    start = 0
    for length in LENGTHS:
        document = targets[start : start + length]
        for t, token in enumerate(document):
            weights = {token: 1.0}
            for ahead, weight in enumerate(further, start=1):
                if t + ahead < length:
                    later = document[t + ahead]
                    weights[later] = weights.get(later, 0.0) + weight
            if prefixes_V is not None and prefixes_V[token] >= 0:
                shorter = int(prefixes_V[token])
                weights[shorter] = weights.get(shorter, 0.0) + prefix
            pairs.append({key: value for key, value in weights.items() if value})
        start += length
    return pairs


@pytest.mark.parametrize("multi_token", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
def test_targets_are_those_of_a_loop_over_documents(multi_token: bool, prefix: bool) -> None:
    _, targets_T, positions_T, prefixes_V = packed()
    config = tiny_config(multi_token_loss=multi_token, prefix_loss=prefix)
    extra = ExtraTargets(config, prefixes_V)
    extra.set_weights(*WEIGHTS)
    targets_TK, weights_TK = extra(targets_T, positions_T)
    further = WEIGHTS[0] if multi_token else ()
    expected = expected_pairs(targets_T, prefixes_V if prefix else None, further, WEIGHTS[1])
    for t, pairs in enumerate(expected):
        found: dict[int, float] = {}
        for target, weight in zip(targets_TK[t].tolist(), weights_TK[t].tolist(), strict=True):
            if weight:
                found[target] = found.get(target, 0.0) + weight * len(targets_T)
        assert found == pytest.approx(pairs)


def test_the_loss_of_a_network_is_the_weighted_sum_and_validation_is_the_next_token() -> None:
    tokens_T, targets_T, positions_T, prefixes_V = packed()
    batch = (tokens_T, targets_T, positions_T)
    model = tiny_model(tiny_config(multi_token_loss=True, prefix_loss=True))
    plain = tiny_model(tiny_config())
    plain.load_state_dict(model.state_dict())  # the extra targets have no parameters and no state
    with pytest.raises(ValueError, match="table of prefixes"):
        model(*batch)
    assert torch.equal(model.token_losses(*batch), plain.token_losses(*batch))
    assert model.extra_targets is not None
    model.extra_targets.prefixes_V = prefixes_V
    assert model(*batch).item() == pytest.approx(plain(*batch).item(), rel=1e-6)  # weights: 0

    model.set_extra_loss_weights(*WEIGHTS)
    logs_TV = torch.log_softmax(plain.logits(tokens_T, positions_T), dim=1)
    loss = torch.zeros((), dtype=torch.float64)
    for t, pairs in enumerate(expected_pairs(targets_T, prefixes_V, *WEIGHTS)):
        for target, weight in pairs.items():
            loss = loss - weight * logs_TV[t, target] / len(targets_T)
    found = model(*batch)
    assert found.item() == pytest.approx(loss.item(), rel=1e-6)
    found.backward()
    loss.backward()
    for ours, exact in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, exact.grad, rtol=1e-5, atol=1e-9)


def test_new_weights_do_not_recompile() -> None:
    _, targets_T, positions_T, prefixes_V = packed()
    extra = ExtraTargets(tiny_config(multi_token_loss=True, prefix_loss=True), prefixes_V)
    compiled = torch.compile(extra, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for further, prefix in [((0.5, 0.25), 0.25), ((0.5, 0.1), 0.2), ((0.0, 0.0), 0.0)]:
            extra.set_weights(further, prefix)
            for ours, expected in zip(
                compiled(targets_T, positions_T), extra(targets_T, positions_T), strict=True
            ):
                assert torch.equal(ours, expected)
