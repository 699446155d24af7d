"""Where tokens come from: one class for each kind of dataset, and how the download stage works."""

from typing import Annotated, Literal

from pydantic import Field

from ramengpt.config.base import CorpusTokens, Count, FilePath, Name, Seconds, Section

ShardPrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,99}$")]
"""First part of every shard's file name; an underscore would hide where it ends."""

RepositoryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")]
"""`owner/name` of a dataset on the Hugging Face Hub."""

LocalFolder = Annotated[str, Field(max_length=4096, pattern=r"^(/|\./|\.\./|~/)[^\x00]+$")]
"""A folder laid out like a repository, written so that it cannot be taken for one."""

ShardTokens = Annotated[int, Field(ge=2, le=2**31 - 1)]
"""Tokens in one shard; its header stores their number as an int32."""


class DocstringsConfig(Section):
    """English prose that is already on disk: docstrings of Python and its packages.

    `packages` are import names; the standard library is always read. Documents shorter than
    `minimum_characters` are left out. Both token counts are upper limits.
    """

    kind: Literal["docstrings"]
    name: ShardPrefix
    packages: list[Name] = Field(max_length=1000)
    minimum_characters: int = Field(ge=1, le=10**6)
    val_tokens: ShardTokens
    train_tokens: CorpusTokens
    shard_tokens: ShardTokens


class TextConfig(Section):
    """The user's own .txt, .jsonl (plain, .gz, .xz, .zst) and .parquet files.

    `paths` are files or globs, relative to the project; `text_field` is the key or column that
    holds the text. A .txt file is one document, unless `document_separator` is set: a line that
    holds just this ends a document; `<|endoftext|>` does so within a line too. The first
    `val_tokens` are the validation split, at most half of the text; the rest is for training.
    """

    kind: Literal["text"]
    name: ShardPrefix
    paths: list[FilePath] = Field(min_length=1, max_length=1000)
    text_field: Name
    document_separator: str = Field(max_length=1000, pattern=r"^[^\r\n\x00]*$")
    val_tokens: ShardTokens
    shard_tokens: ShardTokens


class HubShardsConfig(Section):
    """Finished token shards on the Hub: validation shard 0 and the first `train_shards` others."""

    kind: Literal["hub_shards"]
    name: ShardPrefix
    repository: RepositoryName
    revision: Name
    train_shards: int = Field(ge=1, le=999_999)


class HubTextConfig(Section):
    """Raw text on the Hub, streamed by `datasets` and tokenised here.

    `subset` is the configuration that the repository's card names. `repository` may also be a
    local folder laid out like the repository.
    """

    kind: Literal["hub_text"]
    name: ShardPrefix
    repository: RepositoryName | LocalFolder
    subset: Name
    revision: Name
    text_field: Name
    val_tokens: ShardTokens
    shard_tokens: ShardTokens
    train_shards: int = Field(ge=1, le=999_999)


DatasetConfig = Annotated[
    DocstringsConfig | TextConfig | HubShardsConfig | HubTextConfig,
    Field(discriminator="kind"),
]
"""One entry of `datasets`; `kind` says which class."""


class DownloadConfig(Section):
    """How the download stage works; nothing here changes what it produces.

    `connections` shards are fetched at once; `processes` tokenise (0: one for each core); a request
    is tried `attempts` times, waiting `backoff_seconds`, then twice that, and so on; `engine` is
    where raw text is tokenised: this machine, or a Ray cluster.
    """

    connections: int = Field(ge=1, le=64)
    processes: int = Field(ge=0, le=1024)
    attempts: Count
    backoff_seconds: Annotated[float, Field(ge=0, le=3600)]
    timeout_seconds: Seconds
    engine: Literal["local", "ray"]


class ReadingConfig(Section):
    """How training reads the documents of one dataset; an entry of `reading`.

    Separate from `datasets`, which decides what is downloaded.

    `order` is that of the shards, or shuffled in every epoch by `seed`: the shards, and the
    documents within each. What a document has beyond the longest sequence is dropped, or split into
    further pieces.
    """

    order: Literal["sequential", "shuffled"]
    long_documents: Literal["dropped", "split"]
