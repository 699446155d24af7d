"""The section `sample:` of params.yaml: the text that a trained model is asked to continue."""

from pydantic import Field, field_validator

from ramengpt.config.base import NonNegative, Section, Seed, Text, Tokens


class SampleConfig(Section):
    """How text is drawn from a trained model.

    Attributes:
        prompts: texts to continue, one sample each.
        new_tokens: tokens to draw after each prompt; a sample ends earlier where the model
            ends its document.
        temperature: divides the logits; 0 always takes the likeliest token.
        top_k: only the k likeliest tokens can be drawn; 0 allows all.
        seed: of the draws; sample i uses seed + i.
    """

    prompts: list[Text] = Field(min_length=1, max_length=1000)
    new_tokens: Tokens
    temperature: NonNegative
    top_k: int = Field(ge=0, le=2**16)
    seed: Seed

    @field_validator("prompts")
    @classmethod
    def _no_empty_prompt(cls, prompts: list[str]) -> list[str]:
        if any(not prompt.strip() for prompt in prompts):
            raise ValueError("sample.prompts: an empty prompt; give each at least one word")
        return prompts
