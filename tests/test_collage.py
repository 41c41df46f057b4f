import pytest
import torch
from systems import CORNER_GASKET, FERN

from diff_ifs.draw.coverage import occupancy
from diff_ifs.fit.collage import WIDEST, Collage
from diff_ifs.fit.proposals import mutate
from diff_ifs.setup import WINDOW, affine, similarity

DRAGON = torch.tensor(
    [affine(0.5, -0.5, 0.5, 0.5, -0.4, -0.1), affine(-0.5, -0.5, 0.5, -0.5, 0.5, 0.0)]
)


def collage_of(maps: torch.Tensor, size: int = 128) -> Collage:
    return Collage((occupancy(maps.double(), WINDOW, size) >= 0.5).float())


def apart(collage: Collage, f: torch.Tensor, g: torch.Tensor) -> float:
    """Root mean square distance of what two maps make of the picture."""
    pixels, difference = collage.pixels + collage.middle, (f - g).double()
    return float((pixels @ difference[:, :2].T + difference[:, 2]).square().sum(1).mean().sqrt())


@pytest.mark.parametrize("maps", [DRAGON, CORNER_GASKET], ids=["dragon", "gasket"])
def test_an_attractor_is_the_collage_of_its_images_and_without_one_there_is_a_gap(maps):
    collage = collage_of(maps)
    assert collage.gap(maps).float().mean() < 0.05
    for k in range(len(maps)):
        others = torch.cat([maps[:k], maps[k + 1 :]])
        gap = collage.gap(others)
        assert gap.float().mean() == pytest.approx(1 / len(maps), abs=0.06)
        assert collage.gap(maps[k : k + 1])[gap].float().mean() < 0.08, (
            "map k covers what the others leave"
        )


def test_a_stem_covers_what_lies_under_it():
    target = torch.zeros(64, 64)
    target[20:44, 32] = 1
    stem = torch.tensor([affine(0, 0, 0, 0.9)])
    assert Collage(target).gap(stem).float().mean() < 0.2


@pytest.mark.parametrize("maps", [DRAGON, CORNER_GASKET], ids=["dragon", "gasket"])
def test_a_map_that_was_taken_away_is_found_again(maps):
    collage, generator = collage_of(maps), torch.Generator().manual_seed(0)
    gap = collage.gap(maps[1:])
    found = [collage.place(gap, generator) for _ in range(12)]
    pixels = collage.pixels + collage.middle
    image = pixels @ maps[0, :, :2].double().T + maps[0, :, 2]
    # A gasket has six symmetries, so that pictures are compared, not maps.
    errors = [torch.cdist(pixels @ f[:, :2].T + f[:, 2], image).amin(1).mean() for f in found]
    sizes = [float(f[:, :2].det().abs() / maps[0, :, :2].det().abs()) for f in found]
    assert any(error < 0.02 and 0.9 < size < 1.1 for error, size in zip(errors, sizes, strict=True))


def test_breeding_finds_the_map_that_a_system_has_wrong():
    target = (occupancy(DRAGON.double(), WINDOW, 128) >= 0.5).float()
    parent = torch.stack([DRAGON[0], torch.tensor(similarity(0.4, at=(-0.3, 0.2)))])
    bred = mutate(parent.expand(80, 2, 2, 3), target, torch.Generator().manual_seed(0))
    collage = Collage(target)
    assert sum(apart(collage, system[1], DRAGON[1]) < 0.1 for system in bred) >= 2


def test_the_true_map_costs_less_than_others():
    collage, generator = collage_of(DRAGON), torch.Generator().manual_seed(1)
    left, middle = collage.pixels[collage.gap(DRAGON[1:])], collage.middle
    true = DRAGON[0].double()
    centred = torch.cat(
        [true[:, :2], (true @ torch.cat([middle, torch.ones(1)]) - middle)[:, None]], dim=1
    )
    others = centred + 0.2 * torch.randn(20, 2, 3, generator=generator, dtype=torch.float64)
    untried = torch.zeros(21, 0, 2, 3, dtype=torch.float64)
    _, costs = collage.climb(
        torch.cat([centred[None], others]), left, collage.pixels, 0.1, 0.5, untried
    )
    assert costs[0] < 0.5 * costs[1:].min()


def test_a_climb_never_makes_a_map_worse():
    collage, generator = collage_of(FERN), torch.Generator().manual_seed(2)
    maps = 0.3 * torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    maps[0, 0] = 0  # flat: its cost is infinite
    noise = torch.randn(4, 90, 2, 3, generator=generator, dtype=torch.float64)
    job = maps, collage.pixels[::7], collage.pixels[::5], 0.08, 0.4
    (_, before), (found, costs) = (collage.climb(*job, noise[:, :trials]) for trials in (0, 90))
    assert before.isinf().tolist() == [True, False, False, False]
    assert (costs < before).all()
    assert costs.isfinite().all()
    assert torch.linalg.matrix_norm(found[:, :, :2], 2).max() <= WIDEST + 1e-9


def test_a_picture_of_one_pixel_and_one_that_is_full_are_filled():
    for target in (
        torch.eye(1),
        torch.ones(32, 32),
        torch.nn.functional.pad(torch.eye(1), (5, 26, 9, 22)),
    ):
        collage = Collage(target)
        gap = collage.gap(torch.tensor([similarity(0.1, at=(3, 3))]))
        assert gap.all()
        found = collage.place(gap, torch.Generator().manual_seed(0))
        middle = found[:, :2] @ collage.middle + found[:, 2]
        assert (middle - collage.middle).abs().max() < 0.2, "it falls on the picture"
        assert torch.linalg.matrix_norm(found[:, :2], 2) <= WIDEST + 1e-9
