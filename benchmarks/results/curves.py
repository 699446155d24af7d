"""The curves of a study's runs, in one small archive, to plot them later.

Unpacked anywhere, its folders are what `python -m ramengpt.comparison` reads.
"""

import io
import tarfile
from pathlib import Path

from benchmarks.run_pool import OUTPUT_FILE
from benchmarks.run_record import DONE, Entries, Entry
from ramengpt.comparison.runs import CONFIG, FILES, SCRATCH_RESULTS
from ramengpt.files import write_bytes

ARCHIVE = "curves.tar.xz"
COMPARED = (CONFIG, *(f"{SCRATCH_RESULTS}/{file}" for file in FILES))


def write_curves(folder: Path, entries: Entries) -> Path:
    """Pack the curves of all finished runs, and the output of failed ones.

    Args:
        folder: parent of the runs' folders; the archive goes there.
        entries: of the runs.

    Returns:
        The archive.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, entry in entries.items():
            for file in kept_files(entry):
                path = folder / name / file
                if path.exists():
                    archive.add(path, f"{name}/{file}")
    write_bytes(folder / ARCHIVE, packed.getvalue())
    return folder / ARCHIVE


def kept_files(entry: Entry) -> tuple[str, ...]:
    """Files of a run to archive: only timed runs are plotted, so only they keep train.tsv."""
    if entry["status"] != DONE:
        return (OUTPUT_FILE,)
    return tuple(file for file in COMPARED if entry["alone"] or not file.endswith("train.tsv"))
