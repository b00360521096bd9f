"""Weights in prompts, and prompts of any length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from portrayal.errors import UsageError
from portrayal.generation.prompts import MORE, Fragment, PromptEmbeds, fragments_of


@pytest.mark.parametrize(
    ("prompt", "meant"),
    [
        ("a cat", [("a cat", 1)]),
        ("", [("", 1)]),
        ("a (cat)", [("a ", 1), ("cat", MORE)]),
        ("a ((cat))", [("a ", 1), ("cat", MORE**2)]),
        ("a (black:1.5) cat", [("a ", 1), ("black", 1.5), (" cat", 1)]),
        ("a (black: .5 ) cat", [("a ", 1), ("black", 0.5), (" cat", 1)]),
        ("[dull] cat", [("dull", 1 / MORE), (" cat", 1)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1.0), (" c", 0.5)]),
        (r"a \(real\) cat", [("a (real) cat", 1)]),
        (r"C:\ drive", [(r"C:\ drive", 1)]),
        ("16:9", [("16:9", 1)]),
        ("photo: a cat) and :1.2)", [("photo: a cat) and :1.2)", 1)]),
        ("a (cat", [("a ", 1), ("cat", MORE)]),
        ("(a)(b:1.1)", [("ab", MORE)]),
    ],
)
def test_what_is_written_and_what_is_meant(prompt: str, meant: list[tuple[str, float]]) -> None:
    found = fragments_of(prompt)

    assert [fragment.text for fragment in found] == [text for text, _ in meant]
    assert [fragment.weight for fragment in found] == pytest.approx([weight for _, weight in meant])


@pytest.mark.parametrize("prompt", ["(a:-1)", "(a:11)", "a <lora:ann:0.8>"])
def test_what_cannot_be_meant_is_said(prompt: str) -> None:
    with pytest.raises(UsageError) as caught:
        fragments_of(prompt)
    assert caught.value.remedy


@given(st.text(alphabet=r"ab:1.5()[]\ ,", max_size=30))
def test_no_brackets_break_the_reader(prompt: str) -> None:
    try:
        found = fragments_of(prompt)
    except UsageError:
        return
    assert found
    assert all(isinstance(fragment, Fragment) for fragment in found)


@given(st.lists(st.sampled_from(["cat", "red dog", "in the kitchen"]), min_size=1, max_size=4))
def test_plain_words_stay_as_they_are(words: list[str]) -> None:
    prompt = ", ".join(words)
    assert fragments_of(prompt) == [Fragment(prompt, 1.0)]


PROMPT = "a photo of a woman in the kitchen"


def test_a_plain_prompt_is_the_text_encoder_s_own(pocket) -> None:
    assert torch.equal(PromptEmbeds(pocket).of(PROMPT), pocket.encode_prompts([PROMPT])[0])


def test_compel_agrees_with_the_text_encoder_where_nothing_is_weighed(pocket) -> None:
    embeds = PromptEmbeds(pocket)
    with torch.inference_mode():
        found = embeds._weighing().get_embeddings_for_weighted_prompt_fragments([[PROMPT]], [[1.0]], device="cpu")[0]

    assert torch.allclose(found, pocket.encode_prompts([PROMPT])[0], atol=1e-5)


def test_weights_move_what_a_word_adds(pocket) -> None:
    embeds, plain = PromptEmbeds(pocket), pocket.encode_prompts([PROMPT])[0]

    little, much = (
        (embeds.of(f"a photo of a woman in the (kitchen:{weight})") - plain).norm() for weight in (1.1, 1.6)
    )

    assert 0 < little < much


def test_long_prompts_are_read_in_parts_and_short_ones_stretched(pocket) -> None:
    embeds, limit = PromptEmbeds(pocket), pocket.tokenizer.model_max_length
    long = ", ".join([PROMPT] * 12)

    found = embeds.of(long)

    assert len(found) == 2 * limit
    stretched = embeds.stretched(PROMPT, 2 * limit)
    assert torch.equal(stretched[:limit], embeds.of(PROMPT))
    assert torch.equal(stretched[limit:], embeds.of(""))
