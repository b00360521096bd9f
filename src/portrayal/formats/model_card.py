"""The README of tuned weights: what they are, how to load them, and what may be done with them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal

OPENRAIL = "creativeml-openrail-m"
HUB_LICENCES = frozenset({OPENRAIL, "apache-2.0", "mit", "openrail", "openrail++", "cc0-1.0"})
"""Identifiers that the Hub knows; any other is written as `other` with its name."""

OPENRAIL_TERMS = """\
The base is licensed under the [CreativeML OpenRAIL-M](https://huggingface.co/spaces/CompVis/stable-diffusion-license)
licence, and so are these weights, which derive from it. You may use, change and share them, also commercially, if
you pass on the licence with its use restrictions (its Attachment A) to whoever gets them. Among other things they
forbid breaking the law, harming or exploiting minors, spreading false information to harm others, defaming or
harassing anyone, giving away personal data that can be used to harm someone, deciding about people's rights
automatically, and discriminating."""

APACHE_TERMS = """\
The base and these weights are licensed under the
[Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0). It says nothing about the rights of the person
shown."""

CONSENT = {
    True: "The person who trained these weights has recorded that the person shown **consented** to it.",
    False: "It is recorded that the person shown has **not consented**: do not use, publish or pass on these weights.",
    None: "It is **not recorded** whether the person shown consented: ask before you use or pass on these weights.",
}


@dataclass(frozen=True)
class ModelCardInfo:
    """What a model card says."""

    title: str
    base_id: str
    """Hub id of the base, or `pocket`; of a local path only the last part is written."""

    base_licence: str
    """Licence of the base as the Hub names it, such as `creativeml-openrail-m`."""

    kind: Literal["unet", "lora"]
    rank: int | None
    """Rank of a LoRA; nothing for a full UNet."""

    instance_prompt: str
    """The words that call the subject up."""

    settings: Mapping[str, str]
    """Training settings, by name."""

    consent: bool | None
    """Whether the person shown consented; nothing if nobody recorded it."""

    weights_file: str
    """File of a LoRA, or folder of a UNet, beside the card."""

    text_encoder_folder: str | None = None
    """Folder of a tuned text encoder that belongs to the UNet; nothing if there is none."""

    scores: Mapping[str, str] = field(default_factory=dict)
    """What was measured of it, by what that is called; nothing before it is judged."""

    verdict: str = ""
    """What follows from that, in a sentence."""

    samples: tuple[tuple[str, str], ...] = ()
    """Generated pictures beside the card: file and prompt."""


def model_card(info: ModelCardInfo) -> str:
    """Write a model card for the Hugging Face Hub: Markdown with YAML front matter.

    It names no photo and no path; a setting that is a path is cut to its last part.
    """
    parts = [
        _front_matter(info),
        f"# {_one_line(info.title)}",
        _what_it_is(info),
        *(["<Gallery />"] if info.samples else []),
        f"## Trigger phrase\n\n{_code(info.instance_prompt)}",
        f"## Use\n\n{_how_to_load(info)}",
        f"## Training\n\n{_settings_table(info.settings)}",
        *([f"## Scores\n\n{_scores(info)}"] if info.scores else []),
        f"## The person shown\n\n{_person(info)}",
        f"## Licence\n\n{_terms(info.base_licence)}",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(info: ModelCardInfo) -> str:
    """YAML in which every string is quoted, so that no prompt can break it."""
    tags = ["text-to-image", "diffusers", "diffusers-training", "dreambooth"]
    tags += ["stable-diffusion", "stable-diffusion-diffusers"]
    tags += ["lora", "template:sd-lora"] if info.kind == "lora" else []
    entries: dict[str, object] = {"license": info.base_licence}
    if info.base_licence not in HUB_LICENCES:
        entries = {"license": "other", "license_name": info.base_licence}
    if _is_hub_id(info.base_id):
        entries["base_model"] = info.base_id
        entries["base_model_relation"] = "adapter" if info.kind == "lora" else "finetune"
    entries |= {"library_name": "diffusers", "pipeline_tag": "text-to-image", "inference": False}
    entries |= {"instance_prompt": info.instance_prompt, "tags": tags}
    lines = [f"{key}: {_yaml(value)}" for key, value in entries.items()]
    if info.samples:
        lines.append("widget:")
    for file, prompt in info.samples:
        lines += [f"- text: {_yaml(prompt)}", "  output:", f"    url: {_yaml(file)}"]
    return "\n".join(["---", *lines, "---"])


def _scores(info: ModelCardInfo) -> str:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in info.scores.items()]
    verdict = f"\n\n{_one_line(info.verdict)}" if info.verdict else ""
    return "\n".join(["| measure | value |", "|---|---|", *rows]) + verdict


def _yaml(value: object) -> str:
    """A YAML scalar or list. JSON would nearly do, but YAML reads its surrogate pairs (emoji) as two characters."""
    if isinstance(value, str):
        return '"' + "".join(_yaml_character(character) for character in value) + '"'
    return "[" + ", ".join(map(_yaml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def _yaml_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _what_it_is(info: ModelCardInfo) -> str:
    what = "The fine-tuned UNet" if info.kind == "unet" else f"A LoRA of rank {info.rank}"
    base = _without_folders(info.base_id)
    base = f"[{info.base_id}](https://huggingface.co/{info.base_id})" if _is_hub_id(info.base_id) else f"`{base}`"
    return (
        f"{what} for {base}, which makes pictures of one person. Trained on a few photos of that person with "
        "[DreamBooth](https://arxiv.org/abs/2208.12242) by Portrayal."
    )


def _how_to_load(info: ModelCardInfo) -> str:
    hub = _is_hub_id(info.base_id)
    base = json.dumps(info.base_id if hub else "path/to/the/base", ensure_ascii=False)
    weights = json.dumps(_without_folders(info.weights_file), ensure_ascii=False)
    if info.kind == "lora":
        imports = "StableDiffusionPipeline"
        load = [f"pipe = StableDiffusionPipeline.from_pretrained({base})"]
        load.append(f'pipe.load_lora_weights(".", weight_name={weights})')
    else:
        imports = "StableDiffusionPipeline, UNet2DConditionModel"
        load = [f"unet = UNet2DConditionModel.from_pretrained({weights})"]
        parts = "unet=unet"
        if info.text_encoder_folder is not None:
            imports += "\nfrom transformers import CLIPTextModel"
            load.append(f'text_encoder = CLIPTextModel.from_pretrained("{info.text_encoder_folder}")')
            parts += ", text_encoder=text_encoder"
        load.append(f"pipe = StableDiffusionPipeline.from_pretrained({base}, {parts})")
    prompt = json.dumps(_one_line(info.instance_prompt), ensure_ascii=False)
    code = [f"from diffusers import {imports}", "", *load, f"image = pipe({prompt}).images[0]"]
    note = "" if hub else f"\n\nThe base, `{_without_folders(info.base_id)}`, is not on the Hub."
    note += " It is part of Portrayal." if info.base_id == "pocket" else ""
    return "In the folder of this file:\n\n```python\n" + "\n".join(code) + "\n```" + note


def _settings_table(settings: Mapping[str, str]) -> str:
    if not settings:
        return "No settings were recorded."
    rows = [f"| {_cell(name)} | {_cell(_without_folders(value))} |" for name, value in settings.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def _person(info: ModelCardInfo) -> str:
    return (
        "These weights depict whoever is in the photos, and are private unless that person wants otherwise. "
        f"{CONSENT[info.consent]} Say of every picture made with them that it was generated."
    )


def _terms(licence: str) -> str:
    if licence == OPENRAIL:
        return OPENRAIL_TERMS
    return APACHE_TERMS if licence == "apache-2.0" else f"These weights are bound by the base's licence: `{licence}`."


def _is_hub_id(base: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", base) is not None


def _without_folders(value: str) -> str:
    """The last part of an absolute path or one that starts at home; anything else as it is."""
    for path in (PurePosixPath(value), PureWindowsPath(value)):
        if path.is_absolute() or value.startswith(("~", "./", "../")):
            return path.name
    return value


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    """Inline code, fenced by one backtick more than the text holds in a row."""
    line = _one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"
