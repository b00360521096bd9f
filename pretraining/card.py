"""The model card of the embedded base, with the figures of the run that made it."""

from __future__ import annotations

from typing import Any

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# pocket

A text-to-image model of {total_megabytes:.0f} MB with the classes and the folder of Stable Diffusion 1.5, trained from
nothing on a drawn world, so that every path of Portrayal can be tried, tested and measured offline, on a CPU, in
seconds. It paints 128x128 pictures of drawn people. It knows no photograph, no real person and no artist's work.

| folder | class | millions of parameters | MB (fp16) |
|---|---|---|---|
{parts}

`sks`, `ohwx`, `zwx`, `shs` and `bnha` are single tokens that no training caption holds: names for a new subject.

## How it was made
`python -m pretraining.make`: {people} drawn people, {pictures} pictures, four captions each; {minutes:.1f} minutes on
{device} (torch {torch}, diffusers {diffusers}, transformers {transformers}), seed {seed}. UNet: {unet_steps} steps of
{unet_batch}, averaged weights, Min-SNR 5, a tenth of the captions dropped.

## Figures, on {held_out_people} people never trained on
| what | value |
|---|---|
| autoencoder, peak signal-to-noise ratio | {vae_psnr_db:.2f} dB |
| denoiser, noise error averaged over timesteps | {unet_held_out_mse:.4f} |
| CLIP, own caption first among 64 | {clip_retrieval_top1_of_64:.1%} |
| painted pictures, own prompt first among {prompts} | {prompt_top1:.1%} |
| identity, mean cosine of the same person / of others | {same_person_cosine:.3f} / {other_person_cosine:.3f} |
| identity, area under the ROC curve / equal error rate | {auc:.4f} / {equal_error_rate:.2%} |
| ControlNet, F1 of the edges (2 pixels of slack), with / without | {edges_with:.3f} / {edges_without:.3f} |

## Limits
One person per picture, the scenes and clothes of the drawn world, English captions of its kind. Judge real photos with
real encoders: `clip/` and `identity/` know drawings alone.

## Licence
Weights: Apache-2.0. The drawn pictures: CC0.
"""


def model_card(metrics: dict[str, Any]) -> str:
    """Fill the card from ``metrics.json``'s content."""
    rows = [
        f"| `{name}/` | {part['class']} | {part['parameters'] / 1e6:.2f} | {part['megabytes']:.1f} |"
        for name, part in metrics["parts"].items()
    ]
    edges = metrics["controlnet_edge_f1"]
    flat = {**metrics, **metrics["identity"], "edges_with": edges["with"], "edges_without": edges["without"]}
    return CARD.format(**{**flat, "parts": "\n".join(rows)})
