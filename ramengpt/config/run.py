"""The sections `train:` and `validation:` of params.yaml: how a run is carried out."""

from typing import Literal

from ramengpt.config.base import CorpusTokens, Count, Section, Steps, StepsOrNone, Tokens


class TrainConfig(Section):
    """How the training loop runs on this machine.

    Attributes:
        attention_backend: `flex` (CUDA), `sdpa` (anywhere), or `auto`: the faster that runs here.
        precision: what matrix products are computed in; weights, gradients and losses stay
            float32. `auto` is bfloat16 on a GPU or CPU that multiplies it, float16 with a scaled
            loss on Volta and Turing (V100, T4), else float32.
        float8_head: train the head with float8 products; needs an H100, H200 or B200.
        float8_mlp: train the MLPs with float8 products forward; likewise.
        compile: torch.compile the model and the optimizers; `auto` does so on CUDA only.
        micro_batch_tokens: most tokens that pass through the network at once; a larger micro-batch
            of the schedule does so in slices. `auto` is what fits the GPU.
        recompute_activations: keep only each layer's inputs for the backward pass, which computes
            the rest again: less memory, more time.
        checkpoint_every_steps: steps between two checkpoints to resume from; 0 writes none.
        checkpoints_kept: how many of the newest stay on disk.
    """

    attention_backend: Literal["auto", "flex", "sdpa"]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    float8_head: bool
    float8_mlp: bool
    compile: Literal["auto", "yes", "no"]
    micro_batch_tokens: Literal["auto"] | Tokens
    recompute_activations: bool
    checkpoint_every_steps: StepsOrNone
    checkpoints_kept: Count


class ValidationConfig(Section):
    """How held-out loss is measured.

    Attributes:
        tokens: evaluate this many tokens from the start of the validation split, each once.
        every_steps: steps between two measurements; the last step is always measured.
    """

    tokens: CorpusTokens
    every_steps: Steps
