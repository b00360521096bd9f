"""Batches are functions of their position, and every epoch sees every photo once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from portrayal.data.batches import BatchSource, EmptyCaption, join
from portrayal.data.encode import EncodedDataset
from portrayal.randomness import generator_for


def dataset(count: int, name: str = "photo") -> EncodedDataset:
    numbers = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1)
    return EncodedDataset(
        tuple(f"{name}{n}" for n in range(count)),
        numbers.expand(-1, 2, 2, 2).clone(),
        torch.full((count, 2, 2, 2), 1e-6),
        torch.arange(count).view(-1, 1).expand(-1, 3).clone(),
        torch.zeros(count, 3, 4),
    )


def viewed(count: int, views: int, name: str = "photo") -> EncodedDataset:
    """Pictures whose latents say which they are and in which view: picture + view / 10; masks likewise."""
    plain = dataset(count, name)
    mean = torch.cat([plain.mean + view / 10 for view in range(views)])
    return replace(plain, mean=mean, std=plain.std.repeat(views, 1, 1, 1), masks=mean[:, :1].clone())


def views_seen(batches: BatchSource, positions: Iterable[int], rank: int = 0) -> list[tuple[str, int]]:
    """Which view of which photo stands in each place."""
    found = []
    for batch in (batches.at(position, rank) for position in positions):
        for name, latents in zip(batch.ids[: batches.size], batch.latents / batches.scaling_factor, strict=False):
            found.append((name, round(10 * (float(latents.mean()) - int(name.removeprefix("photo"))))))
    return found


def source(
    photos: int = 5,
    classes: int = 3,
    size: int = 2,
    class_size: int | None = None,
    *,
    weight: float = 0.5,
    seed: int = 0,
) -> BatchSource:
    class_images = (dataset(classes, "class"),) if classes else None
    return BatchSource((dataset(photos),), class_images, size, class_size or size, weight, 0.5, seed)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 3))
def test_every_epoch_is_a_permutation(photos: int, size: int, seed: int) -> None:
    batches = source(photos, 0, size, seed=seed)
    seen = list(chain.from_iterable(batches.at(position).ids for position in range(3 * photos)))
    for epoch in range(3):
        assert sorted(seen[epoch * photos : (epoch + 1) * photos]) == sorted(batches.photos[0].ids)


def test_epochs_are_shuffled_differently() -> None:
    batches = source(9, 0, 9)
    assert len({batches.at(position).ids for position in range(4)}) == 4


def test_class_images_are_shuffled_by_themselves() -> None:
    batches = source(3, 3, 3)
    pairs = {tuple(picture[-1] for picture in batches.at(position).ids) for position in range(6)}
    assert any(pair[:3] != pair[3:] for pair in pairs)


def test_a_batch_is_a_function_of_its_position() -> None:
    forwards, backwards = source(), source()
    one = [forwards.at(position) for position in range(6)]
    two = [backwards.at(position) for position in reversed(range(6))][::-1]
    for a, b in zip(one, two, strict=True):
        assert a.ids == b.ids
        assert torch.equal(a.latents, b.latents)


def test_seed_rank_and_position_change_what_is_drawn(encoded) -> None:
    """With real pictures, whose latents have a spread."""
    batches = BatchSource(encoded.photos, None, 4, 4, 1.0, 1.0, seed=0)
    drawn = [batches.at(0), batches.at(1), batches.at(0, rank=1), replace(batches, seed=1).at(0)]
    spread = [
        (batch.latents - encoded.photos[0].mean[[encoded.photos[0].ids.index(i) for i in batch.ids]]) for batch in drawn
    ]
    assert all(not torch.equal(spread[0], other) for other in spread[1:])


def test_rows_belong_together() -> None:
    batch = source().at(3)
    assert sum(batch.is_photo) == 2
    for row, picture in enumerate(batch.ids):
        assert picture.startswith("photo" if row < 2 else "class")
        number = int(picture[-1])
        assert batch.input_ids[row].tolist() == [number] * 3
        assert torch.allclose(batch.latents[row], torch.tensor(0.5 * number), atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_weights_are_a_mean_over_photos_and_a_weighted_mean_over_class_images(size: int, weight: float) -> None:
    weights = source(size=size, weight=weight).at(0).weights
    assert weights.shape == (2 * size,)
    assert weights[:size].sum() == pytest.approx(1.0)
    assert weights[size:].sum() == pytest.approx(weight)


def test_without_class_images_all_the_weight_is_the_photos() -> None:
    batch = source(classes=0).at(0)
    assert batch.weights.sum() == pytest.approx(1.0)
    assert len(batch.ids) == sum(batch.is_photo) == 2


def test_a_batch_may_be_larger_than_the_dataset() -> None:
    ids = source(3, 2, 7).at(0).ids
    assert len(ids) == 14
    assert set(ids) == {"photo0", "photo1", "photo2", "class0", "class1"}


def test_fewer_class_images_weigh_as_much_together() -> None:
    full, sparse = source(8, 8, 4).at(3), source(8, 8, 4, 1).at(3)
    assert (len(full.ids), len(sparse.ids)) == (8, 5)
    assert full.ids[:4] == sparse.ids[:4]
    assert sparse.weights[4:].sum() == pytest.approx(full.weights[4:].sum())
    assert sparse.weights[:4].sum() == pytest.approx(1)


def test_every_class_image_is_seen_once_an_epoch_however_few_ride_along() -> None:
    batches = source(8, 6, 4, 2)
    assert sorted(chain.from_iterable(batches.at(position).ids[4:] for position in range(3))) == sorted(
        f"class{n}" for n in range(6)
    )


def test_captions_are_dropped_at_the_rate_asked_and_those_of_class_images_never() -> None:
    empty = EmptyCaption(torch.full((3,), -1), torch.full((3, 4), -1.0), 0.3)
    plain, dropping = source(8, 8, 4), replace(source(8, 8, 4), empty=empty)
    dropped = 0
    for position in range(250):
        one, other = plain.at(position), dropping.at(position)
        gone = (other.input_ids == -1).all(dim=1)
        assert torch.equal(gone, (other.prompt_embeds == -1).all(dim=(1, 2)))
        assert torch.equal(one.input_ids[~gone], other.input_ids[~gone])
        assert torch.equal(one.latents, other.latents)
        assert not gone[4:].any()
        dropped += int(gone.sum())
    assert 0.25 < dropped / 1000 < 0.35


def shaped(counts: tuple[int, ...], size: int = 2, seed: int = 0) -> BatchSource:
    """Photos of several shapes, named by their shape, with class images in each."""

    def part(count: int, number: int, name: str) -> EncodedDataset:
        data = dataset(count, f"{name}{number}-")
        wide = (count, 2, 2, 2 + number)
        return replace(data, mean=torch.zeros(wide), std=torch.ones(wide))

    photos = tuple(part(count, number, "photo") for number, count in enumerate(counts))
    class_images = tuple(part(3, number, "class") for number in range(len(counts)))
    return BatchSource(photos, class_images, size, 1, 0.5, 1.0, seed)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 3))
def test_each_photo_of_each_shape_is_seen_equally_often(counts: list[int], size: int, seed: int) -> None:
    batches, cycle = shaped(tuple(counts), size, seed), sum(counts)
    for start in (0, cycle):
        seen = Counter(chain.from_iterable(batches.at(start + place).ids[:size] for place in range(cycle)))
        assert set(seen.values()) == {size}
        assert len(seen) == cycle


@given(st.integers(0, 40), st.integers(0, 3))
def test_a_batch_has_one_shape_the_same_on_every_rank(position: int, rank: int) -> None:
    batches = shaped((4, 2, 3))
    batch = batches.at(position, rank)
    shape = batch.ids[0].split("-")[0][-1]
    assert all(name.split("-")[0][-1] == shape for name in batch.ids)
    assert batch.latents.shape == (3, 2, 2, 2 + int(shape))
    assert batches.at(position).latents.shape == batch.latents.shape


def test_masks_of_one_shape_leave_the_others_whole() -> None:
    batches = replace(shaped((2, 2)), background_loss_weight=0.0)
    first, second = batches.photos
    batches = replace(batches, photos=(first, replace(second, masks=torch.zeros(2, 1, 2, 3))))
    for position in range(8):
        batch = batches.at(position)
        assert batch.place_weights is not None
        assert batch.place_weights[:2].unique().tolist() == [float(batch.ids[0].startswith("photo0"))]
        assert batch.place_weights[2:].unique().tolist() == [1.0]


# Views -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.integers(0, 3), st.integers(0, 2))
def test_every_view_of_a_photo_has_its_turn_before_any_has_its_second(
    photos: int, views: int, size: int, seed: int, rank: int
) -> None:
    batches = replace(source(photos, 2, size, seed=seed), photos=(viewed(photos, views),))
    seen = views_seen(batches, range(2 * photos * views), rank)
    for name in batches.photos[0].ids:
        turns = [view for one, view in seen if one == name]
        for start in range(0, len(turns), views):
            assert sorted(turns[start : start + views]) == list(range(views))


def test_views_are_shuffled_for_each_photo_seed_and_rank() -> None:
    batches = replace(source(2, 0, 2), photos=(viewed(2, 6),))
    orders = [
        tuple(view for one, view in views_seen(drawn, range(6), rank) if one == name)
        for drawn in (batches, replace(batches, seed=1))
        for rank in (0, 1)
        for name in batches.photos[0].ids
    ]
    assert len(set(orders)) == len(orders) == 8
    later = [view for one, view in views_seen(batches, range(6, 12)) if one == "photo0"]
    assert tuple(later) not in orders


def test_views_are_a_function_of_position_and_trainings_with_one_seed_share_them() -> None:
    one, other = (replace(source(5, 3, 2), photos=(viewed(5, 4),)) for _ in range(2))
    backwards = [other.at(position) for position in reversed(range(20))][::-1]
    for position, batch in enumerate(backwards):
        assert torch.equal(one.at(position).latents, batch.latents)


def test_views_that_are_alike_change_nothing() -> None:
    """Photos, order, captions and noise are drawn as without them."""
    plain = source(5, 3, 2)
    (photos,) = plain.photos
    tripled = replace(photos, mean=photos.mean.repeat(3, 1, 1, 1), std=photos.std.repeat(3, 1, 1, 1))
    many = replace(plain, photos=(tripled,))
    for position in range(20):
        a, b = plain.at(position), many.at(position)
        assert a.ids == b.ids
        assert torch.equal(a.latents, b.latents)
        assert torch.equal(a.input_ids, b.input_ids)


def test_masks_follow_their_views() -> None:
    batches = replace(source(4, 3, 2), photos=(viewed(4, 3),), background_loss_weight=0.0)
    for position in range(12):
        batch = batches.at(position)
        assert batch.place_weights is not None
        assert torch.allclose(batch.place_weights[:2, 0], batch.latents[:2, 0] / 0.5, atol=1e-4)
        assert batch.place_weights[2:].unique().tolist() == [1.0]


@given(st.sets(st.integers(0, 5), min_size=1), st.integers(1, 4))
def test_a_subset_keeps_each_photos_views(kept: set[int], views: int) -> None:
    part = viewed(6, views).subset({f"photo{number}" for number in kept})
    assert part.num_views == views
    pictures = torch.tensor(sorted(kept), dtype=torch.float32)
    expected = torch.cat([pictures + view / 10 for view in range(views)])
    assert torch.allclose(part.mean[:, 0, 0, 0], expected)
    assert part.masks is not None
    assert torch.allclose(part.masks[:, 0, 0, 0], expected)
    assert len(part.std) == len(part.mean)


def test_photos_of_each_shape_are_seen_in_all_their_views() -> None:
    plain = shaped((2, 3), size=1)
    photos = tuple(
        replace(part, mean=torch.cat([part.mean + view for view in range(3)]), std=1e-6 * part.std.repeat(3, 1, 1, 1))
        for part in plain.photos
    )
    batches = replace(plain, photos=photos)
    seen = Counter()
    for position in range(5 * 3):
        batch = batches.at(position)
        assert batch.ids == plain.at(position).ids
        seen[batch.ids[0], round(float(batch.latents[0].mean()))] += 1
    assert set(seen.values()) == {1}
    assert len(seen) == 5 * 3


def test_latents_are_drawn_from_their_distributions() -> None:
    """Mean and standard deviation as encoded, both times the VAE's factor."""
    plain = source(2, 2, 2)
    (photos,) = plain.photos
    batches = replace(plain, photos=(replace(photos, std=torch.full_like(photos.std, 3.0)),))
    drawn = torch.stack([batches.at(position).latents[:2] for position in range(500)])
    which = torch.tensor([[float(name[-1]) for name in batches.at(position).ids[:2]] for position in range(500)])
    spread = drawn / batches.scaling_factor - which[..., None, None, None]
    assert float(spread.mean()) == pytest.approx(0, abs=0.1)
    assert float(spread.std()) == pytest.approx(3, rel=0.05)


# Whose numbers they are -------------------------------------------------------------------------------------------


def told_apart(count: int, views: int, name: str, first: float) -> EncodedDataset:
    """Pictures of which every number is their own: that of a picture, and where there are views, of a view."""
    pictures, seen = first + torch.arange(count), first + torch.arange(views * count)
    latents = seen.float().view(-1, 1, 1, 1).expand(-1, 2, 2, 2)
    return EncodedDataset(
        tuple(f"{name}{number}" for number in range(count)),
        mean=latents.clone(),
        std=0.01 * latents,
        input_ids=pictures.long().view(-1, 1).expand(-1, 3).clone(),
        prompt_embeds=pictures.float().view(-1, 1, 1).expand(-1, 3, 4).clone(),
        masks=latents[:, :1] / 1000,
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_all_numbers_of_a_row_are_those_of_its_picture_and_view(rank: int) -> None:
    """Drawn again by hand: `mean + std · noise`, with the noise of seed, process and position."""
    photos, class_images = told_apart(5, 3, "photo", 100), told_apart(4, 1, "class", 500)
    batches = BatchSource((photos,), (class_images,), 2, 3, 0.5, 0.25, 7, background_loss_weight=0.2)
    views = set()
    for position in range(15):
        batch = batches.at(position, rank)
        noise = torch.randn(5, 2, 2, 2, generator=generator_for(7, "train.latents", rank, position))
        assert batch.place_weights is not None
        for row, name in enumerate(batch.ids):
            data = photos if row < 2 else class_images
            picture = data.ids.index(name)
            assert batch.input_ids[row].unique().tolist() == [data.input_ids[picture, 0]]
            assert batch.prompt_embeds[row].unique().tolist() == [data.prompt_embeds[picture, 0, 0]]
            expected = 0.25 * (data.mean + data.std * noise[row])[picture :: len(data)]
            (view,) = [number for number, one in enumerate(expected) if torch.allclose(one, batch.latents[row])]
            assert data.masks is not None
            mask = data.masks[view * len(data) + picture]
            assert torch.allclose(batch.place_weights[row], mask + 0.2 * (1 - mask))
            views.add((name, view))
    assert views == {(name, view) for name in photos.ids for view in range(3)} | {
        (name, 0) for name in class_images.ids
    }


def test_latents_are_drawn_anew_at_every_seed_process_and_position(encoded) -> None:
    """Of one photo, so that nothing else can differ."""
    (photos,) = encoded.photos
    batches = BatchSource((photos.subset({photos.ids[0]}),), None, 2, 2, 1.0, 1.0, seed=0)
    drawn = [batches.at(0), batches.at(1), batches.at(2), batches.at(0, rank=1), replace(batches, seed=1).at(0)]
    latents = [one for batch in drawn for one in batch.latents]
    assert len({tuple(one.flatten().tolist()) for one in latents}) == len(latents) == 10


def test_processes_read_other_photos_and_drop_other_captions() -> None:
    empty = EmptyCaption(torch.full((3,), -1), torch.full((3, 4), -1.0), 0.5)
    batches = replace(source(9, 9, 4), empty=empty)
    first, second = ([batches.at(position, rank) for position in range(16)] for rank in (0, 1))
    for what in (lambda batch: batch.ids[:4], lambda batch: batch.ids[4:], lambda batch: batch.input_ids[:4, 0] == -1):
        one, other = ([tuple(what(batch)) for batch in batches] for batches in (first, second))
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 8


def test_captions_are_dropped_by_share_seed_and_position() -> None:
    empty = EmptyCaption(torch.full((3,), -1), torch.full((3, 4), -1.0), 0.5)

    def dropped(share: float, seed: int = 0) -> list[tuple[bool, ...]]:
        batches = replace(source(9, 0, 4, seed=seed), empty=replace(empty, share=share))
        return [tuple((batches.at(position).input_ids[:, 0] == -1).tolist()) for position in range(20)]

    assert dropped(0.0) == [(False,) * 4] * 20
    assert dropped(1.0) == [(True,) * 4] * 20
    assert len(set(dropped(0.5))) > 5
    assert dropped(0.5) != dropped(0.5, seed=1)
    pairs = zip(chain.from_iterable(dropped(0.2)), chain.from_iterable(dropped(0.5)), strict=True)
    assert all(often or not seldom for seldom, often in pairs)  # one number decides at every share


def test_joined_batches_are_one_after_another() -> None:
    masked = replace(source(5, 3, 2, 1, seed=1), photos=(replace(dataset(5), masks=torch.zeros(5, 1, 2, 2)),))
    batches = [source(5, 3, 2, 1).at(0), replace(masked, background_loss_weight=0.5).at(1), source(2, 0, 1).at(2)]

    joined = join(batches)

    assert join(batches[:1]) is batches[0]
    assert joined.ids == tuple(name for batch in batches for name in batch.ids)
    assert joined.is_photo == (True, True, False, True, True, False, True)
    for name in ("latents", "input_ids", "prompt_embeds", "weights"):
        assert torch.equal(getattr(joined, name), torch.cat([getattr(batch, name) for batch in batches]))
    assert joined.place_weights is not None
    assert joined.place_weights[:, 0, 0, 0].tolist() == [1, 1, 1, 0.5, 0.5, 1, 1]


@given(st.sets(st.integers(0, 5), min_size=1), st.integers(1, 3))
def test_all_numbers_of_a_subset_are_those_of_its_photos(kept: set[int], views: int) -> None:
    whole = told_apart(6, views, "photo", 100)
    part = whole.subset({f"photo{number}" for number in kept})
    assert part.ids == tuple(f"photo{number}" for number in sorted(kept))
    pictures = [100 + number for number in sorted(kept)]
    seen = [100 + view * 6 + number for view in range(views) for number in sorted(kept)]
    assert part.input_ids[:, 0].tolist() == part.prompt_embeds[:, 0, 0].tolist() == pictures
    assert part.mean[:, 0, 0, 0].tolist() == seen
    assert torch.allclose(part.std[:, 0, 0, 0], 0.01 * torch.tensor(seen))
