"""Raw text on the Hub, streamed by `datasets`: one source for each file of the repository.

Nothing but the text's column is fetched, and nothing is kept on disk. A local folder laid out like
the repository works the same way.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ramengpt.config.dataset import HubTextConfig
from ramengpt.data.sources.hub_client import OFFLINE_ADVICE
from ramengpt.data.text.parquet import text_column
from ramengpt.data.text.readers import RecordBatch, grouped
from ramengpt.errors import UserError

if TYPE_CHECKING:
    from datasets import IterableDataset

ROWS = 16
"""Decoded at once: text that repeats can decode to far more than it takes in the file."""


@dataclass(frozen=True)
class HubTextSource:
    """One file of a repository.

    Attributes:
        repository: `owner/name` on the Hub, or a local folder.
        subset: the configuration that the repository's card names.
        revision: commit, so that all files are of one version.
        field: the column with the text.
        number: of the file, in the repository's order.
        total: files in the subset.
    """

    repository: str
    subset: str
    revision: str
    field: str
    number: int
    total: int

    @property
    def name(self) -> str:
        """Repository, subset and number of the file."""
        return f"{self.repository} ({self.subset}), file {self.number + 1} of {self.total}"

    def batches(self, first_record: int) -> Iterator[RecordBatch]:
        """Rows as UTF-8; UserError when the Hub cannot be read any further."""
        with _one_line_errors(self.repository):
            data = _stream(self.repository, self.subset, self.revision, self.field)
            part = data.shard(self.total, self.number)
            if first_record:
                part = part.skip(first_record)
            rows = (
                text_column(table.column(self.field).combine_chunks(), self.name)
                for table in part.with_format("arrow").iter(ROWS)
            )
            for first, records in grouped(rows, first_record):
                yield RecordBatch(records, "text", self.field, self.name, first)


@contextmanager
def _one_line_errors(repository: str) -> Iterator[None]:
    """Turn what `datasets` raises for a missing repository or network into one line."""
    try:
        yield
    except (UserError, AssertionError, TypeError, AttributeError, ImportError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "Config" in reason and "'columns'" in reason:
            raise UserError(
                f"{repository}: its files are not Parquet, which is all that is read from the Hub; "
                "download them and use dataset=text"
            ) from None
        raise UserError(
            f"{repository}: {reason[:300]}; finished shards are kept; {OFFLINE_ADVICE}"
        ) from error


@functools.cache
def _stream(repository: str, subset: str, revision: str, field: str) -> "IterableDataset":
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(
        repository,
        name=subset,
        split="train",
        streaming=True,
        revision=None if Path(repository).is_dir() else revision,
        columns=[field],
        batch_size=ROWS,
    )


def open_hub_text(config: HubTextConfig, commit: str) -> list[HubTextSource]:
    """List a subset's files as sources.

    Args:
        config: repository, subset and column.
        commit: what `config.revision` was when the first shard was made.

    Raises:
        UserError: no such repository, subset or column, or no network.
    """
    with _one_line_errors(config.repository):
        data = _stream(config.repository, config.subset, commit, config.text_field)
    columns = data.column_names or [config.text_field]
    if config.text_field not in columns:
        raise UserError(
            f"{config.repository}: no column {config.text_field!r}; set text_field to one of "
            f"{', '.join(columns)}"
        )
    total = data.num_shards
    return [
        HubTextSource(config.repository, config.subset, commit, config.text_field, number, total)
        for number in range(total)
    ]
