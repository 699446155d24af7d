"""Linear head, softcap and cross entropy as one operation that never holds all the logits.

The forward pass computes the gradients too, a chunk of tokens at a time: the logits of a chunk are
overwritten by their gradient and consumed at once, so three GEMMs are enough and the largest
temporary is one chunk. Backward only multiplies by the upstream scalar.

    z = x W^T        s = sigmoid((z + shift) / divisor)        logit = scale s
    CE_tk = log sum_v exp(logit_tv) - logit_(t, y_tk)        loss = sum_tk w_tk CE_tk
    dz_tv = (weight_t softmax_tv - sum_k w_tk [v = y_tk]) (scale / divisor) s (1 - s)

A token has K targets, one for plain next-token prediction; weight_t = sum_k w_tk. Weights of equal
targets add up, and a target of weight 0 has no effect.

Logits lie in (0, scale), so no running maximum is needed: subtracting scale / 2 centres the
exponentials. And so the gradient needs no second pass to normalise it:

    e_tv = exp(logit_tv - scale / 2)    S_t = sum_v e_tv    r_t = weight_t scale / (divisor S_t)
    u_tv = (e_tv - share_tv S_t) s (1 - s)        share_tv = sum_k w_tk [v = y_tk] / weight_t
    dz = r u        dx = r (u W)        dW = u^T (r x)

Shapes: T packed tokens, K targets of a token, D width, V rows of the head (padded).
"""

# ruff: noqa: PLR0917
from collections.abc import Mapping

import torch
from torch import Tensor

from ramengpt.kernels.head.cuda import chunked_on_cuda
from ramengpt.kernels.head.float8 import chunked_in_float8
from ramengpt.kernels.head.plain import chunked_plain
from ramengpt.kernels.support import runs_kernels

_LARGEST_SCALE = 80.0  # exp(80) is finite in float32
_FLOAT8_MULTIPLE = 16  # float8 products want inner dims of whole blocks of 16 bytes


def softcapped_cross_entropy(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
    *,
    float8: bool = False,
) -> tuple[Tensor, Tensor]:
    """Weighted cross entropy of `scale * sigmoid((x W^T + shift) / divisor)`.

    The products run in the dtype of `x_TD`; `weight_VD` may be a float32 master beside a bfloat16
    `x_TD`: it is cast here, and its gradient is accumulated and returned in its own dtype.

    Args:
        x_TD: [T, D], the head's input.
        weight_VD: [V, D]; rows from `vocabulary` on are padding, outside the softmax.
        targets: integers [T, K] in [0, vocabulary), or [T] for K = 1. Not checked: that would
            synchronise with the GPU.
        weights: float32, the weight of each target's loss, in the shape of `targets`, not below 0;
            None means 1 / T.
        vocabulary: number of rows that take part in the softmax.
        scale: upper bound of the logits, in (0, 80].
        shift: added before the division.
        divisor: width of the softcap, positive.
        float8: compute gradients by float8 products, on a GPU of `tiles.TMA_MAJORS`; without
            gradients it changes nothing.

    Returns:
        The weighted sum of the losses (float32 scalar, differentiable in x and W), and every
        token's unweighted loss of its first target (float32 [T], not differentiable).

    Raises:
        ValueError: shapes that do not fit, a constant out of range, or an unsupported dtype.

    Source: the softcap of Gemma 2 (2408.00118) in modded-nanogpt's form; gradients in the forward
    pass as in Liger Kernel (2410.10989).
    """
    _check(x_TD, weight_VD, targets, weights, vocabulary, scale, divisor)
    if float8:
        rows, width = weight_VD.shape
        sizes = {"tokens": len(x_TD), "width": width, "rows of W": rows}
        check_float8_sizes("float8_head", sizes)
    with_gradients = torch.is_grad_enabled() and (x_TD.requires_grad or weight_VD.requires_grad)
    arguments = (x_TD, weight_VD, targets, weights, vocabulary, scale, shift, divisor)
    loss, token_losses_T, _, _ = _operator(*arguments, with_gradients, float8)
    return loss, token_losses_T.detach()


def softcapped_cross_entropy_reference(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
) -> tuple[Tensor, Tensor]:
    """The same in plain PyTorch with all logits in memory: what the kernels are tested against."""
    z_TV = x_TD @ weight_VD[:vocabulary].to(x_TD.dtype).T
    logits_TV = scale * torch.sigmoid((z_TV.to(_wide(x_TD)) + shift) / divisor)
    logs_TV = torch.log_softmax(logits_TV, dim=1)
    losses_TK = -logs_TV.gather(1, targets.reshape(len(x_TD), -1).long())
    token_losses_T = losses_TK[:, 0].detach()
    if weights is None:
        return losses_TK.sum() / len(x_TD), token_losses_T
    return (losses_TK * weights.reshape(losses_TK.shape)).sum(), token_losses_T


def _check(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    vocabulary: int,
    scale: float,
    divisor: float,
) -> None:
    num_tokens, width = x_TD.shape
    if weight_VD.shape[1] != width:
        raise ValueError(f"head: weight is {tuple(weight_VD.shape)}, but x has width {width}")
    if targets.dim() not in (1, 2) or len(targets) != num_tokens:
        raise ValueError(
            f"head: targets must have shape ({num_tokens},) or ({num_tokens}, K), "
            f"found {tuple(targets.shape)}"
        )
    if weights is not None and weights.shape != targets.shape:
        raise ValueError(
            f"head: weights must have the targets' shape {tuple(targets.shape)}, "
            f"found {tuple(weights.shape)}"
        )
    if not 0 < vocabulary <= weight_VD.shape[0]:
        raise ValueError(f"head: vocabulary {vocabulary} must be in 1..{weight_VD.shape[0]}")
    if not 0 < scale <= _LARGEST_SCALE or divisor <= 0:
        raise ValueError(
            f"head: scale {scale} must be in (0, {_LARGEST_SCALE}] and divisor {divisor} positive"
        )
    if x_TD.dtype == torch.float16:
        raise ValueError("head: float16 cannot hold its gradients; use bfloat16 or float32")


def check_float8_sizes(key: str, sizes: Mapping[str, int]) -> None:
    """Refuse sizes, by name, that float8 GEMMs do not support; `key` is what asked for them.

    Raises:
        ValueError: one is not a multiple of the block.
    """
    for name, size in sizes.items():
        if size % _FLOAT8_MULTIPLE:
            raise ValueError(
                f"{key}: {name} must be a multiple of {_FLOAT8_MULTIPLE}, found {size}"
            )


def _wide(x: Tensor) -> torch.dtype:
    """float32, or the dtype of `x` where that is wider."""
    return torch.promote_types(x.dtype, torch.float32)


@torch.library.custom_op("ramengpt::softcapped_cross_entropy", mutates_args=())
def _operator(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
    with_gradients: bool,
    float8: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, token losses, and the gradients of x and W (empty unless asked for)."""
    chunked = chunked_on_cuda if runs_kernels(x_TD) else chunked_plain
    targets_TK = targets.reshape(len(targets), -1)
    if weights is None:
        weights_TK = torch.full_like(targets_TK, 1 / len(targets), dtype=_wide(x_TD))
    else:
        weights_TK = weights.to(_wide(x_TD)).reshape(targets_TK.shape)
    totals_T = weights_TK.sum(1)
    shares_TK = (weights_TK / totals_T[:, None]).masked_fill(totals_T[:, None] == 0, 0)
    weighted = (targets_TK, totals_T, shares_TK)
    arguments = (x_TD, weight_VD, *weighted, vocabulary, scale, shift, divisor)
    if float8 and with_gradients:
        losses_TK, grad_x_TD, grad_weight_VD = chunked_in_float8(*arguments)
    else:
        losses_TK, grad_x_TD, grad_weight_VD = chunked(*arguments, with_gradients)
    loss = torch.dot(losses_TK.flatten(), weights_TK.flatten())
    return loss.float(), losses_TK[:, 0].float().clone(), grad_x_TD, grad_weight_VD


@_operator.register_fake
def _operator_shapes(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
    with_gradients: bool,
    float8: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        x_TD.new_empty((), dtype=torch.float32),
        x_TD.new_empty(len(targets), dtype=torch.float32),
        torch.empty_like(x_TD) if with_gradients else x_TD.new_empty(0),
        torch.empty_like(weight_VD) if with_gradients else weight_VD.new_empty(0),
    )


def _keep_gradients(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]
) -> None:
    ctx.set_materialize_grads(False)  # no zeros the size of W for outputs that nobody uses
    ctx.save_for_backward(*output[2:])


def _scale_gradients(
    ctx: torch.autograd.function.FunctionCtx,
    grad_loss: Tensor | None,
    *_: Tensor | None,
) -> tuple[Tensor | None, ...]:
    if grad_loss is None:
        return (None,) * 10
    grad_x_TD, grad_weight_VD = ctx.saved_tensors  # type: ignore[attr-defined]
    return (grad_x_TD * grad_loss, grad_weight_VD * grad_loss, *(None,) * 8)


_operator.register_autograd(_scale_gradients, setup_context=_keep_gradients)
