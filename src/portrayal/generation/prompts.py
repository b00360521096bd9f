"""Prompts of any length, with weights as AUTOMATIC1111 writes them: `(word)`, `[word]`, `(word:1.2)`."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from portrayal.errors import UsageError
from portrayal.models.base import BaseModel

MORE, LESS = 1.1, 1 / 1.1
MOST = 10.0

_PIECES = re.compile(r"\\[()\[\]\\]|\(|\[|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|\)|\]|[^\\()\[\]:]+|:|\\")
_NETWORK = re.compile(r"<(lora|lyco|hypernet):([^:>]+)[^>]*>")


class Fragment(NamedTuple):
    """A piece of a prompt and what its words weigh; 1 is as written."""

    text: str
    weight: float


def fragments_of(prompt: str) -> list[Fragment]:
    r"""Read the weights of a prompt.

    `(a)` weighs 1.1, `((a))` 1.1², `[a]` 1/1.1, `(a:1.3)` 1.3; a bracket that is meant stands behind a backslash: `\(`.
    A bracket that is not closed weighs to the end.

    Raises:
        UsageError: If a weight is below 0 or above 10, or the prompt names a LoRA, which is no word.
    """
    if network := _NETWORK.search(prompt):
        raise UsageError(
            f"The prompt names a LoRA: {network[0]}.", f"Give its file: --lora {network[2]}.safetensors:0.8"
        )
    pieces: list[Fragment] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def weigh(start: int, weight: float) -> None:
        pieces[start:] = [Fragment(text, before * weight) for text, before in pieces[start:]]

    for match in _PIECES.finditer(prompt):
        piece = match[0]
        if piece in opened:
            opened[piece].append(len(pieces))
        elif match[1] is not None and opened["("]:
            weigh(opened["("].pop(), _checked(float(match[1]), prompt))
        elif piece == ")" and opened["("]:
            weigh(opened["("].pop(), MORE)
        elif piece == "]" and opened["["]:
            weigh(opened["["].pop(), LESS)
        else:
            pieces.append(Fragment(piece[1:] if piece[0] == "\\" and len(piece) > 1 else piece, 1.0))
    for start in opened["("]:
        weigh(start, MORE)
    for start in opened["["]:
        weigh(start, LESS)
    return _joined(pieces)


def _checked(weight: float, prompt: str) -> float:
    if not 0 <= weight <= MOST:
        raise UsageError(f"A weight of {weight:g} in the prompt {prompt[:80]!r}.", f"Weights go from 0 to {MOST:g}.")
    return weight


def _joined(pieces: list[Fragment]) -> list[Fragment]:
    """Neighbours of one weight as one."""
    found: list[Fragment] = []
    for text, weight in pieces:
        if found and found[-1].weight == weight:
            found[-1] = Fragment(found[-1].text + text, weight)
        else:
            found.append(Fragment(text, weight))
    return found or [Fragment("", 1.0)]


class PromptEmbeds:
    """Embeddings of prompts by a base, each computed once, alone: a prompt's does not depend on its neighbours.

    A plain prompt goes through the text encoder as it is. Longer ones are read in parts of the encoder's length, and
    weights move what a word adds, by compel.
    """

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self.known: dict[str, Tensor] = {}
        self.provider: Any = None

    @torch.inference_mode()
    def of(self, prompt: str) -> Tensor:
        """Embeddings of a prompt, `(L, D)`: L is the encoder's length, or a multiple of it.

        Raises:
            UsageError: If a weight cannot be meant.
        """
        if prompt not in self.known:
            self.known[prompt] = self._computed(fragments_of(prompt))
        return self.known[prompt]

    def _computed(self, fragments: list[Fragment]) -> Tensor:
        tokenizer = self.base.tokenizer
        if len(fragments) == 1 and fragments[0].weight == 1:
            text = fragments[0].text
            if not text or len(tokenizer(text, truncation=False).input_ids) <= tokenizer.model_max_length:
                return self.base.encode_prompts([text])[0]
        self.provider = self.provider or self._weighing()
        texts, weights = [one.text for one in fragments], [one.weight for one in fragments]
        found: Tensor = self.provider.get_embeddings_for_weighted_prompt_fragments(
            [texts], [weights], device=str(self.base.device)
        )
        return found[0]

    def _weighing(self) -> Any:
        from compel.embeddings_provider import EmbeddingsProvider, SplitLongTextMode

        return EmbeddingsProvider(
            self.base.tokenizer,
            self.base.text_encoder,
            truncate=False,
            split_long_text_mode=SplitLongTextMode.PHRASES | SplitLongTextMode.COPY_FIRST_CLS_TOKEN,
            device=str(self.base.device),
        )

    def stretched(self, prompt: str, length: int) -> Tensor:
        """Embeddings of a prompt with as many tokens, empty ones behind its own, `(L, D)`."""
        own, empty = self.of(prompt), self.of("")
        return torch.cat([own, *[empty] * ((length - len(own)) // len(empty))])


def plain(prompt: str) -> str:
    """A prompt without its weights, for who only reads."""
    return "".join(fragment.text for fragment in fragments_of(prompt))
