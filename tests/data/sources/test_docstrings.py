"""The default dataset: which docstrings become documents, and which of them are held out."""

import ast

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
