"""Small sets of labelled parameters, and the optimizers of params.yaml over them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from ruamel.yaml import YAML
from torch import Tensor

from ramengpt.config.by_schedule import with_values_of_schedule
from ramengpt.config.hooks import HooksConfig
from ramengpt.config.optimizer import OptimizerConfig
from ramengpt.config.optimizer_blocks import AdamConfig, GradientClippingConfig
from ramengpt.config.shared_blocks import with_shared_blocks
from ramengpt.optimizers import OptimizerSet, build_optimizers
from ramengpt.optimizers.polar_coefficients import polynomials
from ramengpt.optimizers.polar_express import polar_express
from ramengpt.optimizers.rule import StepScalars

PATH = Path(__file__).parents[2] / "params.yaml"
PARAMS = with_values_of_schedule(YAML(typ="safe").load(PATH), "base", PATH)
OPTIMIZERS = list(PARAMS["optimizers"])
WIDTH, VOCABULARY, LAYERS = 16, 40, 2


@dataclass(frozen=True)
class Settings:
    """What a plan says to the optimizers."""

    step: int = 0
    run_steps: int = 10
    learning_rate_multiplier: float = 1.0
    momentum: float = 0.9
    embedding_tied: bool = False
    scalars_frozen: bool = False


ALL_HOOKS = {
    "ema_nesterov": {
        "strength": 0.6,
        "decay": 0.9,
        "start_fraction": 0.2,
        "end_fraction": 0.8,
    },
    "outer_step": {"every_steps": 3, "learning_rate": 0.7, "momentum": 0.5},
    "evaluation_average": {"share": 0.6, "horizon_fraction": 0.3, "start_fraction": 0.4},
}
TIED = Settings(embedding_tied=True)
SPLIT = Settings(embedding_tied=False)


def optimizer_config(name: str, **changes) -> OptimizerConfig:
    """An entry of params.yaml, with changes."""
    values = with_shared_blocks(PARAMS, PATH)["optimizers"][name] | changes
    return TypeAdapter(OptimizerConfig).validate_python(values)


def adam_config(**changes) -> AdamConfig:
    """The Adam of the embedding, with changes."""
    return AdamConfig.model_validate(PARAMS["embedding_adam"] | changes)


def hooks_config(**changes) -> HooksConfig:
    """The section of params.yaml, where all are off, with some on."""
    return HooksConfig.model_validate(PARAMS["hooks"] | changes)


def labelled(tensor: Tensor, label: str, group: str, **changes) -> torch.nn.Parameter:
    """A parameter with the attributes that the model sets."""
    parameter = torch.nn.Parameter(tensor)
    attributes = {"label": label, "group": group, "lr_mul": 1.0, "wd_mul": 1.0} | changes
    for name, value in attributes.items():
        setattr(parameter, name, value)
    return parameter


def small_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, torch.nn.Parameter]:
    """Two layers' parameters of every kind."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return 0.1 * torch.randn(shape, generator=generator, dtype=dtype)

    parameters = {
        "embedding.weight": labelled(normal(VOCABULARY, WIDTH), "embedding", "embedding"),
        "head.weight": labelled(normal(VOCABULARY, WIDTH), "head", "embedding", wd_mul=150.0),
    }
    hidden = {"group": "hidden"}
    for layer in range(LAYERS):
        parameters |= {
            f"{layer}.qkvo": labelled(
                normal(4 * WIDTH, WIDTH),
                "attention",
                **hidden,
                residual_dims=(1, 1, 1, 0),
                head_dim=4,
            ),
            f"{layer}.mlp_in": labelled(
                normal(3 * WIDTH, WIDTH), "mlp_in", **hidden, residual_dims=(1,)
            ),
            f"{layer}.mlp_out": labelled(
                normal(3 * WIDTH, WIDTH), "mlp_out", **hidden, residual_dims=(1,), lr_mul=2.0
            ),
            f"{layer}.gate": labelled(normal(2, 12), "attention_gate", "scalar"),
            f"{layer}.lambda": labelled(normal(), "residual_lambda", "scalar", lr_mul=5.0),
        }
    return parameters


def optimizers_of(
    parameters: dict[str, torch.nn.Parameter],
    optimizer: str = "normuon",
    *,
    embedding_tied: bool = False,
    clipping: tuple[float, float, float] = (0.0, 0.0, 0.0),
    compile: bool = False,
    hooks: HooksConfig | None = None,
    **changes,
) -> OptimizerSet:
    """The optimizers of params.yaml, the one of the hidden matrices with changes."""
    embedding_norm, hidden_norm, scalar_norm = clipping
    return build_optimizers(
        parameters.items(),
        optimizer=optimizer_config(optimizer, **changes),
        embedding_adam=adam_config(),
        scalar_adam=AdamConfig.model_validate(PARAMS["scalar_adam"]),
        gradient_clipping=GradientClippingConfig(
            embedding_norm=embedding_norm, hidden_norm=hidden_norm, scalar_norm=scalar_norm
        ),
        hooks=hooks or hooks_config(),
        embedding_tied=embedding_tied,
        compile=compile,
    )


def set_gradients(parameters: dict[str, torch.nn.Parameter], seed: int) -> None:
    """Gradients that depend on the seed and the weights, as a loss's do."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters.values():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.grad = noise.to(parameter.device) + parameter.detach()


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    """Float64 noise."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rotation(size: int, seed: int = 9) -> Tensor:
    """An orthogonal matrix, float64."""
    return torch.linalg.qr(gaussian(size, size, seed=seed)).Q


def orthogonal(matrix: Tensor) -> Tensor:
    """By the polynomials that the rules of Muon's family share."""
    coefficients, headroom = polynomials(optimizer_config("muon").polar)
    return polar_express(matrix, coefficients, headroom, torch.float64)


def scalars(
    update: int = 1,
    learning_rate: float = 0.1,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    progress: float = 0.0,
    lr_mul: float = 1.0,
    wd_mul: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> StepScalars:
    """The numbers of one update of one stack."""
    return StepScalars(
        update=update,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        momentum=momentum,
        progress=progress,
        lr_mul=torch.tensor(lr_mul, dtype=dtype),
        wd_mul=torch.tensor(wd_mul, dtype=dtype),
    )


def train(parameters, optimizers, plans, first: int = 0) -> None:
    """Steps with hooks and clipping, as the training loop takes them."""
    for step, settings in enumerate(plans, start=first):
        optimizers.before_forward(settings)
        set_gradients(parameters, step)
        optimizers.clip_gradients(settings)
        optimizers.step(settings)
        optimizers.zero_grad()


def values(parameters) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different
