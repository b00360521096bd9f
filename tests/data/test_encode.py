"""What the training loop reads of pictures: masks at the size of the latents."""

from pathlib import Path

import torch
from PIL import Image

from portrayal.data.encode import EncodedDataset, encode, latent_masks


def test_a_mask_at_latent_size_is_the_subjects_share() -> None:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 12, 32))

    found = latent_masks(["a", "b"], {"b": mask}, (4, 4))

    assert found.shape == (2, 1, 4, 4)
    assert found[0].unique().tolist() == [1.0]
    assert torch.allclose(found[1, 0], torch.tensor([1.0, 0.5, 0.0, 0.0]).expand(4, 4), atol=0.01)


def test_masks_are_encoded_saved_and_loaded(pocket, tmp_path: Path) -> None:
    size = (pocket.resolution, pocket.resolution)
    rows = [(name, Image.new("RGB", size, name), "a photo of sks woman") for name in ("red", "blue")]
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))

    plain, masked = encode(pocket, rows), encode(pocket, rows, {"blue": mask})

    for name, data in (("plain", plain), ("masked", masked)):
        data.save(tmp_path / name)
        again = EncodedDataset.load(tmp_path / name)
        assert again.ids == data.ids
        assert (again.masks is None) == (data.masks is None)
    assert plain.masks is None
    assert torch.equal(plain.mean, masked.mean)
    loaded = EncodedDataset.load(tmp_path / "masked").masks
    assert loaded is not None
    assert loaded.shape == (2, 1, *masked.mean.shape[2:])
    assert loaded.mean(dim=(1, 2, 3)).tolist() == [1.0, 0.5]
