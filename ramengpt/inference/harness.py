"""Trained weights in EleutherAI's lm-evaluation-harness: HellaSwag, LAMBADA, ARC, PIQA, BLiMP, ...

The harness, the optional extra `eval`, brings the tasks and their metrics, and downloads their
data. Here is what it asks of a model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window, make_table

from ramengpt.data.shards.format import BOS_TOKEN
from ramengpt.data.sources.hub_client import hub_transport
from ramengpt.data.text.tokenizer import gpt2_encoding
from ramengpt.errors import UserError
from ramengpt.inference.continuations import Continuation, score_continuations
from ramengpt.inference.decoding import Decoder
from ramengpt.model.gpt import GPT


class HarnessModel(TemplateLM):
    """A model as the harness sees it; an empty context is a document's start.

    Args:
        model: as it is to be evaluated.
    """

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    @property
    def eot_token_id(self) -> int:
        """The token that separates documents."""
        return BOS_TOKEN

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Tokenize; special tokens are never added, since every document gets its BOS later."""
        return gpt2_encoding().encode_ordinary(string)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        asked = [
            Continuation([] if context == [BOS_TOKEN] else context, continuation)
            for _, context, continuation in requests
        ]
        return [(x.log_likelihood, x.is_greedy) for x in score_continuations(self.model, asked)]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihood of whole texts, in windows of the model's context, each token once."""
        likelihoods = []
        for request in requests:
            windows = get_rolling_token_windows(
                self.tok_encode(request.args[0]), BOS_TOKEN, self.model.max_sequence_tokens, 1
            )
            asked = [
                Continuation(context[context[:1] == [BOS_TOKEN] :], predicted)
                for context, predicted in map(make_disjoint_window, windows)
            ]
            likelihoods.append(
                sum(x.log_likelihood for x in score_continuations(self.model, asked))
            )
        return likelihoods

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continue each context greedily, to one of its stop texts or the end of the context.

        Raises:
            UserError: a task asks for sampling.
        """
        return [self._generate(*request.args) for request in requests]

    def _generate(self, context: str, settings: dict[str, Any]) -> str:
        if settings.get("do_sample") and settings.get("temperature", 1.0) > 0:
            raise UserError("this task samples its answers; only greedy generation is supported")
        until = settings.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        longest = self.model.max_sequence_tokens
        new_tokens = min(int(settings.get("max_gen_toks", 256)), longest - 1)
        decoder, encoding = Decoder(self.model), gpt2_encoding()
        kept = self.tok_encode(context)[-(longest - new_tokens) :]
        logits_V = decoder.start([BOS_TOKEN, *kept[1 if len(kept) == longest else 0 :]])
        generated: list[int] = []
        text = ""
        while len(generated) < new_tokens:
            token = int(logits_V.argmax())
            if token == BOS_TOKEN:
                break
            generated.append(token)
            text = encoding.decode(generated)
            if any(stop in text for stop in stops) or decoder.full:
                break
            logits_V = decoder.step(token)
        return text[: min([text.find(stop) for stop in stops if stop in text], default=len(text))]


def evaluate_tasks(
    model: GPT, tasks: Sequence[str], limit: int | None, include_path: Path | None
) -> dict[str, Any]:
    """Run tasks of the harness, without examples in the prompt.

    Args:
        model: as it is to be evaluated.
        tasks: names that the harness knows.
        limit: only the first so many documents of each; None for all.
        include_path: folder with further tasks, in the harness's YAML.

    Returns:
        What the harness returns: `results` by task, `samples`, versions.

    Raises:
        UserError: the harness knows no such task, or the Hub does not give its data.
    """
    from datasets.exceptions import DatasetNotFoundError

    manager = TaskManager(include_path=str(include_path) if include_path else None)
    if unknown := [task for task in tasks if not manager.match_tasks([task])]:
        raise UserError(f"--tasks: the harness has no {', '.join(unknown)}; `lm_eval ls tasks`")
    try:
        found = simple_evaluate(
            HarnessModel(model), tasks=list(tasks), limit=limit, task_manager=manager
        )
    except (ConnectionError, DatasetNotFoundError, hub_transport().HTTPError) as error:
        raise UserError(
            f"--tasks: the Hub gave no data ({str(error).splitlines()[0]}); check the network and "
            "HF_ENDPOINT, or `hf auth login`, then run the same command again"
        ) from None
    assert found is not None
    return dict(found)


def table(results: dict[str, Any]) -> str:
    """The harness's own table of the results, in Markdown."""
    return str(make_table(results))
