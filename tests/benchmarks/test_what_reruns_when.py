"""docs/what_reruns_when.md matches what the project does; its extremes are stated here too."""

import re

from benchmarks.what_reruns_when import PAGE, table


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == table(), "run `python -m benchmarks.what_reruns_when`"


def test_what_was_promised_is_in_it() -> None:
    lines = re.findall(r"^\| (.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    of = {name: stages for names, stages in lines for name in re.findall(r"`([^`]+)`", names)}
    alone = "none but `check`"
    for name in ("train.checkpoint_every_steps", "tracking.*", "optimizers.bam.*", "download.*"):
        assert of[name] == alone
    for file in ("ramengpt/optimizers/bam.py", "ramengpt/training/tracking/live_view.py"):
        assert of[file] == alone
    assert of["optimizers.normuon.*"] == of["seed"] == "train"
    assert of["ramengpt/optimizers/normuon.py"] == "train"
    assert of["ramengpt/inference/decoding.py"] == of["sample.*"] == "sample"
    assert of["data/text"] == of["datasets.docstrings.*"] == "download"
