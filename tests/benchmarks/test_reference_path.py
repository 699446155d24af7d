"""The comparison of the fast path with the reference: its arithmetic, its patches, its verdict."""

import math

import pytest
import torch

from benchmarks import reference_path
from benchmarks.learnable_source import (
    FOLLOWING_SHARE,
    REPEATED_FROM_TOKENS,
    REPEATED_SHARE,
    learnable_batches,
    learnable_tokens,
)
from benchmarks.reference_path import (
    Gradients,
    Run,
    compare,
    compare_runs,
    curve_difference,
    gradient_differences,
    smoothed,
)
from benchmarks.report import Report
from benchmarks.training_paths import (
    FAST,
    FLOAT32,
    OTHER_SEEDS,
    PATHS,
    REFERENCE,
    OwnOperators,
    plain_operations,
)
from ramengpt.kernels import symmetric_matmul
from ramengpt.model import head, mlp
from ramengpt.optimizers import muon, polar_express
from tests.conftest import ROOT

TINY = (
    "model=instant",
    "schedule=base",
    "models.instant.vocabulary=300",
    "schedules.base.micro_batch_tokens=256",
    "schedules.base.scheduled_steps=8",
    "schedules.base.extension_steps=0",
    "schedules.base.sequence.tokens=[128]",
    "schedules.base.batch.fractions=[0.0]",
    "schedules.base.batch.micro_batches=[1]",
    "train.precision=bfloat16",
)
CPU = torch.device("cpu")


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(reference_path, "configure", lambda device: None)


def run(losses: list[float], gradient: float = 1.0, own: tuple[str, ...] = ()) -> Run:
    gradients = Gradients(losses[0], {"hidden": [torch.tensor([0.0, gradient])]})
    return Run(losses, gradients, gradients, {}, set(own))


def verdict(**changed: Run) -> Report:
    runs = {
        FAST: run([4.0, 3.0, 2.0]),
        REFERENCE: run([4.0, 3.01, 2.0]),
        FLOAT32: run([4.0, 3.0, 2.5]),
        **{name: run([4.0, 3.0 + by / 10, 2.0 + by / 10]) for name, by in OTHER_SEEDS.items()},
    }
    report = Report(60)
    compare_runs(report, runs | changed, smoothing_steps=2)
    return report


def test_curves_are_smoothed_before_they_are_compared() -> None:
    assert smoothed([1, 2, 4, 8], 2).tolist() == [1.5, 3.0, 6.0]
    assert curve_difference([1, 3, 1, 3], [3, 1, 3, 1], 2) == 0
    assert curve_difference([1, 2, 4, 8], [1, 2, 3, 4], 2) == 2.5
    assert math.isnan(curve_difference([1, math.nan, 4, 8], [1, 2, 3, 4], 2))


def test_gradients_differ_relative_to_the_norm_of_their_group() -> None:
    expected = Gradients(2.0, {"hidden": [torch.tensor([3.0]), torch.tensor([[4.0]])]})
    found = Gradients(1.75, {"hidden": [torch.tensor([3.0]), torch.tensor([[5.0]])]})
    differences = gradient_differences(found, expected)
    assert differences == {"loss_difference": 0.25, "hidden_error": pytest.approx(0.2)}


def test_the_verdict() -> None:
    rows = {row["name"]: row for row in verdict().rows}
    assert rows["curves, fast and reference"]["largest_difference"] == pytest.approx(0.005)
    assert rows["curves, fast and fast, seed 2"]["largest_difference"] == pytest.approx(0.1)
    assert rows["curves, fast, seed 2 and fast, seed 4"]["largest_difference"] == pytest.approx(0.2)
    assert rows["curves, reference and reference, float32"]["largest_difference"] > 0.2
    with pytest.raises(ValueError, match="curve is farther"):
        verdict(**{REFERENCE: run([4.0, 3.7, 2.0])})
    with pytest.raises(ValueError, match="curve is farther"):
        verdict(**{FAST: run([4.0, math.nan, 2.0])})
    with pytest.raises(ValueError, match=r"hidden_error 0\.1 exceeds 0\.03"):
        verdict(**{FAST: run([4.0, 3.0, 2.0], gradient=1.1)})
    with pytest.raises(ValueError, match=r"loss_difference 0\.1 exceeds 0\.005"):
        verdict(**{FAST: run([4.1, 3.0, 2.0])})
    with pytest.raises(ValueError, match="reference used ramengpt"):
        verdict(**{REFERENCE: run([4.0, 3.0, 2.0], own=("ramengpt.mlp",))})


def test_plain_operations_last_as_long_as_the_block() -> None:
    names = [
        (head, "softcapped_cross_entropy"),
        (mlp, "linear_relu_squared_mlp"),
        (polar_express, "_symmetric_products"),
        (muon, "normalised_wide"),
    ]
    before = [getattr(module, name) for module, name in names]
    matrices = torch.ones(1, 2, 3)
    torch.set_float32_matmul_precision("high")
    try:
        with plain_operations(float32=True):
            assert all(getattr(*name) is not old for name, old in zip(names, before, strict=True))
            assert polar_express._symmetric_products(matrices) == (
                symmetric_matmul.symmetric_product_reference,
                symmetric_matmul.symmetric_quadratic_reference,
            )
            assert muon.normalised_wide(matrices, 1.0, torch.bfloat16).dtype == torch.float32
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    with plain_operations(float32=False):
        assert muon.normalised_wide(matrices, 1.0, torch.bfloat16).dtype == torch.bfloat16
    assert [getattr(module, name) for module, name in names] == before


def test_operators_of_ours_are_noted_in_forward_and_backward() -> None:
    x = torch.ones(4, 8, requires_grad=True)
    weights = torch.ones(16, 8), torch.ones(16, 8)
    with OwnOperators() as watch:
        mlp.linear_relu_squared_mlp(x, *weights).sum().backward()
    assert watch.names == {
        "ramengpt.relu_squared_mlp.default",
        "ramengpt.relu_squared_mlp_gradient.default",
    }


def test_all_paths_train_alike_and_only_the_fast_one_uses_our_operators(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: dict[str, Run] = {}

    def keep(report: Report, found: dict[str, Run], steps: int) -> None:
        runs.update(found)
        compare_runs(report, found, steps)

    monkeypatch.setattr(reference_path, "compare_runs", keep)
    report = Report(60)
    compare(report, TINY, smoothing_steps=4)
    assert {name.split(".")[1] for name in runs[FAST].own_operators} == {
        "relu_squared_mlp",
        "relu_squared_mlp_gradient",
        "softcapped_cross_entropy",
    }
    assert runs[REFERENCE].own_operators == runs[FLOAT32].own_operators == set()
    assert [len(each.losses) for each in runs.values()] == [8] * 6
    learned = [each.losses[0] - each.losses[-1] for each in runs.values()]
    assert min(learned) > 0.2
    assert runs[FAST].losses[0] == runs[FAST].first.loss
    assert runs[FAST].last.loss < runs[FAST].first.loss
    assert {row["part"] for row in report.rows} == {"reference_path"}
    assert len(report.rows) == 6 + 6 + 3 + 6


def test_a_wrong_kernel_is_found(project: None, monkeypatch: pytest.MonkeyPatch) -> None:
    right = mlp.linear_relu_squared_mlp
    monkeypatch.setattr(mlp, "linear_relu_squared_mlp", lambda x, *w: 1.1 * right(x, *w))
    second = next(iter(OTHER_SEEDS))  # one more seed is enough, since only curves need them
    compared = {name: PATHS[name] for name in (FAST, REFERENCE, FLOAT32, second)}
    monkeypatch.setattr(reference_path, "PATHS", compared)
    monkeypatch.setattr(reference_path, "OTHER_SEEDS", (second,))
    with pytest.raises(
        ValueError, match="first gradients, fast and reference, float32: hidden_error"
    ):
        compare(Report(60), TINY, smoothing_steps=4)


def test_the_source_can_be_learned_and_is_always_the_same() -> None:
    def drawn(seed: int) -> torch.Tensor:
        return learnable_tokens(20_000, 1000, torch.Generator().manual_seed(seed))

    tokens = drawn(1)
    assert torch.equal(tokens, drawn(1))
    assert not torch.equal(tokens, drawn(2))
    assert (tokens.min(), tokens.max()) >= (0, 500)
    recent = tokens.unfold(0, REPEATED_FROM_TOKENS, 1)[:-1]
    later = tokens[REPEATED_FROM_TOKENS:]
    repeated = (recent == later[:, None]).any(1).double().mean()
    by_chance = (recent[:-5000] == later[5000:, None]).any(1).double().mean()
    assert repeated > by_chance + REPEATED_SHARE / 3
    after_the_commonest = tokens[1:][tokens[:-1] == tokens.mode().values]
    commonest_four = after_the_commonest.bincount().topk(4).values.sum()
    assert commonest_four / len(after_the_commonest) > FOLLOWING_SHARE


def test_batches_follow_each_other_in_documents() -> None:
    batches = learnable_batches(3, 256, 64, 1000, seed=1, device=CPU)
    tokens = torch.cat([batch.tokens_T for batch in batches])
    targets = torch.cat([batch.targets_T for batch in batches])
    assert torch.equal(tokens[1:], targets[:-1])
    for batch in batches:
        assert [part.dtype for part in batch[:3]] == [torch.int32] * 3
        assert batch.positions_T[0] == 0
        assert batch.positions_T.max() == 63
