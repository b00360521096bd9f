"""CLIP's byte-level BPE tokenizer, learned on the captions of the drawn world.

Every caption word becomes one token, and so do a few rare words that no caption holds (`sks`): names for a new
subject. All 256 bytes stand in the vocabulary, inside a word and at its end, so any prompt can be encoded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from pretraining.architecture import PROMPT_LENGTH, Vocabulary

RARE_WORDS = ("sks", "ohwx", "zwx", "shs", "bnha")
USEFUL_WORDS = (
    "a",
    "an",
    "the",
    "photo",
    "picture",
    "portrait",
    "of",
    "person",
    "man",
    "woman",
    "in",
    "on",
    "at",
    "with",
)
START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
MAX_VOCABULARY = 1280


def learn_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """Learn merges until every word of ``captions`` is a single token.

    Raises:
        ValueError: If a rare word occurs in a caption, where it would gain a meaning.
    """
    counts = Counter(word for caption in captions for word in _words(caption))
    taken = sorted(set(RARE_WORDS) & set(counts))
    if taken:
        raise ValueError(f"captions use {taken}, which are kept for new subjects: reword those captions")
    counts.update(RARE_WORDS)
    counts.update(USEFUL_WORDS)
    return _build(_learn_merges(counts))


@cache
def _splitter() -> Tokenizer:
    splitter: Tokenizer = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[]).backend_tokenizer
    return splitter


def _words(text: str) -> list[str]:
    """Split as CLIP does before merging: lower case, punctuation apart, bytes as printable letters."""
    splitter = _splitter()
    pieces = splitter.pre_tokenizer.pre_tokenize_str(splitter.normalizer.normalize_str(text))
    return [piece for piece, _ in pieces]


def _learn_merges(counts: Counter[str]) -> list[tuple[str, str]]:
    """BPE merges (Sennrich et al. 2016, arXiv:1508.07909), the most frequent first."""
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY, min_frequency=0, end_of_word_suffix=WORD_END, show_progress=False
    )
    # the square root keeps common words first without letting rare ones fall under the vocabulary's end
    repeated = (" ".join([word] * max(1, round(count**0.5))) for word, count in sorted(counts.items()))
    learner.train_from_iterator(repeated, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in merges]


def _build(merges: list[tuple[str, str]]) -> CLIPTokenizer:
    """Vocabulary in SD 1.5's order: bytes, bytes at a word's end, merges, start, end."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [letter + WORD_END for letter in letters]
    tokens += dict.fromkeys("".join(pair) for pair in merges)
    tokens += [START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=PROMPT_LENGTH)


def vocabulary_of(tokenizer: CLIPTokenizer) -> Vocabulary:
    """The sizes and ids that the text encoder must agree with."""
    return Vocabulary(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write ``tokenizer.json`` for this library and ``vocab.json``/``merges.txt`` for SD 1.5's other readers."""
    tokenizer.save_pretrained(folder)
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    (folder / "tokenizer.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")  # unindented: half
    model = whole["model"]
    vocabulary = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def encode_prompts(tokenizer: CLIPTokenizer, prompts: list[str]) -> list[list[int]]:
    """Token ids, one row of 77 per prompt, padded with the end token as SD 1.5 does."""
    rows = (encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch_fast(prompts))
    end, length = tokenizer.eos_token_id, PROMPT_LENGTH
    return [(ids if len(ids) <= length else [*ids[: length - 1], end]) + [end] * (length - len(ids)) for ids in rows]
