"""Parquet: every type of string, rows from anywhere, damage, and bounded memory."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.data.text import parquet
from ramengpt.data.text.input_file import InputFile
from ramengpt.data.text.parquet import ParquetFile
from ramengpt.errors import UserError

TEXTS = [b"one", None, b"", "zwölf 字".encode(), b"one", b"six"] * 4
TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
]


def rows_of(path: Path, first: int = 0, field: str = "text") -> list[bytes | None]:
    rows = []
    for batch in ParquetFile(InputFile.at(path), field).batches(first):
        assert batch.first == first + len(rows)
        rows += batch.records
    return rows


def write(path: Path, column: pa.Array, **options) -> Path:
    table = pa.table({"id": range(len(column)), "text": column})
    pq.write_table(table, path, **{"row_group_size": 7, **options})
    return path


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", ""])
def test_every_type_of_string_in_every_encoding(tmp_path, kind, encoding):
    column = pa.array(TEXTS, pa.binary()).cast(kind)
    options = {"use_dictionary": False, "column_encoding": {"text": encoding}} if encoding else {}
    path = write(tmp_path / "a.parquet", column, **options)
    for first in (0, 1, 6, 7, 20, 24):
        assert rows_of(path, first) == TEXTS[first:]


@pytest.mark.parametrize("index", [pa.int8(), pa.int32(), pa.uint16()], ids=str)
@pytest.mark.parametrize("stored", [True, False], ids=["with Arrow's schema", "without"])
def test_dictionaries(tmp_path, index, stored):
    column = pa.array([text and text.decode() for text in TEXTS]).dictionary_encode()
    column = column.cast(pa.dictionary(index, pa.large_string()))
    path = write(tmp_path / "a.parquet", column, store_schema=stored)
    assert rows_of(path, 3) == TEXTS[3:]


def test_a_column_of_nulls_alone(tmp_path):
    assert rows_of(write(tmp_path / "a.parquet", pa.nulls(9)), 2) == [None] * 7
    assert rows_of(write(tmp_path / "b.parquet", pa.nulls(0))) == []


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2]),
        pa.array([["x"], []]),
        pa.array([{"text": "x"}, {"text": "y"}]),
        pa.array([1, 2]).dictionary_encode(),
    ],
    ids=["int", "list", "struct", "dictionary of int"],
)
def test_other_types_are_named(tmp_path, column):
    path = write(tmp_path / "a.parquet", column)
    with pytest.raises(UserError, match=r"a\.parquet: expected a column of strings, found"):
        rows_of(path)
    with pytest.raises(UserError, match=r"no column 'body'; set text_field to one of id, text"):
        rows_of(path, field="body")


def test_batches_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_BYTES", 3000)
    column = pa.array([f"{number} " * 300 for number in range(40)])
    path = write(tmp_path / "a.parquet", column)
    assert rows_of(path, 3) == [text.encode() for text in column.to_pylist()][3:]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_damage_names_the_file(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "a.parquet"
    column = pa.array([f"text number {number} of some length" for number in range(200)])
    write(path, column, write_page_checksum=True, row_group_size=100, compression="snappy")
    content = path.read_bytes()
    pages_end = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    place = data.draw(st.integers(4, pages_end))
    damaged = bytearray(content)
    damaged[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path.write_bytes(damaged)
    try:
        assert rows_of(path) == [text.encode() for text in column.to_pylist()]
    except UserError as error:
        assert f"{path}: damaged or cut short" in str(error)
        assert "\n" not in str(error)


def test_a_damaged_footer_is_one_printable_line(tmp_path):
    path = write(tmp_path / "a.parquet", pa.array([f"text {number}" for number in range(99)]))
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for place in range(footer, footer + 120):
        for byte in (b"\0", b"\x1b", b"\xff"):
            path.write_bytes(content[:place] + byte + content[place + 1 :])
            try:
                rows_of(path)
            except UserError as error:
                assert str(error).isprintable()


def test_a_file_that_is_cut_short(tmp_path):
    path = write(tmp_path / "a.parquet", pa.array(["x"] * 9))
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(UserError, match=r"a\.parquet: damaged or cut short"):
            rows_of(path)


@pytest.mark.parametrize("encoding", ["", "DELTA_BYTE_ARRAY"], ids=["dictionary", "differences"])
def test_memory_is_bounded_by_what_is_stored(tmp_path, encoding):
    """Two gigabytes of text in a small file, read by a process that may take one at most."""
    text = pa.array(["x" * 2**20])
    if encoding:
        column = pa.concat_arrays([text] * 64)
        write(
            tmp_path / "a.parquet",
            column,
            use_dictionary=False,
            column_encoding={"text": encoding},
            row_group_size=64,
        )
        rows = 64
    else:
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), text)
        write(tmp_path / "a.parquet", column, row_group_size=2000, store_schema=False)
        rows = 2000
    code = f"""
        import resource
        from pathlib import Path
        from ramengpt.data.text.input_file import InputFile
        from ramengpt.data.text.parquet import ParquetFile
        import pyarrow.parquet
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        file = InputFile.at(Path({str(tmp_path / "a.parquet")!r}))
        print(sum(len(batch.records) for batch in ParquetFile(file, "text").batches(0)))
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    read, megabytes = map(int, done.stdout.split())
    assert read == rows
    assert megabytes < 200
