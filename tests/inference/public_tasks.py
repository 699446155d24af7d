"""Tiny data sets in the schemas of the Hub's own, as the harness's public tasks read them."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HELLASWAG = [
    {
        "ind": 4, "activity_label": "Roof shingle removal",
        "ctx_a": "A man is sitting on a roof.", "ctx_b": "he",
        "ctx": "A man is sitting on a roof. he",
        "endings": [
            "is using wrap to wrap a pair of skis.", "is ripping level tiles off.",
            "holds a rubik's cube.", "starts pulling up roofing.",
        ],
        "source_id": "activitynet~v_-JhWjGDPHMY", "split": "val", "split_type": "indomain",
        "label": "3",
    },
    {
        "ind": 24, "activity_label": "Home and Garden",
        "ctx_a": "", "ctx_b": "",
        "ctx": "",
        "endings": [
            "[title] Water it. [step] Every day.", "[title] Leave it  alone.",
            "Sell it.", "Burn it all the way down.",
        ],
        "source_id": "wikihow~24", "split": "val", "split_type": "zeroshot", "label": "1",
    },
]  # fmt: skip
LAMBADA = [
    {"text": "He took the lamp, lit it, and walked into the dark with the lamp"},
    {"text": "She asked him twice before he answered her that his name was Gabriel"},
    {"text": "they were out of milk, so he went to the shop and bought some milk"},
]
ARC = [
    {
        "id": "MCAS_1", "question": "Which object is best seen by a telescope?",
        "choices": {"text": ["a cell", "a planet", "an atom"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    },
    {
        "id": "NYSED_2", "question": "What melts ice?",
        "choices": {"text": ["cold", "darkness", "heat", "a stone"], "label": ["1", "2", "3", "4"]},
        "answerKey": "3",
    },
]  # fmt: skip
PIQA = [
    {"goal": "Open a jar.", "sol1": "Twist the lid.", "sol2": "Twist the glass.", "label": 0},
    {"goal": "To dry paint", "sol1": "wet it again.", "sol2": "let air reach it.", "label": 1},
    {"goal": "How do I keep bread soft?", "sol1": "Toast it.", "sol2": "Wrap it.", "label": 1},
]
BLIMP = [
    {
        "sentence_good": "Who should Derek hug after shocking Richard?",
        "sentence_bad": "Who should Derek hug Richard after shocking?",
        "field": "syntax", "linguistics_term": "island_effects", "UID": "adjunct_island",
        "simple_LM_method": True, "one_prefix_method": False, "two_prefix_method": False,
        "lexically_identical": True, "pair_id": 0,
    },
    {
        "sentence_good": "What had Theresa walked through while talking about that high school?",
        "sentence_bad": "What had Theresa walked through that high school while talking about?",
        "field": "syntax", "linguistics_term": "island_effects", "UID": "adjunct_island",
        "simple_LM_method": True, "one_prefix_method": False, "two_prefix_method": False,
        "lexically_identical": True, "pair_id": 1,
    },
]  # fmt: skip


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """A file with these rows."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def repository(splits: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, bytes]:
    """Files of a data set: configuration to split to rows, and the card that lists them."""
    card = ["---", "configs:"]
    files = {}
    for configuration, of_splits in splits.items():
        card += [f"- config_name: {configuration}", "  data_files:"]
        for split, rows in of_splits.items():
            card += [f"  - split: {split}", f"    path: {configuration}/{split}-*"]
            files[f"{configuration}/{split}-00000-of-00001.parquet"] = parquet(rows)
    return files | {"README.md": "\n".join([*card, "---", ""]).encode()}


def public_repositories(blimp: list[str]) -> dict[str, dict[str, bytes]]:
    """What the Hub has for HellaSwag, LAMBADA, ARC-easy, PIQA, and these parts of BLiMP."""
    both = {"train": HELLASWAG, "validation": HELLASWAG}
    arc = {"train": ARC, "validation": ARC, "test": ARC}
    return {
        "Rowan/hellaswag": repository({"default": both}),
        "EleutherAI/lambada_openai": repository({"default": {"test": LAMBADA}}),
        "allenai/ai2_arc": repository({"ARC-Easy": arc}),
        "baber/piqa": repository({"default": {"train": PIQA, "validation": PIQA}}),
        "nyu-mll/blimp": repository({name: {"train": BLIMP} for name in blimp}),
    }
