"""Small networks and packed documents for the tests of the model."""

from typing import Any

import torch
from torch import Tensor

from ramengpt.config.model import NetworkConfig
from ramengpt.model.attention_backend import PackedContext
from ramengpt.model.gpt import GPT

TINY = {
    "num_layers": 4,
    "num_heads": 2,
    "head_dim": 16,
    "vocabulary": 61,
    "vocabulary_multiple": 8,
    "activation": "relu_squared",
    "ffn_dim": "auto",
    "attention_pattern": "SL-L",
    "value_embedding_pattern": "ab-a",
    "paired_heads_pattern": "P---",
    "attention_free_layers": True,
    "value_embeddings": "shared",
    "split_value_gate": True,
    "value_embedding_init_std": 0.0,
    "bigram_embedding": True,
    "bigram_vocabularies": 3,
    "bigram_lambda": 0.05,
    "bigram_after_attention": True,
    "exclusive_attention": True,
    "late_attention": True,
    "paired_heads": True,
    "value_residual": True,
    "value_residual_lambda": 0.5,
    "embedding_mix": True,
    "attention_lambdas": True,
    "sublayer_gains": False,
    "token_gains": True,
    "token_gain_units": 8,
    "hyper_connections": False,
    "hyper_connection_streams": 2,
    "attention_gate": True,
    "key_offset": True,
    "smear": True,
    "skip_connection": True,
    "skip_source_layer": 0,
    "skip_target_layer": 2,
    "backout": True,
    "multi_token_loss": False,
    "prefix_loss": False,
    "backout_layer": 2,
    "dense_connections": True,
    "dense_connection_units": 8,
    "gate_inputs": 12,
    "attention_scale_gain": 1.2,
    "rope_base": 1024.0,
    "yarn": True,
    "yarn_low_rotations": 1.0,
    "yarn_high_rotations": 32.0,
    "yarn_scale_gain": 0.2,
    "logit_scale": 23.0,
    "logit_shift": 5.0,
    "logit_divisor": 7.5,
    "attention_init_gain": 1.0,
    "attention_output_init_gain": 0.0,
    "mlp_init_gain": 0.5,
    "head_init_std": 0.005,
    "residual_lambda": 1.1,
    "embedding_lambda": 0.0,
    "attention_input_lambda": 0.5,
    "attention_output_lambda": 1.0,
    "smear_lambda": 0.0,
    "skip_lambda": -1.5,
    "backout_lambda": 0.5,
}


def tiny_config(**changes: object) -> NetworkConfig:
    """Every part of the network in four layers of width 32."""
    return NetworkConfig.model_validate(TINY | changes)


def new_model(
    config: NetworkConfig,
    *,
    window: int = 256,
    max_sequence_tokens: int = 512,
    dtype: torch.dtype = torch.float64,
    backend: str = "sdpa",
) -> GPT:
    """A network as it is initialised."""
    torch.manual_seed(0)
    model = GPT(
        config,
        max_sequence_tokens=max_sequence_tokens,
        backend=backend,  # type: ignore[arg-type]
        compute_dtype=dtype,
    )
    if dtype == torch.float64:
        model.double()
    model.set_window(window)
    return model


def tiny_model(config: NetworkConfig, **options: Any) -> GPT:
    """A network whose every parameter has moved, so that no part is silent."""
    model = new_model(config, **options)
    move_parameters(model)
    return model


@torch.no_grad()
def move_parameters(model: GPT) -> None:
    """Add noise that keeps every part at work and every activation near 1."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        scale = 0.5 if parameter.dim() == 1 else parameter.size(-1) ** -0.5
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.add_((scale * noise).to(parameter))


def layer_inputs(model: GPT, layer: int, lengths: list[int]) -> dict[str, Any]:
    """What a layer gets beside the residual stream, for the documents of :func:`packed`."""
    tokens_T, _, positions_T = packed(lengths)
    letter = model.config.value_embedding_pattern[layer]
    rotation = model.rotary(positions_T)
    paired = model.config.paired_heads_pattern[layer] == "P"
    return {
        "value_TD": model.value_embeddings[letter](tokens_T) if letter != "-" else None,
        "rotation": rotation.doubled() if paired else rotation,
        "context": PackedContext(positions_T, model.rotary, model.attention_kinds, "sdpa", None),
    }


def packed(
    lengths: list[int], vocabulary: int = 61, seed: int = 0, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, targets and positions of documents of these lengths, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    tokens_T = torch.randint(0, vocabulary, (total,), generator=generator, dtype=torch.int32)
    targets_T = torch.randint(0, vocabulary, (total,), generator=generator, dtype=torch.int32)
    positions_T = torch.cat([torch.arange(n, dtype=torch.int32) for n in lengths])
    return tokens_T.to(device), targets_T.to(device), positions_T.to(device)
