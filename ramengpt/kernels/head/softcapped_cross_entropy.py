"""Linear head, softcap and cross entropy as one operation that never holds all the logits.

The forward pass computes the gradients too, a chunk of tokens at a time: the logits of a chunk
become their own gradient and are consumed at once, so three matrix products are enough and the
largest temporary is one chunk. Backward only multiplies by the upstream scalar.

    z = x W^T        s = sigmoid((z + shift) / divisor)        logit = scale s
    CE_t = log sum_v exp(logit_tv) - logit_ty
    dz_tv = weight_t (softmax_tv - [v = y]) (scale / divisor) s (1 - s)

Logits lie in (0, scale), so the exponentials need no maximum subtracted: subtracting scale / 2
centres them. And so the gradient needs no second pass that normalises:

    e_tv = exp(logit_tv - scale / 2)    S_t = sum_v e_tv    r_t = weight_t scale / (divisor S_t)
    u_tv = (e_tv - [v = y] S_t) s (1 - s)        dz = r u        dx = r (u W)        dW = u^T (r x)

Shapes: T packed tokens, D width, V rows of the head (padded).
"""

# ruff: noqa: PLR0917
from collections.abc import Mapping

import torch
from torch import Tensor

from ramengpt.kernels.head.cpu import chunked_on_cpu
from ramengpt.kernels.head.cuda import chunked_on_cuda
from ramengpt.kernels.head.float8 import chunked_in_float8

_LARGEST_SCALE = 80.0  # exp(80) is finite in float32
_FLOAT8_MULTIPLE = 16  # float8 products want inner dims of whole blocks of 16 bytes


def softcapped_cross_entropy(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    weights_T: Tensor | None,
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
        targets_T: integers [T] in [0, vocabulary). Not checked: that would stop the GPU.
        weights_T: float32 [T], the weight of each token's loss; None means 1 / T.
        vocabulary: number of rows that take part in the softmax.
        scale: upper bound of the logits, in (0, 80].
        shift: added before the division.
        divisor: width of the softcap, positive.
        float8: compute gradients by float8 products, on a GPU of `tiles.TMA_MAJORS`; without
            gradients it changes nothing.

    Returns:
        The weighted sum of the losses (float32 scalar, differentiable in x and W), and every
        token's unweighted loss (float32 [T], not differentiable).

    Raises:
        ValueError: shapes that do not fit, a constant out of range, or a dtype that cannot be.

    Source: the softcap of Gemma 2 (2408.00118) in modded-nanogpt's form; gradients in the forward
    pass as in Liger Kernel (2410.10989).
    """
    _check(x_TD, weight_VD, targets_T, weights_T, vocabulary, scale, divisor)
    if float8:
        rows, width = weight_VD.shape
        check_float8_sizes({"tokens": len(x_TD), "width": width, "rows of W": rows})
    with_gradients = torch.is_grad_enabled() and (x_TD.requires_grad or weight_VD.requires_grad)
    arguments = (x_TD, weight_VD, targets_T, weights_T, vocabulary, scale, shift, divisor)
    loss, token_losses_T, _, _ = _operator(*arguments, with_gradients, float8)
    return loss, token_losses_T.detach()


def softcapped_cross_entropy_reference(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    weights_T: Tensor | None,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
) -> tuple[Tensor, Tensor]:
    """The same in plain PyTorch with all logits in memory: what the kernels are tested against."""
    z_TV = x_TD @ weight_VD[:vocabulary].to(x_TD.dtype).T
    logits_TV = scale * torch.sigmoid((z_TV.to(_wide(x_TD)) + shift) / divisor)
    losses_T = torch.nn.functional.cross_entropy(logits_TV, targets_T.long(), reduction="none")
    if weights_T is None:
        return losses_T.mean(), losses_T.detach()
    return (losses_T * weights_T).sum(), losses_T.detach()


def _check(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    weights_T: Tensor | None,
    vocabulary: int,
    scale: float,
    divisor: float,
) -> None:
    num_tokens, width = x_TD.shape
    if weight_VD.shape[1] != width:
        raise ValueError(f"head: weight is {tuple(weight_VD.shape)}, but x has width {width}")
    if targets_T.shape != (num_tokens,) or (
        weights_T is not None and weights_T.shape != (num_tokens,)
    ):
        raise ValueError(f"head: targets and weights must have shape ({num_tokens},)")
    if not 0 < vocabulary <= weight_VD.shape[0]:
        raise ValueError(f"head: vocabulary {vocabulary} must be in 1..{weight_VD.shape[0]}")
    if not 0 < scale <= _LARGEST_SCALE or divisor <= 0:
        raise ValueError(
            f"head: scale {scale} must be in (0, {_LARGEST_SCALE}] and divisor {divisor} positive"
        )
    if x_TD.dtype == torch.float16:
        raise ValueError("head: float16 cannot hold its gradients; use bfloat16 or float32")


def check_float8_sizes(sizes: Mapping[str, int]) -> None:
    """Refuse sizes, by name, that float8 products cannot take.

    Raises:
        ValueError: one is not of whole blocks.
    """
    for name, size in sizes.items():
        if size % _FLOAT8_MULTIPLE:
            raise ValueError(
                f"float8_head: {name} must be a multiple of {_FLOAT8_MULTIPLE}, found {size}"
            )


def _wide(x: Tensor) -> torch.dtype:
    """float32, or the dtype of `x` where that is wider."""
    return torch.promote_types(x.dtype, torch.float32)


@torch.library.custom_op("ramengpt::softcapped_cross_entropy", mutates_args=())
def _operator(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    weights_T: Tensor | None,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
    with_gradients: bool,
    float8: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, token losses, and the gradients of x and W (empty unless asked for)."""
    chunked = chunked_on_cuda if x_TD.is_cuda else chunked_on_cpu
    weighted_T = torch.full_like(targets_T, 1 / len(targets_T), dtype=_wide(x_TD))
    if weights_T is not None:
        weighted_T = weights_T.to(weighted_T.dtype)
    arguments = (x_TD, weight_VD, targets_T, weighted_T, vocabulary, scale, shift, divisor)
    if float8 and with_gradients:
        losses_T, grad_x_TD, grad_weight_VD = chunked_in_float8(*arguments)
    else:
        losses_T, grad_x_TD, grad_weight_VD = chunked(*arguments, with_gradients)
    loss = torch.dot(losses_T, weighted_T)
    return loss.float(), losses_T.float(), grad_x_TD, grad_weight_VD


@_operator.register_fake
def _operator_shapes(
    x_TD: Tensor,
    weight_VD: Tensor,
    targets_T: Tensor,
    weights_T: Tensor | None,
    vocabulary: int,
    scale: float,
    shift: float,
    divisor: float,
    with_gradients: bool,
    float8: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        x_TD.new_empty((), dtype=torch.float32),
        x_TD.new_empty(targets_T.shape, dtype=torch.float32),
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
