"""The default dataset: which docstrings become documents, and which of them are held out."""

import ast
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.sources.deduplication import Docstring, shingles, split_documents
from ramengpt.data.sources.docstrings import docstrings_in, documents_in, prose_share, source_files
from ramengpt.data.text.tokenizer import gpt2_encoding

SOURCE = b'''"""Module."""
if True:
    class A:
        """Class A.

            Indented.
        """
        def f(self):
            "single quotes are docstrings too"
            def inner():
                """Inner."""
        async def g(self): "async"
    """no docstring"""
else:
    def h(): """Else."""
try: pass
except Exception:
    def i(): """Handler."""
'''


def test_docstrings_of_nested_definitions():
    found = list(docstrings_in(SOURCE))
    walked = [
        ast.get_docstring(node)
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert sorted(found) == sorted(text.strip() for text in walked if text)
    assert "Class A.\n\nIndented." in found


def test_files_that_do_not_parse_hold_none():
    assert list(docstrings_in(b'def """')) == []
    assert list(docstrings_in(b'"""\0"""')) == []


def test_short_texts_and_tables_are_left_out(tmp_path):
    prose = "This function returns a value that is useful to those who call it. " * 4
    table = "| 1.00 | 2.00 | 3.00 |\n" * 20
    file = tmp_path / "m.py"
    file.write_text(f'"""Short."""\ndef a():\n    """{prose}"""\ndef b():\n    """{table}"""\n')
    documents = documents_in([file], 200)
    assert len(documents) == 1
    tokens = documents[0].tokens.tolist()
    assert tokens[0] == 50256
    assert gpt2_encoding().decode(tokens[1:]) == prose.strip()
    assert prose_share(table) < 0.5 < prose_share(prose)


def test_case_digits_and_punctuation_do_not_make_a_new_document(tmp_path):
    words = "The same words again and again, 10 times over. " * 8
    file = tmp_path / "m.py"
    other = words.upper().replace("10", "11").replace(",", ";")
    file.write_text(f'"""{words}"""\ndef a():\n    """{other}"""\n')
    first, second = documents_in([file], 100)
    assert first.key == second.key


def test_tests_are_not_read():
    paths = source_files(["filelock"])
    assert any(path.name == "argparse.py" for path in paths)
    assert any(path.parent.name == "filelock" for path in paths)
    assert not any("test" in path.parent.name or "test" in path.name for path in paths)


def document(words: list[int]) -> Docstring:
    return Docstring(b"", np.arange(len(words), dtype=np.uint16), np.array(words, dtype=np.uint32))


@settings(deadline=None, max_examples=50)
@given(words=st.lists(st.integers(0, 3), max_size=30))
def test_shingles_are_equal_where_the_words_are(words):
    hashes = shingles(np.array(words, dtype=np.uint32))
    runs = [tuple(words[start : start + 8]) for start in range(max(0, len(words) - 7))]
    assert len(hashes) == len(runs)
    for left, left_run in zip(hashes, runs, strict=True):
        for right, right_run in zip(hashes, runs, strict=True):
            assert (left == right) == (left_run == right_run)


def test_near_duplicates_of_training_documents_are_not_held_out():
    draw = random.Random(0)
    fresh = [[draw.randrange(2**32) for _ in range(50)] for _ in range(40)]
    copied = [[7, *words[1:]] for words in fresh[30:]]
    quoting = [words[:12] + other[12:] for words, other in zip(fresh[20:30], copied, strict=True)]
    order = [document(words) for words in [*fresh[:5], *copied[:3], *quoting[:2], *fresh[20:]]]
    val, train = split_documents(order, val_tokens=250, train_tokens=10**6)
    assert [held.words.tolist() for held in val] == fresh[:5]
    assert len(train) == 20


def test_caps_are_upper_limits_and_splits_share_nothing():
    draw = random.Random(1)
    order = [document([draw.randrange(2**32) for _ in range(30)]) for _ in range(50)]
    val, train = split_documents(order, val_tokens=100, train_tokens=333)
    assert sum(len(held.tokens) for held in val) == 90
    assert sum(len(trained.tokens) for trained in train) == 330
    assert not {id(held) for held in val} & {id(trained) for trained in train}
