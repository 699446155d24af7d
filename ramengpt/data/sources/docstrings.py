"""English prose that is on every user's disk: the docstrings of Python and its packages.

Every docstring of a module, class or function that is long enough and mostly words is a document.
Documents with the same words are kept once. The order is that of a hash of the words, so it is the
same on every machine with the same packages, and which documents are held out has nothing to do
with where they come from.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import itertools
import platform
import re
import sysconfig
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ramengpt.config.dataset import DocstringsConfig
from ramengpt.data.shards.format import ShardWriter, shard_filename
from ramengpt.data.shards.manifest import DownloadedShard
from ramengpt.data.shards.provenance import Provenance, code_digest
from ramengpt.data.sources import deduplication
from ramengpt.data.sources.deduplication import Document, split_documents
from ramengpt.data.text import tokenizer
from ramengpt.data.text.tokenizer import encode_document
from ramengpt.data.text.workers import worker_pool
from ramengpt.errors import UserError
from ramengpt.progress import say

PROSE_SHARE = 0.80  # of a docstring's characters that are letters or blanks
FILES_PER_TASK = 64
CODE = tuple(  # decides which tokens there are, and which are held out
    Path(str(file)) for file in (__file__, deduplication.__file__, tokenizer.__file__)
)
_WORD = re.compile(r"[a-z]+")


def build_docstrings(
    config: DocstringsConfig, folder: Path, processes: int, redo: Sequence[str] | None
) -> tuple[DownloadedShard, ...]:
    """Make the dataset's shards, unless those in the store are what they would be.

    Args:
        config: caps and packages.
        folder: the dataset's store.
        processes: how many read and tokenise.
        redo: None, or anything else to rebuild the shards whatever is there.

    Returns:
        The shards in the order of training, validation first.

    Raises:
        UserError: too little text for the caps.
    """
    provenance = Provenance(folder, _source(config))
    files = list(provenance.origins)
    finished = any(origin.last for origin in provenance.origins.values())
    if redo is None and finished and all(provenance.intact(file) for file in files):
        say(f"docstrings: {len(files)} shards are up to date in {folder}")
    else:
        documents = read_docstrings(config, processes)
        val, train = split_documents(documents, config.val_tokens, config.train_tokens)
        _write_shards(config, provenance, val, train)
    in_order = sorted(provenance.origins, key=lambda file: file.rsplit("_", 1)[1])
    return tuple(provenance.shard(file) for file in in_order)


def _source(config: DocstringsConfig) -> dict[str, Any]:
    """What determines the shards: the caps, the packages as installed, and the code."""
    return {
        **config.model_dump(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in config.packages},
        "code": code_digest(CODE),
    }


def _version(package: str) -> str:
    if importlib.util.find_spec(package) is None:
        return "not installed"
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def source_files(packages: list[str]) -> list[Path]:
    """List the Python files to read, tests left out; a package that is missing is announced."""
    roots = [Path(sysconfig.get_paths()["stdlib"])]
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            say(f"docstrings: package {package} is not installed, its docstrings are left out")
        else:
            roots.append(Path(spec.origin).parent)
    return [path for root in roots for path in _python_files(root)]


def _python_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not any("test" in part or part == "site-packages" for part in parts):
            yield path


def read_docstrings(config: DocstringsConfig, processes: int) -> list[Document]:
    """Read, filter and tokenise all docstrings.

    Returns:
        Distinct documents, sorted by their keys.
    """
    files = source_files(config.packages)
    tasks = [
        files[start : start + FILES_PER_TASK] for start in range(0, len(files), FILES_PER_TASK)
    ]
    with worker_pool(processes) as pool:
        found = pool.map(documents_in, tasks, itertools.repeat(config.minimum_characters))
        distinct = {document.key: document for part in found for document in part}
    return [distinct[key] for key in sorted(distinct)]


def documents_in(files: list[Path], minimum_characters: int) -> list[Document]:
    """Turn the docstrings of some Python files into documents, duplicates included."""
    return [
        _document(text)
        for path in files
        for text in docstrings_in(path.read_bytes())
        if len(text) >= minimum_characters and prose_share(text) >= PROSE_SHARE
    ]


def docstrings_in(source: bytes) -> Iterator[str]:
    """Yield the docstrings of a Python file, dedented and stripped; none if it does not parse."""
    if b'"""' not in source and b"'''" not in source:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            pending: list[ast.AST] = [ast.parse(source)]
        except (SyntaxError, ValueError):
            return
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = (ast.get_docstring(node) or "").strip()
            if text:
                yield text
        pending.extend(reversed(list(_blocks(node))))


def _blocks(node: ast.AST) -> Iterator[ast.AST]:
    """The statements nested in a node; expressions hold no docstrings."""
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        statements = getattr(node, name, ())
        if isinstance(statements, list):
            yield from statements


def prose_share(text: str) -> float:
    """Share of the characters that are letters or blanks."""
    return sum(character.isalpha() or character.isspace() for character in text) / len(text)


def _document(text: str) -> Document:
    words = _WORD.findall(text.lower())
    key = hashlib.sha256(" ".join(words).encode()).digest()
    hashes = np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint32)
    return Document(key, encode_document(text.encode("utf-8", "replace").decode()), hashes)


def _write_shards(
    config: DocstringsConfig, provenance: Provenance, val: list[Document], train: list[Document]
) -> None:
    for split, documents in (("val", val), ("train", train)):
        if not documents:
            raise UserError(
                f"datasets.docstrings: no document is left for the {split} split; "
                f"raise {split}_tokens or name more installed packages"
            )
    provenance.forget(list(provenance.origins))
    val_stream = np.concatenate([document.tokens for document in val])
    stream = np.concatenate([document.tokens for document in train])
    shards = [("val", val_stream)]
    for start in range(0, len(stream), config.shard_tokens):
        shards.append(("train", stream[start : start + config.shard_tokens]))
    for number, (split, tokens) in enumerate(shards):
        file = shard_filename(config.name, "val" if split == "val" else "train", number)
        provenance.claim(file)
        with ShardWriter(provenance.folder / file) as writer:
            writer.write(tokens)
        provenance.record(file, last=number == len(shards) - 1)
    say(
        f"docstrings: {len(train)} documents, {len(stream)} tokens for training; "
        f"{len(val)} documents, {len(val_stream)} tokens held out; in {provenance.folder}"
    )
