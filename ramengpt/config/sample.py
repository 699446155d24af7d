"""The section `sample:` of params.yaml: prompts for a trained model, and how to sample."""

from pydantic import Field, field_validator

from ramengpt.config.base import NonNegative, Section, Seed, Text, Tokens


class SampleConfig(Section):
    """How text is drawn from a trained model.

    Attributes:
        prompts: texts to continue, one sample each.
        new_tokens: tokens to generate per prompt; a sample ends earlier if the model ends its
            document.
        temperature: divides the logits; 0 always takes the most likely token.
        top_k: sample from the k most likely tokens only; 0 allows all.
        seed: of the sampling; sample i uses seed + i.
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
