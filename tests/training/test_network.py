"""What params.yaml asks of a device, and what the device can do."""

import pytest
import torch

from ramengpt.config import load_config
from ramengpt.device import Profile
from ramengpt.errors import UserError
from ramengpt.training import network
from ramengpt.training.network import (
    build_model,
    build_run_optimizers,
    check_float8_head,
    check_float8_mlp,
    should_compile,
)
from ramengpt.training.session.settings import RunOptions, plans_of
from tests.inference.tiny_weights import tiny_config

CPU = torch.device("cpu")


def card(memory_gib: float, *, bfloat16: bool = True) -> Profile:
    return Profile("ampere", "A Card", (8, 0), 166_912, int(memory_gib * 2**30), bfloat16=bfloat16)


def test_the_seed_decides_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.seed() % 1000)  # whatever was drawn before does not matter
        config = load_config([f"seed={seed}"])
        object.__setattr__(config, "model", tiny_config())
        return torch.cat([p.detach().flatten() for p in build_model(config, CPU).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_flex_on_a_cpu_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"flex needs an NVIDIA GPU .*; use sdpa or auto"):
        build_model(load_config(["train.attention_backend=flex"]), CPU)


def test_a_precision_that_the_card_lacks_is_the_users_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "profile", lambda _: card(8, bfloat16=False))
    with pytest.raises(UserError, match=r"params.yaml: precision: A Card has no bfloat16"):
        build_model(load_config(["train.precision=bfloat16"]), CPU)


def test_heads_too_wide_for_the_card_are_the_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Profile("ampere", "A Card", (8, 0), 1000, 2**33, bfloat16=True)
    monkeypatch.setattr(network, "profile", lambda _: small)
    monkeypatch.setattr(network, "resolve_backend", lambda *_: "flex")
    with pytest.raises(UserError, match=r"params.yaml: attention_backend: no FlexAttention tile"):
        build_model(load_config(), CPU)


def test_a_float8_head_without_its_card_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"params.yaml: float8_head: needs an H100, .*found CPU"):
        build_model(load_config(["train.float8_head=true"]), CPU)


def test_a_float8_head_needs_a_data_centre_card_and_bfloat16() -> None:
    def of(*capability: int, name: str = "unknown") -> Profile:
        return Profile(name, "A Card", capability, 2**17, 2**36, bfloat16=True)  # type: ignore[arg-type]

    model = load_config().model
    check_float8_head(of(9, 0), torch.bfloat16, model)
    check_float8_head(of(10, 0), torch.bfloat16, model)
    for refused, dtype in (
        (of(8, 9), torch.bfloat16),
        (of(12, 0), torch.bfloat16),
        (of(9, 0), torch.float32),
        (of(9, 4, name="amd"), torch.bfloat16),
    ):
        with pytest.raises(ValueError, match="float8_head: needs an H100, H200"):
            check_float8_head(refused, dtype, model)
    odd = load_config(["models.instant.vocabulary_multiple=9"]).model
    message = "the padded vocabulary must be a multiple of 16, found 50265"
    with pytest.raises(ValueError, match=message):
        check_float8_head(of(9, 0), torch.bfloat16, odd)


def test_a_float8_mlp_is_refused_in_one_line() -> None:
    hopper = Profile("hopper", "A Card", (9, 0), 2**17, 2**36, bfloat16=True)
    check_float8_mlp(hopper, torch.bfloat16, load_config())
    with pytest.raises(UserError, match=r"params.yaml: float8_mlp: needs an H100, .*found CPU"):
        build_model(load_config(["train.float8_mlp=true"]), CPU)
    for change, message in (
        (
            "architectures.ramen.activation=swiglu",
            "needs the activation relu_squared, found swiglu",
        ),
        ("train.recompute_activations=true", "set one of the two to false"),
        ("models.instant.ffn_dim=88", "ffn_dim must be a multiple of 16, found 88"),
    ):
        with pytest.raises(ValueError, match=f"float8_mlp: .*{message}"):
            check_float8_mlp(hopper, torch.bfloat16, load_config([change]))


@pytest.mark.parametrize(
    ("choice", "on_cpu", "on_cuda"), [("yes", True, True), ("no", False, False), ("auto", False, 1)]
)
def test_compile(monkeypatch: pytest.MonkeyPatch, choice: str, on_cpu: bool, on_cuda: bool) -> None:
    monkeypatch.setattr(network, "supports_kernels", lambda device: device.type == "cuda")
    config = load_config([f'train.compile="{choice}"'])
    assert should_compile(config, CPU) == on_cpu
    assert should_compile(config, torch.device("cuda")) == on_cuda


def test_every_parameter_has_its_multipliers_and_one_optimizer() -> None:
    config = load_config(["parameters.head.lr_mul=3.0"])
    object.__setattr__(config, "model", tiny_config())
    model = build_model(config, CPU)
    optimizers = build_run_optimizers(config, model, plans_of(config, RunOptions(None, None)))
    assert model.head.weight.lr_mul == 3.0
    members = [
        member for param_group in optimizers.param_groups for member in param_group.stack.members
    ]
    assert len(members) == len(set(members)) >= len(list(model.parameters()))
