"""Stacks: many parameters seen as one tensor, so that one kernel updates them all.

Blocks of equal shape become [N, R, C]; scalars and gates become one vector; an embedding stays as
it is, since copying it would cost as much as updating it. Parameters themselves keep their storage.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ramengpt.errors import UserError
from ramengpt.optimizers.groups import LabelledParameter


class Stack(Protocol):
    """Several parameters seen as one tensor, and their multipliers.

    Attributes:
        members: names of the parameters, with the block's number where there are several.
        lr_mul: their learning-rate multipliers, broadcast against the stacked tensor.
        wd_mul: the same of weight decay.
    """

    members: list[str]
    lr_mul: Tensor
    wd_mul: Tensor

    def weight(self) -> Tensor:
        """All weights as one tensor."""
        ...

    def gradient(self) -> Tensor:
        """All gradients as one tensor."""
        ...

    def write(self, weight: Tensor) -> None:
        """Copy an updated `weight()` back into the parameters."""
        ...


class Block(NamedTuple):
    """Some rows of a hidden matrix that are updated as one matrix."""

    entry: LabelledParameter
    name: str
    first_row: int
    rows: int
    transposed: bool

    def view(self, tensor: Tensor) -> Tensor:
        """This block of the parameter or of its gradient, as the stack holds it."""
        block_RC = tensor[self.first_row : self.first_row + self.rows]
        return block_RC.mT if self.transposed else block_RC


class BlockStack:
    """Blocks of one shape, as [N, R, C]."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self.members = [f"{block.entry.name}[{block.name}]" for block in blocks]
        like = blocks[0].entry.parameter
        self.lr_mul = _constants([block.entry.lr_mul for block in blocks], like)[:, None, None]
        self.wd_mul = _constants([block.entry.wd_mul for block in blocks], like)[:, None, None]
        self._weights = [block.view(block.entry.parameter.detach()) for block in blocks]

    def weight(self) -> Tensor:
        """A copy [N, R, C]."""
        return torch.stack(self._weights)

    def gradient(self) -> Tensor:
        """A copy [N, R, C]."""
        return torch.stack([block.view(gradient_of(block.entry)) for block in self._blocks])

    def write(self, weight: Tensor) -> None:
        """Copy every block back."""
        torch._foreach_copy_(self._weights, list(weight.unbind()))


class FlatStack:
    """Small parameters of any shapes, as one vector."""

    def __init__(self, entries: Sequence[LabelledParameter]) -> None:
        self._entries = entries
        self.members = [entry.name for entry in entries]
        like = entries[0].parameter
        self._weights = [entry.parameter.detach() for entry in entries]
        self._sizes = [weight.numel() for weight in self._weights]
        self.lr_mul = self._by_element([entry.lr_mul for entry in entries], like)
        self.wd_mul = self._by_element([entry.wd_mul for entry in entries], like)

    def _by_element(self, factors: list[float], like: Tensor) -> Tensor:
        """Repeat each parameter's factor for all of its elements."""
        sizes, total = torch.tensor(self._sizes, device=like.device), sum(self._sizes)
        return _constants(factors, like).repeat_interleave(sizes, output_size=total)

    def weight(self) -> Tensor:
        """A copy, one vector."""
        return torch.cat([weight.reshape(-1) for weight in self._weights])

    def gradient(self) -> Tensor:
        """A copy, one vector."""
        return torch.cat([gradient_of(entry).reshape(-1) for entry in self._entries])

    def write(self, weight: Tensor) -> None:
        """Copy every parameter back."""
        pieces = weight.split(self._sizes)
        torch._foreach_copy_(
            self._weights,
            [piece.view_as(own) for piece, own in zip(pieces, self._weights, strict=True)],
        )


class SingleStack:
    """One large parameter, updated where it is."""

    def __init__(self, entry: LabelledParameter) -> None:
        self._entry = entry
        self.members = [entry.name]
        self.lr_mul = _constants([entry.lr_mul], entry.parameter)[0]
        self.wd_mul = _constants([entry.wd_mul], entry.parameter)[0]

    def weight(self) -> Tensor:
        """The parameter itself."""
        return self._entry.parameter.detach()

    def gradient(self) -> Tensor:
        """Its gradient itself."""
        return gradient_of(self._entry)

    def write(self, weight: Tensor) -> None:
        """Nothing: the parameter has been updated in place."""


def block_stacks(
    entries: Sequence[LabelledParameter], *, oriented: bool, by_heads: bool
) -> list[BlockStack]:
    """Stack the blocks of hidden matrices by shape.

    Args:
        entries: hidden matrices.
        oriented: whether blocks are turned so that their rows are the residual stream, or the
            other side where that is shorter, since only the shorter one can be rotated.
        by_heads: whether q and k are cut into blocks of as many heads as the entry says.
    Returns:
        One stack for each shape, in the order in which shapes first occur.
    Raises:
        UserError: a matrix's heads cannot be cut so.
    """
    by_shape: dict[tuple[int, int], list[Block]] = {}
    for entry in entries:
        columns = entry.parameter.size(1)
        for name, first_row, rows, residual_dim in _cuts(entry, by_heads=by_heads):
            row_dim = residual_dim if rows == columns else int(columns < rows)
            transposed = oriented and row_dim == 1
            shape = (columns, rows) if transposed else (rows, columns)
            block = Block(entry, name, first_row, rows, transposed)
            by_shape.setdefault(shape, []).append(block)
    return [BlockStack(blocks) for blocks in by_shape.values()]


def _cuts(entry: LabelledParameter, *, by_heads: bool) -> Iterator[tuple[str, int, int, int]]:
    """Name, first row, number of rows and residual dim of each block of a hidden matrix."""
    rows = entry.parameter.size(0) // len(entry.residual_dims)
    heads = entry.query_key_block_heads if by_heads else 0
    for number, residual_dim in enumerate(entry.residual_dims):
        if not heads or entry.head_dim is None or number > 1:
            yield f"{number}", number * rows, rows, residual_dim
            continue
        if rows % (heads * entry.head_dim):
            raise UserError(
                f"params.yaml: query_key_block_heads of parameters.{entry.label} or the selected "
                f"architecture: expected a divisor of the model's {rows // entry.head_dim} heads, "
                f"or 0, found {heads}"
            )
        piece_rows = heads * entry.head_dim
        for piece in range(rows // piece_rows):
            first_row = number * rows + piece * piece_rows
            yield f"{number}.{piece}", first_row, piece_rows, residual_dim


def gradient_of(entry: LabelledParameter) -> Tensor:
    """The parameter's gradient.

    Raises:
        ValueError: it has none, so the loss does not depend on it.
    """
    gradient = entry.parameter.grad
    if gradient is None:
        raise ValueError(f"parameter {entry.name} has no gradient: the loss does not depend on it")
    return gradient


def _constants(values: list[float], like: Tensor) -> Tensor:
    """Numbers that stay constant during training."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)
