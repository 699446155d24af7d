""".txt and .jsonl files as records: parts, separators, and the same tokens in any case."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ramengpt.data.text import readers
from ramengpt.data.text.input_file import InputFile
from ramengpt.data.text.readers import JsonLinesFile, TextFile
from ramengpt.data.text.token_stream import encode_batch
from ramengpt.data.text.tokenizer import gpt2_encoding
from ramengpt.errors import UserError


def write(folder, content: bytes, name: str = "a.txt"):
    (folder / name).write_bytes(content)
    return InputFile.at(folder / name)


def tokens_of(source) -> list[int]:
    parts = [encode_batch(0, batch).tokens for batch in source.batches(0)]
    return np.concatenate(parts).tolist()


def reference(documents: list[str]) -> list[int]:
    encode = gpt2_encoding().encode_ordinary
    return [token for text in documents for token in [50256, *encode(text)]]


def records_of(source, first: int = 0) -> list[tuple[bytes | None, bool]]:
    """Every record, and whether it continues the one before."""
    found = []
    for batch in source.batches(first):
        assert batch.first == first + len(found)
        found += [(record, batch.continues and not n) for n, record in enumerate(batch.records)]
    return found


@pytest.mark.parametrize(
    "unit",
    ["Слово за слово, ", "字は長い。", "word ", "x" * 70 + "\n", "  \n", "é" * 3000 + " "],
    ids=["cyrillic", "japanese", "english", "lines", "blanks", "words longer than a part"],
)
def test_a_long_file_has_the_tokens_of_the_whole(tmp_path, monkeypatch, unit):
    monkeypatch.setattr(readers, "PART_BYTES", 1000)
    text = unit * (20_000 // len(unit)) + "end"
    source = TextFile(write(tmp_path, text.encode()), "")
    assert tokens_of(source) == reference([text])
    if unit != "  \n":
        assert len(records_of(source)) > 3


def test_several_megabytes_of_cyrillic(tmp_path):
    text = "Всё смешалось в доме Облонских; жена узнала, что муж был в связи. " * 50_000
    source = TextFile(write(tmp_path, text.encode("utf-16")), "")
    assert len(text.encode()) > 5_000_000
    assert tokens_of(source) == reference([text])


def split_reference(text: str, separator: str) -> list[str]:
    """Separate line by line, the slow and obvious way."""
    if separator == readers.ANYWHERE:
        documents = re.split(re.escape(separator) + r"(?:\r?\n)?", text)
    else:
        documents = [""]
        for line in re.findall(r"[^\n]*\n|[^\n]+\Z", text):
            if line.removesuffix("\n").removesuffix("\r") == separator:
                documents.append("")
            else:
                documents[-1] += line
    return [document for document in documents if document.strip()]


@settings(deadline=None, max_examples=400)
@given(
    pieces=st.lists(
        st.sampled_from(
            ["---", "<|endoftext|>", "\n", "\r\n", "word", " ", "ж, ", "<|endof", "--"]
        ),
        max_size=30,
    ),
    separator=st.sampled_from(["---", "<|endoftext|>", "жж"]),
    part=st.integers(12, 60),
    first=st.integers(0, 4),
)
@example(pieces=["word", " ", "---", "\n"] * 8, separator="---", part=12, first=1)
def test_documents_between_separators(tmp_path_factory, pieces, separator, part, first):
    text = "".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "PART_BYTES", part)
        source = TextFile(write(tmp_path_factory.mktemp("text"), text.encode()), separator)
        assert tokens_of(source) == reference(split_reference(text, separator))
        assert records_of(source, first) == records_of(source)[first:]


def test_without_a_separator_nothing_is_one(tmp_path):
    text = "one\n---\n<|endoftext|>\n\ntwo\r\n"
    assert tokens_of(TextFile(write(tmp_path, text.encode()), "")) == reference([text])
    assert tokens_of(TextFile(write(tmp_path, b""), "")) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_text_and_lines_in_other_encodings(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    texts = ["first: é", "second: 字"]
    lines = "".join(f'{{"text": "{text}"}}\n' for text in texts)
    jsonl = JsonLinesFile(write(tmp_path, (mark + lines).encode(encoding), "a.jsonl"), "text")
    assert tokens_of(jsonl) == reference(texts)
    text = TextFile(write(tmp_path, (mark + texts[0]).encode(encoding)), "")
    assert tokens_of(text) == reference(texts[:1])


def test_binary_files_are_refused(tmp_path):
    for content in (b"MZ\0\1", "utf-16 without a mark".encode("utf-16-le")):
        with pytest.raises(UserError, match=r"a\.txt: holds NUL bytes.*byte-order mark"):
            records_of(TextFile(write(tmp_path, content), ""))


def test_a_text_without_words_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "PART_BYTES", 1000)
    monkeypatch.setattr(readers, "LINE_BYTES", 5000)
    source = TextFile(write(tmp_path, b"x" * 20_000), "")
    with pytest.raises(UserError, match=r"5000 bytes without the end of a word"):
        records_of(source)
    lines = JsonLinesFile(write(tmp_path, b"\n" + b"x" * 20_000, "a.jsonl"), "text")
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: expected at most 5000 bytes"):
        records_of(lines)


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=300), name=st.sampled_from(["a.txt", "a.jsonl", "a.jsonl.zst"]))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, content, name):
    file = write(tmp_path_factory.mktemp("any"), content, name)
    source = TextFile(file, "") if name == "a.txt" else JsonLinesFile(file, "text")
    try:
        tokens_of(source)
    except UserError as error:
        assert str(file.path) in str(error)
        assert len(str(error).splitlines()) == 1
    except ValueError as error:
        assert "at least one array" in str(error)  # there was no batch
