"""Bring the rows and the columns of a matrix to equal norms, in turn.

Shapes: N matrices of R rows and C columns.
Sources: SinkGD (arXiv 2502.06742), BAM (knightron0/bam).
"""

from torch import Tensor

from ramengpt.optimizers.rule import reciprocal_root

ROWS, COLUMNS = -1, -2


def balanced(matrix_NRC: Tensor, passes: int, last: int) -> Tensor:
    """Alternately give all rows and all columns the mean square 1.

    A positive factor changes nothing, rows and columns of zeros stay zero, and the result's own
    mean square is 1 unless there are such.

    Args:
        matrix_NRC: the matrices.
        passes: over both sides.
        last: ROWS or COLUMNS, the side each pass ends with; that one is exact.
    Returns:
        [N, R, C].
    """
    first = COLUMNS if last == ROWS else ROWS
    for _ in range(passes):
        for dim in (first, last):
            mean_square = matrix_NRC.square().mean(dim=dim, keepdim=True)
            matrix_NRC = matrix_NRC * reciprocal_root(mean_square)
    return matrix_NRC
