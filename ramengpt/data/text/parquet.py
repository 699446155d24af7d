"""A .parquet file as batches of records; memory is bounded by what its row groups take on disk.

Text that repeats is stored once, in a dictionary, and stays there: written out, a file of a few
kilobytes can decode to gigabytes. Rows are only looked up as they are handed on. Where a value is
stored as its difference from the one before, a few rows are decoded at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ramengpt.data.text.readers import BATCH_BYTES, BATCH_RECORDS, RecordBatch, TextSource, grouped
from ramengpt.errors import UserError, shortened, shown

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

ROWS_OF_DIFFERENCES = 16
BUFFER_BYTES = 2**20
MOST_CHARACTERS = 300
"""Of a list of columns in a message."""


@dataclass(frozen=True)
class ParquetFile(TextSource):
    """A .parquet file with a column of texts."""

    field: str

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Rows as UTF-8; UserError if the column is missing or no text, or the file is damaged."""
        from pyarrow.parquet import ParquetFile as Reader

        self.file.check_unchanged()
        try:
            with Reader(self.file.path, buffer_size=BUFFER_BYTES, pre_buffer=False) as reader:
                self._check_column(reader)
                self._check_row_groups(reader)
                differences = any(map(_holds_differences, _chunks(reader, self.field)))
            with Reader(
                self.file.path,
                read_dictionary=[] if differences else [self.field],
                buffer_size=BUFFER_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            ) as reader:
                rows = self._rows(reader, first_record, differences)
                name = self.name
                for first, records in grouped(rows, first_record):
                    yield RecordBatch(records, "text", self.field, name, first)
        except UserError:
            raise
        except (ValueError, OSError, MemoryError, NotImplementedError) as error:
            self.file.check_unchanged()
            reason = shortened(" ".join(str(error).split()), 200)
            raise UserError(
                f"{self.name}: damaged or cut short, not a whole .parquet file ({reason}); "
                "replace it with a whole copy"
            ) from None
        self.file.check_unchanged()

    def _check_column(self, reader: "pyarrow.parquet.ParquetFile") -> None:
        names = reader.schema_arrow.names
        if names.count(self.field) != 1:
            listed = shortened(", ".join(names), MOST_CHARACTERS)
            many = "no column" if self.field not in names else "several columns"
            raise UserError(
                f"{self.name}: {many} {shown(self.field)}; set text_field to one of "
                f"{listed or 'none'}"
            )
        kind = reader.schema_arrow.field(self.field).type
        if kind.num_fields:
            raise _no_strings(self.name, kind)

    def _check_row_groups(self, reader: "pyarrow.parquet.ParquetFile") -> None:
        """Raise an OSError if a row group's description is damaged, where asking for it aborts."""
        for number in range(reader.num_row_groups):
            rows = reader.iter_batches(1, [number], [self.field], use_threads=False)
            next(iter(rows), None)

    def _rows(
        self, reader: "pyarrow.parquet.ParquetFile", first: int, differences: bool
    ) -> Iterator[list[bytes | None]]:
        """The column's values from row `first` on, some rows at a time."""
        name = self.name
        for number, column in enumerate(_chunks(reader, self.field)):
            count = reader.metadata.row_group(number).num_rows
            if first >= count:
                first -= count
                continue
            for batch in reader.iter_batches(
                batch_size=ROWS_OF_DIFFERENCES if differences else _rows_at_once(column),
                row_groups=[number],
                columns=[self.field],
                use_threads=False,  # one column: handing it to a thread costs more than decoding it
            ):
                yield text_column(batch.column(0)[first:], name)
                first = max(0, first - batch.num_rows)


def _chunks(
    reader: "pyarrow.parquet.ParquetFile", field: str
) -> "list[pyarrow.parquet.ColumnChunkMetaData]":
    """The part of a column that each row group holds; none for a column that is nested."""
    metadata = reader.metadata
    paths = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    if field not in paths:
        return []
    column = paths.index(field)
    return [metadata.row_group(number).column(column) for number in range(metadata.num_row_groups)]


def _holds_differences(column: "pyarrow.parquet.ColumnChunkMetaData") -> bool:
    """Whether it has an encoding that Arrow does not decode to a dictionary."""
    return any(encoding.startswith("DELTA_") for encoding in column.encodings)


def _rows_at_once(column: "pyarrow.parquet.ColumnChunkMetaData") -> int:
    """Rows that take about BATCH_BYTES as they are stored."""
    size = column.total_uncompressed_size // max(1, column.num_values)
    return max(1, min(BATCH_RECORDS, BATCH_BYTES // max(1, size)))


def text_column(column: "pyarrow.Array", place: str) -> list[bytes | None]:
    """A column's texts as bytes, since pyarrow cannot decode invalid UTF-8.

    Raises:
        UserError: it is no column of strings.
    """
    import pyarrow as pa
    import pyarrow.compute

    if pa.types.is_null(column.type):
        return [None] * len(column)
    if not pa.types.is_dictionary(column.type):
        return _as_bytes(column, place).to_pylist()
    texts, rows = _as_bytes(column.dictionary, place), column.indices
    sizes_bytes = pa.compute.binary_length(texts).take(rows)
    if (pa.compute.sum(sizes_bytes).as_py() or 0) <= BATCH_BYTES:
        return texts.take(rows).to_pylist()
    used = rows.unique().drop_null()
    text_of = dict(zip(used.to_pylist(), texts.take(used).to_pylist(), strict=True))
    return [None if row is None else text_of[row] for row in rows.to_pylist()]


def _as_bytes(column: "pyarrow.Array", place: str) -> "pyarrow.Array":
    import pyarrow as pa

    kinds = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
    )
    if not any(kind(column.type) for kind in kinds):
        raise _no_strings(place, column.type)
    return column.cast(pa.large_binary())


def _no_strings(place: str, kind: "pyarrow.DataType") -> UserError:
    return UserError(
        f"{place}: expected a column of strings, found {kind}; set text_field to another column"
    )
