from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from portrayal.formats.model_card import ModelCardInfo, model_card

LORA = ModelCardInfo(
    title="sks woman, LoRA 64",
    base_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
    base_licence="creativeml-openrail-m",
    kind="lora",
    rank=64,
    instance_prompt="a photo of sks woman",
    settings={"learning_rate": "1e-4", "max_train_steps": "800"},
    consent=True,
    weights_file="lora-64.safetensors",
)
POCKET_UNET = replace(LORA, base_id="pocket", base_licence="apache-2.0", kind="unet", rank=None, weights_file="unet")


def front_matter(card: str) -> dict[str, object]:
    _, yaml_text, _ = card.split("---\n", 2)
    return yaml.safe_load(yaml_text)


def code(card: str) -> str:
    return card.split("```python\n")[1].split("```")[0]


def test_a_loras_card_names_base_licence_and_trigger() -> None:
    card = model_card(LORA)

    head = front_matter(card)
    assert head["license"] == "creativeml-openrail-m"
    assert head["base_model"] == LORA.base_id
    assert head["base_model_relation"] == "adapter"
    assert head["library_name"] == "diffusers"
    assert head["instance_prompt"] == "a photo of sks woman"
    assert {"text-to-image", "diffusers", "lora", "stable-diffusion", "template:sd-lora"} <= set(head["tags"])
    assert "A LoRA of rank 64" in card
    assert "use restrictions" in card
    assert "| learning_rate | 1e-4 |" in card
    assert 'pipe.load_lora_weights(".", weight_name="lora-64.safetensors")' in code(card)
    compile(code(card), "card", "exec")


def test_a_unets_card_loads_it_into_the_pipeline() -> None:
    card = model_card(replace(LORA, kind="unet", rank=None, weights_file="unet"))

    assert front_matter(card)["base_model_relation"] == "finetune"
    assert "lora" not in front_matter(card)["tags"]
    assert 'UNet2DConditionModel.from_pretrained("unet")' in code(card)
    assert "unet=unet" in code(card)
    compile(code(card), "card", "exec")


def test_pocket_is_apache_and_no_hub_model() -> None:
    card = model_card(POCKET_UNET)

    assert front_matter(card)["license"] == "apache-2.0"
    assert "base_model" not in front_matter(card)
    assert "It is part of Portrayal." in card
    assert "OpenRAIL" not in card


def test_another_licence_is_named() -> None:
    card = model_card(replace(LORA, base_licence="my-licence"))

    assert front_matter(card)["license"] == "other"
    assert front_matter(card)["license_name"] == "my-licence"
    assert "`my-licence`" in card


@pytest.mark.parametrize(
    ("consent", "said"), [(True, "**consented**"), (False, "**not consented**"), (None, "**not recorded**")]
)
def test_consent_is_said_as_recorded(consent: bool | None, said: str) -> None:
    assert said in model_card(replace(LORA, consent=consent))


@pytest.mark.parametrize("path", ["/home/anna/sd15", "C:\\Users\\anna\\sd15", "~/anna/sd15", "./anna/sd15"])
def test_no_path_gets_in(path: str) -> None:
    card = model_card(replace(LORA, base_id=path, weights_file=path, settings={"output": path}))

    assert "anna" not in card
    assert "sd15" in card
    assert "base_model" not in front_matter(card)


@settings(deadline=None, max_examples=40)
@given(st.text(), st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_no_words_break_the_front_matter_or_the_code(title: str, prompt: str, table: dict[str, str]) -> None:
    card = model_card(replace(LORA, title=title, instance_prompt=prompt, settings=table))

    assert front_matter(card)["instance_prompt"] == prompt
    compile(code(card), "card", "exec")
    rows = card.split("## Training\n\n")[1].split("\n\n## ")[0].split("\n")
    assert len(rows) == (2 + len(table) if table else 1)
