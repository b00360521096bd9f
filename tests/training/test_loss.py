"""The denoising loss: one number per picture, equal to its formula."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler

from portrayal.data.batches import Batch, BatchSource
from portrayal.data.encode import EncodedDataset
from portrayal.training.loss import (
    Noise,
    diffusion_loss,
    draw_noise,
    min_snr_weight,
    training_target,
    weighted_mean,
)


def scheduler_of(prediction_type: str = "epsilon") -> DDPMScheduler:
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction_type
    )


def predicts(value: float):
    """A UNet that says the same of everything, so that the loss can be worked out on paper."""
    return lambda noisy, timesteps, embeds: SimpleNamespace(sample=torch.full_like(noisy, value))


def some_noise(count: int, *, seed: int = 0, offset: float = 0.0) -> Noise:
    generator = torch.Generator().manual_seed(seed)
    return draw_noise(torch.zeros(count, 4, 8, 8), 1000, generator=generator, offset=offset)


def test_the_loss_worked_out_by_hand() -> None:
    """A prediction of 1 where the noise is 3 and -1 costs (3 - 1)² = 4 and (-1 - 1)² = 4; of 0 it costs 9 and 1."""
    values = torch.stack([torch.full((4, 8, 8), 3.0), torch.full((4, 8, 8), -1.0)])
    noise, latents = Noise(values, torch.tensor([10, 900])), torch.zeros(2, 4, 8, 8)
    one, zero = (
        diffusion_loss(predicts(value), scheduler_of(), latents, torch.zeros(2, 77, 8), noise, snr_gamma=None)
        for value in (1.0, 0.0)
    )
    assert one.tolist() == [4.0, 4.0]
    assert zero.tolist() == [9.0, 1.0]


def test_the_loss_of_the_real_unet_follows_ho_et_al_equation_14(pocket) -> None:
    channels = pocket.unet.config.in_channels
    latents = torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(1))
    embeds = pocket.encode_prompts(["a woman", "a man in a forest"])
    noise = draw_noise(latents, 1000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        loss = diffusion_loss(pocket.unet, pocket.noise_scheduler, latents, embeds, noise, snr_gamma=None)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        alpha_bar = torch.cumprod(1 - betas, dim=0)[noise.timesteps].view(2, 1, 1, 1)
        noisy = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise.values
        predicted = pocket.unet(noisy, noise.timesteps, embeds).sample
    expected = [(predicted[i] - noise.values[i]).square().mean().item() for i in range(2)]
    assert loss.shape == (2,)
    assert loss.tolist() == pytest.approx(expected, rel=1e-4)


def test_the_velocity_is_the_target_of_v_prediction() -> None:
    scheduler, noise = scheduler_of("v_prediction"), some_noise(3)
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    alpha_bar = scheduler.alphas_cumprod[noise.timesteps].view(3, 1, 1, 1)
    expected = alpha_bar.sqrt() * noise.values - (1 - alpha_bar).sqrt() * latents
    assert torch.allclose(training_target(scheduler, latents, noise), expected, atol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weights_follow_the_paper(prediction_type: str, gamma: float) -> None:
    """Hang et al. 2023, Sec. 3.4: min(SNR, γ)/SNR for the noise, min(SNR, γ)/(SNR + 1) for the velocity."""
    scheduler, timesteps = scheduler_of(prediction_type), torch.tensor([0, 1, 250, 500, 999])
    weights = min_snr_weight(scheduler, timesteps, gamma)
    for timestep, weight in zip(timesteps.tolist(), weights.tolist(), strict=True):
        alpha_bar = scheduler.alphas_cumprod[timestep].item()
        snr = alpha_bar / (1 - alpha_bar)
        denominator = snr if prediction_type == "epsilon" else snr + 1
        assert weight == pytest.approx(min(snr, gamma) / denominator, rel=1e-4)
        assert 0 < weight <= 1 + 1e-6


def test_min_snr_weighs_each_picture_by_its_own_timestep(pocket, encoded) -> None:
    """With prior preservation diffusers' scripts give a (2,) weight to a (1,) loss, so that each picture is weighed by
    the other's timestep too. Here a photo and a class image are two pictures of one batch."""
    batch = BatchSource(encoded.photos, encoded.class_images, 1, 1, 0.5, 1.0, seed=0).at(0)
    noise = draw_noise(batch.latents, 1000, generator=torch.Generator().manual_seed(0))
    assert noise.timesteps[0] != noise.timesteps[1]
    scheduler, unet = pocket.noise_scheduler, pocket.unet
    with torch.no_grad():
        plain = diffusion_loss(unet, scheduler, batch.latents, batch.prompt_embeds, noise, snr_gamma=None)
        weighted = diffusion_loss(unet, scheduler, batch.latents, batch.prompt_embeds, noise, snr_gamma=1.0)
    alpha_bar = scheduler.alphas_cumprod[noise.timesteps]
    snr = alpha_bar / (1 - alpha_bar)
    assert weighted.shape == batch.weights.shape == (2,)
    assert weighted.tolist() == pytest.approx((plain * snr.clamp(max=1.0) / snr).tolist(), rel=1e-5)


def test_the_offset_is_one_constant_for_each_channel() -> None:
    plain, shifted = some_noise(2), some_noise(2, offset=0.5)
    shift = shifted.values - plain.values
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6)
    assert shift[:, :, 0, 0].unique().numel() == 8


def test_no_offset_leaves_the_noise_alone() -> None:
    assert some_noise(4).values.std() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(some_noise(4).values, some_noise(4, offset=0.0).values)


def test_timesteps_cover_the_schedule() -> None:
    timesteps = some_noise(4000).timesteps
    assert timesteps.min() < 10
    assert timesteps.max() > 989
    assert timesteps.dtype == torch.int64


def test_a_batch_moves_whole(encoded) -> None:
    batch = BatchSource(encoded.photos, None, 2, 2, 1.0, 1.0, seed=0).at(0)
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved, Batch)
    tensors = [getattr(moved, name) for name in ("latents", "input_ids", "prompt_embeds", "weights")]
    assert all(tensor.is_meta for tensor in tensors)
    assert moved.ids == batch.ids


def masked(photos: EncodedDataset) -> EncodedDataset:
    """The left half of every second photo is the subject."""
    masks = torch.ones(len(photos), 1, *photos.mean.shape[2:])
    masks[::2, :, :, masks.shape[-1] // 2 :] = 0
    return replace(photos, masks=masks)


def loss_of(pocket, batch: Batch) -> torch.Tensor:
    noise = draw_noise(batch.latents, 1000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return diffusion_loss(
            pocket.unet,
            pocket.noise_scheduler,
            batch.latents,
            batch.prompt_embeds,
            noise,
            snr_gamma=5.0,
            place_weights_B1HW=batch.place_weights,
        )


def test_a_weighted_mean_worked_out_by_hand() -> None:
    """Errors of 8 on a quarter of the places and of 2 elsewhere; weights of 1 there and ½ elsewhere."""
    error, weights = torch.full((1, 4, 4, 4), 2.0), torch.full((1, 1, 4, 4), 0.5)
    error[..., :2, :2], weights[..., :2, :2] = 8.0, 1.0
    assert weighted_mean(error, weights).tolist() == pytest.approx([(4 * 8 + 12 * 0.5 * 2) / (4 + 12 * 0.5)])
    assert weighted_mean(error, torch.where(weights == 1, 1.0, 0.0)).tolist() == [8.0]


def test_a_background_weight_of_one_is_no_mask_bit_for_bit(pocket, encoded) -> None:
    plain = BatchSource(encoded.photos, encoded.class_images, 4, 2, 0.5, 1.0, seed=0).at(0)
    with_masks = BatchSource((masked(encoded.photos[0]),), encoded.class_images, 4, 2, 0.5, 1.0, 0, 1.0).at(0)
    ones = replace(plain, place_weights=torch.ones(6, 1, *plain.latents.shape[2:]))
    assert with_masks.place_weights is None
    assert torch.equal(loss_of(pocket, plain), loss_of(pocket, with_masks))
    assert torch.equal(loss_of(pocket, plain), loss_of(pocket, ones))


def test_masks_change_the_loss_of_their_own_photos_alone(pocket, encoded) -> None:
    plain = BatchSource(encoded.photos, encoded.class_images, 4, 2, 0.5, 1.0, seed=0).at(0)
    batch = BatchSource((masked(encoded.photos[0]),), encoded.class_images, 4, 2, 0.5, 1.0, 0, 0.2).at(0)
    assert torch.equal(plain.latents, batch.latents)
    same = (loss_of(pocket, plain) == loss_of(pocket, batch)).tolist()
    assert same == [picture not in ("photo0", "photo2") for picture in batch.ids]
    assert batch.place_weights is not None
    assert batch.place_weights.unique().tolist() == pytest.approx([0.2, 1.0])


def test_a_background_weight_of_zero_gives_no_gradient_outside(encoded) -> None:
    batch = BatchSource((masked(encoded.photos[0]),), None, 4, 4, 1.0, 1.0, 0, 0.0).at(0)
    prediction = torch.zeros_like(batch.latents, requires_grad=True)
    noise = draw_noise(batch.latents, 1000, generator=torch.Generator().manual_seed(0))
    loss = diffusion_loss(
        lambda *_: SimpleNamespace(sample=prediction),
        scheduler_of(),
        batch.latents,
        batch.prompt_embeds,
        noise,
        snr_gamma=None,
        place_weights_B1HW=batch.place_weights,
    )
    loss.sum().backward()
    half = prediction.shape[-1] // 2
    for picture, gradient in zip(batch.ids, prediction.grad, strict=True):
        outside = gradient[..., half:]
        assert (outside == 0).all() if picture in ("photo0", "photo2") else (outside != 0).all()
        assert (gradient[..., :half] != 0).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_losss_scale_does_not_change_with_the_masks_area(share: float) -> None:
    error = torch.full((2, 4, 10, 10), 3.0)
    weights = torch.zeros(2, 1, 10, 10)
    weights[..., : int(10 * share)] = 1
    assert weighted_mean(error, weights).tolist() == pytest.approx([3.0, 3.0])


def test_a_view_with_nothing_of_the_subject_in_it_costs_nothing() -> None:
    """As of a crop beside a mask at the photo's edge, with a background that weighs nothing: no 0 / 0."""
    prediction = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.zeros(2, 1, 8, 8)
    weights[1, ..., 0, 0] = 1 / 255  # of the other as little as there can be
    loss = weighted_mean(prediction.square(), weights)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0, float(prediction.detach()[1, :, 0, 0].square().mean())])
    assert not prediction.grad[0].any()
    assert prediction.grad.isfinite().all()
