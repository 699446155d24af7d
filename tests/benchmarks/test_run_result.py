"""Why a run has failed is found in its output; test_run_pool.py tests the rest of a record."""

from pathlib import Path

from benchmarks.run_result import error_line


def test_the_line_that_names_the_error_is_found(tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    output.write_text("step 1\nerror: step 7: the train loss is nan\n\n")
    assert error_line(output) == "error: step 7: the train loss is nan"
    output.write_text("Traceback:\ntorch.OutOfMemoryError: CUDA out of memory\n\nSet VERBOSE=1\n")
    assert error_line(output) == "torch.OutOfMemoryError: CUDA out of memory"
    output.write_text("Killed\n")
    assert error_line(output) == "Killed"
