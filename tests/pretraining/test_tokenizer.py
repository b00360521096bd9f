"""The embedded base's tokenizer: one token per known word, and no prompt that it cannot take."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from pretraining.architecture import PROMPT_LENGTH
from pretraining.tokenizer import RARE_WORDS, encode_prompts, learn_tokenizer, save_tokenizer, vocabulary_of

CAPTIONS = [
    "a photo of a young woman with curly red hair in a striped t-shirt",
    "an old man with a grey beard and round glasses, at the beach",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """Saved and read again: what users get, not what was built."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(learn_tokenizer(CAPTIONS), folder)
    return CLIPTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("word", [*" ".join(CAPTIONS).replace(",", "").replace("-", " ").split(), *RARE_WORDS])
def test_known_words_are_single_tokens(tokenizer: CLIPTokenizer, word: str) -> None:
    assert tokenizer.tokenize(word) == [f"{word}</w>"]


@pytest.mark.parametrize("prompt", ["фото человека", "人物の写真", "zażółć gęślą jaźń", "a 🙂 at 3 o'clock", "«ß» …"])
def test_any_text_survives_a_round_trip(tokenizer: CLIPTokenizer, prompt: str) -> None:
    """A byte missing from the vocabulary would become the end token and cut the prompt short."""
    ids = tokenizer(prompt).input_ids
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == prompt.replace(" ", "").lower()


def test_prompts_are_framed_and_padded_as_in_sd15(tokenizer: CLIPTokenizer) -> None:
    vocabulary = vocabulary_of(tokenizer)
    short, long = encode_prompts(tokenizer, ["a photo", "photo " * 200])
    assert len(short) == len(long) == PROMPT_LENGTH == tokenizer.model_max_length
    assert short[0] == vocabulary.bos_token_id
    assert short[3:] == [vocabulary.eos_token_id] * (PROMPT_LENGTH - 3)
    assert long[-1] == vocabulary.eos_token_id == vocabulary.size - 1


def test_a_rare_word_in_a_caption_is_refused() -> None:
    """A name for a new subject must mean nothing before it is taught."""
    with pytest.raises(ValueError, match="sks"):
        learn_tokenizer([*CAPTIONS, "a photo of sks person"])
