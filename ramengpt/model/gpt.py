"""The network: embedding, smear, blocks with their connections, backout, head.

    e = embed(tokens), smeared               x0 = x = norm(e)
    each layer:  x = residual_lambda x + embedding_lambda x0 (embedding_mix), then attention and MLP
                 x += bigram_lambda e(previous token, token), or later between the two; late
                 layers attend to the output of backout_layer instead of x
    at skip_target_layer first  x += gate(x0) x_after_skip_source_layer
    at the end  x -= backout_lambda x_after_backout_layer, then norm, head, softcap

Shapes: T packed tokens, D width, L layers, V rows of embedding and head. With hyper-connections x
has several streams, [N, T, D], and what is added to it is added to all.

Source: modded-nanogpt, whose parts these are; with its leaks across documents fixed.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ramengpt.config.model import NetworkConfig
from ramengpt.model.attention_backend import AttentionContext, Backend, KernelOptions, PackedContext
from ramengpt.model.attention_kind import attention_kinds
from ramengpt.model.bigram import BigramEmbedding
from ramengpt.model.block import Block
from ramengpt.model.dense_connections import DenseConnection
from ramengpt.model.embedding import Embedding
from ramengpt.model.extra_targets import ExtraTargets
from ramengpt.model.gates import SkipConnection, Smear
from ramengpt.model.head import Head
from ramengpt.model.initialisation import initialise
from ramengpt.model.norm import rms_norm
from ramengpt.model.parameters import optional_parameter
from ramengpt.model.rope import Rotary
from ramengpt.model.token_gains import TokenGains


class GPT(nn.Module):
    """Packed tokens to losses or logits. Parameters are float32 and cast where they are used.

    `embedding.weight` and `head.weight` are always two parameters of one shape and start equal;
    to tie them is the optimizer's work. Call :meth:`set_window` before the first forward.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        max_sequence_tokens: int,
        backend: Backend,
        compute_dtype: torch.dtype,
        kernel_options: KernelOptions | None = None,
        float8_head: bool = False,
        float8_mlp: bool = False,
        prefixes_V: Tensor | None = None,
        recompute_activations: bool = False,
    ) -> None:
        """Build and initialise, drawing from the global generator.

        Args:
            config: the network.
            max_sequence_tokens: longest document, or piece of one.
            backend: "flex" (CUDA, compiled) or "sdpa"; see `resolve_backend`.
            compute_dtype: of activations and matrix products.
            kernel_options: FlexAttention's, for this GPU.
            float8_head: multiply in float8 where the head is trained.
            float8_mlp: multiply in float8 in the forward pass of the MLPs in training.
            prefixes_V: see :class:`ExtraTargets`; needed to train with `prefix_loss`.
            recompute_activations: keep only each block's inputs for the backward pass.
        """
        super().__init__()
        self.config, self.backend, self.compute_dtype = config, backend, compute_dtype
        self.kernel_options, self.recompute_activations = kernel_options, recompute_activations
        layers, attentions = config.num_layers, len(config.attention_pattern.replace("-", ""))
        self.attention_kinds = attention_kinds(config)
        self.rotary = Rotary(config, max_sequence_tokens)
        self.embedding = Embedding(config, "embedding")
        self.value_embeddings = nn.ModuleDict(
            {letter: Embedding(config, "value_embedding") for letter in config.value_tables}
        )
        self.bigram = BigramEmbedding(config) if config.bigram_embedding else None
        self.bigram_lambda = optional_parameter(config.bigram_embedding, "bigram_lambda", layers)
        self.smear = Smear(config) if config.smear else None
        self.blocks = nn.ModuleList(
            Block(config, layer, float8_mlp=float8_mlp) for layer in range(layers)
        )
        weighs_x = config.embedding_mix and not config.sublayer_gains  # which weigh x themselves
        self.residual_lambda = optional_parameter(weighs_x, "residual_lambda", layers)
        self.embedding_lambda = optional_parameter(config.embedding_mix, "embedding_lambda", layers)
        gained = config.embedding_mix or config.bigram_embedding
        self.token_gains = TokenGains(config) if config.token_gains and gained else None
        self.attention_lambda = optional_parameter(
            config.attention_lambdas and attentions > 0, "attention_lambda", attentions, 2
        )
        self.skip = SkipConnection(config) if config.skip_connection else None
        self.backout_lambda = optional_parameter(config.backout, "backout_lambda", 1)
        self.into_last = self.into_head = None
        if config.dense_connections:
            self.into_last = DenseConnection(config, num_sources=2)
            self.into_head = DenseConnection(config, num_sources=4)
        self.head = Head(config, float8=float8_head)
        has_more = config.multi_token_loss or config.prefix_loss
        self.extra_targets = ExtraTargets(config, prefixes_V) if has_more else None
        initialise(self, config)

    @property
    def max_sequence_tokens(self) -> int:
        """Longest document that the network can take."""
        return self.rotary.max_sequence_tokens

    def set_window(self, long_window_tokens: int) -> None:
        """Set the attention window, and stretch the rotations to it; see :class:`Rotary`."""
        self.rotary.set_window(long_window_tokens)

    def set_extra_loss_weights(self, further_tokens: Sequence[float], prefix: float) -> None:
        """Set the weights of the losses besides the next token's; see :class:`ExtraTargets`."""
        if self.extra_targets is not None:
            self.extra_targets.set_weights(further_tokens, prefix)

    def temporary_window(self, long_window_tokens: int) -> AbstractContextManager[None]:
        """Use another window inside a `with` (for validation); the exact state is restored."""
        return self.rotary.temporary_window(long_window_tokens)

    def forward(
        self,
        tokens_T: Tensor,
        targets_T: Tensor,
        positions_T: Tensor,
        weights_T: Tensor | None = None,
    ) -> Tensor:
        """Mean loss of one packed micro-batch: cross entropy, and those of :class:`ExtraTargets`.

        Args:
            tokens_T: int32 [T].
            targets_T: int32 [T].
            positions_T: int32 [T], offset of each token in its document; the first is 0.
            weights_T: float32 [T], of each token in the sum that the loss then is; None for 1 / T.

        Returns:
            Float32 scalar.

        Raises:
            ValueError: no window has been set.
        """
        targets, weights = targets_T, weights_T
        if self.extra_targets is not None:
            targets, weights = self.extra_targets(targets_T, positions_T)
            if weights_T is not None:
                weights = weights * (weights_T * len(weights_T))[:, None]
        return self.head.losses(self._packed(tokens_T, positions_T), targets, weights)[0]

    @torch.no_grad()
    def token_losses(self, tokens_T: Tensor, targets_T: Tensor, positions_T: Tensor) -> Tensor:
        """Cross entropy of each token, float32 [T], without gradient; see :meth:`forward`."""
        return self.head.losses(self._packed(tokens_T, positions_T), targets_T, None)[1]

    def logits(self, tokens_T: Tensor, positions_T: Tensor) -> Tensor:
        """All logits [T, vocabulary], float32 or wider; see :meth:`forward`."""
        return self.head.logits(self._packed(tokens_T, positions_T))

    def _packed(self, tokens_T: Tensor, positions_T: Tensor) -> Tensor:
        if not self.rotary.has_window:
            raise ValueError("model: no attention window yet; call set_window before the forward")
        context = PackedContext(
            positions_T, self.rotary, self.attention_kinds, self.backend, self.kernel_options
        )
        return self.hidden(tokens_T, context)

    def hidden(self, tokens_T: Tensor, context: AttentionContext) -> Tensor:
        """The head's input [T, D], normed.

        Args:
            tokens_T: int32 [T].
            context: their positions and the tokens before them.
        """
        config = self.config
        x = x0_TD = self._embedded(tokens_T, context)
        values = {
            letter: table(tokens_T).to(self.compute_dtype)
            for letter, table in self.value_embeddings.items()
        }
        bigram_TD = None if self.bigram is None else self.bigram(tokens_T, context, x0_TD.dtype)
        gains = {} if self.token_gains is None else self.token_gains(x0_TD)
        rotation = self.rotary(context.positions_T)
        doubled = rotation.doubled() if "P" in config.paired_heads_pattern else rotation
        if config.hyper_connections:
            x = x0_TD.expand(config.hyper_connection_streams, -1, -1)
        attention_lambdas = iter(() if self.attention_lambda is None else self.attention_lambda)
        first_value_THK = None
        skipped = backed_out = before_last = x0_TD  # all are replaced on the way
        for layer, block in enumerate(self.blocks):
            if self.skip is not None and layer == config.skip_target_layer:
                x = x + self.skip(x0_TD) * skipped
            if self.into_last is not None and block is self.blocks[-1]:
                x = before_last = self.into_last(x, [x0_TD, backed_out])
            x, between_TD = self._mixed(layer, x, x0_TD, bigram_TD, gains)
            is_late = config.late_attention and layer > config.backout_layer
            run = _recomputed(block) if self.recompute_activations else block
            x, value_THK = run(
                x,
                attended=backed_out if is_late else x,
                value_TD=values.get(config.value_embedding_pattern[layer]),
                first_value_THK=first_value_THK,
                attention_lambdas_2=next(attention_lambdas, None) if block.attention else None,
                between_TD=between_TD,
                rotation=doubled if config.paired_heads_pattern[layer] == "P" else rotation,
                context=context,
            )
            first_value_THK = value_THK if first_value_THK is None else first_value_THK
            if layer == config.skip_source_layer:
                skipped = x
            if layer == config.backout_layer:
                backed_out = x
        return self._finished(x, x0_TD, backed_out, before_last, skipped)

    def _finished(
        self, x: Tensor, x0_TD: Tensor, backed_out: Tensor, before_last: Tensor, skipped: Tensor
    ) -> Tensor:
        """The head's input, from the last layer's output and those of earlier ones."""
        if self.backout_lambda is not None:
            x = x - self.backout_lambda.to(x.dtype) * backed_out
        if self.into_head is not None:
            x = self.into_head(x, [x0_TD, backed_out, before_last, skipped])
        return rms_norm(x.mean(0) if self.config.hyper_connections else x)

    def _embedded(self, tokens_T: Tensor, context: AttentionContext) -> Tensor:
        x_TD = self.embedding(tokens_T).to(self.compute_dtype)
        if self.smear is not None:
            x_TD = self.smear(x_TD, context)
        return rms_norm(x_TD)

    def _mixed(
        self,
        layer: int,
        x: Tensor,
        x0_TD: Tensor,
        bigram_TD: Tensor | None,
        gains: Mapping[str, Sequence[Tensor]],
    ) -> tuple[Tensor, Tensor | None]:
        """A layer's input, and what is to be added between its attention and its MLP."""
        if self.residual_lambda is not None:
            x = self.residual_lambda[layer] * x
        if self.embedding_lambda is not None:
            weight = self.embedding_lambda[layer]
            if "embedding_mix" in gains:
                weight = weight.to(x.dtype) + gains["embedding_mix"][layer]
            x = x + weight * x0_TD
        if self.bigram_lambda is None or bigram_TD is None:
            return x, None
        weight = self.bigram_lambda[layer].to(x.dtype)
        if "bigram_embedding" in gains:
            weight = weight + gains["bigram_embedding"][layer]
        if self.config.bigram_after_attention and layer > 0:
            return x, weight * bigram_TD
        return x + weight * bigram_TD, None


def _recomputed(block: nn.Module) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The block, with nothing but its inputs kept for the backward pass, which calls it again."""
    return partial(checkpoint, block, use_reentrant=False, preserve_rng_state=False)
