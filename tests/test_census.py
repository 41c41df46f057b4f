"""How many maps a picture repays."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from diff_ifs.fit.census import LADDER, Rung, census, count, promised, repaid
from diff_ifs.setup import Setup
from train_ifs import fit, promise

SHORT = Setup(size=64, points=3000, starts=16, steps=200)


def rungs(misfit, loss=lambda n: 1 / n) -> list[Rung]:
    return [Rung(n, loss(n), misfit(n), 128) for n in LADDER]


@pytest.mark.parametrize(("power", "scale"), [(0.9, 0.5), (1.5, 2.0)])
def test_the_next_map_gains_the_price(power, scale):
    found = repaid(rungs(lambda n: 5 / 128 + scale * n**-power), price=0.001)
    assert found.power == pytest.approx((power + 0.9) / 2)
    # where the curves of both powers meet
    middle = math.exp(sum(math.log(n) for n in (8, 12, 16, 24, 32)) / 5)
    scale *= middle ** (found.power - power)
    gain = scale * (found.n**-found.power - (found.n + 1) ** -found.power)
    assert gain == pytest.approx(0.001, rel=0.05)
    assert repaid(rungs(lambda n: 5 / 128 + 0.4 * n**-0.3), price=0.001).n == 48, "and no more"


def test_dearer_maps_are_fewer_and_difficult_pictures_have_more():
    easy, hard = (rungs(lambda n, scale=scale: 5 / 128 + scale / n) for scale in (0.2, 1.0))
    assert repaid(hard, 0.001).n > repaid(hard, 0.003).n > repaid(easy, 0.003).n
    assert repaid(easy, 1.0).n == 12
    assert repaid(hard, 0.0001).n == 48


def test_a_fractal_needs_no_more_maps_than_it_is_made_of():
    """Five maps are as near as any number, and fewer are not."""
    found = repaid(rungs(lambda n: 0.1, lambda n: 0.02 if n >= 5 else 0.08), 0.001)
    assert found == (5, 0.0)
    missed = repaid(rungs(lambda n: 0.4, lambda n: 0.02 if n >= 5 else 0.08), 0.001)
    assert missed.n >= 12, (
        "thin lines have such losses whatever the maps: none of them found the picture"
    )


@pytest.mark.slow
def test_the_curve_of_a_picture_falls_and_ends_where_few_maps_are_far_from_it():
    picture = torch.zeros(64, 64)
    picture[8:40, 10:22], picture[30:56, 20:50] = 1, 1
    found = list(census(picture, SHORT, "cpu"))
    assert [rung.n for rung in found] == list(LADDER[: len(found)])
    assert 6 <= len(found) < 12
    losses = [rung.loss for rung in found]
    assert losses[-1] > 1.6 * min(losses) > 0
    assert all(
        loss <= 1.6 * min(losses)
        for rung, loss in zip(found[:-1], losses, strict=False)
        if rung.n <= 8
    )
    assert all(0 < rung.misfit < 1 and rung.side == 32 for rung in found)


@pytest.mark.slow
def test_a_triangle_is_two_triangles():
    """Its median cuts it into two affine images of itself."""
    large = Image.new("L", (256, 256))
    ImageDraw.Draw(large).polygon([(26, 51), (230, 102), (77, 224)], fill=255)
    target = torch.from_numpy(
        np.asarray(large.resize((64, 64), Image.Resampling.BOX)) / 255
    ).float()
    assert count(target, SHORT, "cpu") == (2, 0.0)


@pytest.mark.slow
def test_a_fit_finds_its_number_of_maps_and_keeps_it_when_it_goes_on():
    picture = torch.zeros(64, 64)
    picture[8:40, 10:22], picture[30:56, 20:50] = 1, 1
    setup = dataclasses.replace(SHORT, steps=60)
    states = list(fit(picture, setup, every=20))
    n = count(picture, setup, "cpu").n
    assert {len(state.maps) for state in states} == {n}
    *_, resumed = fit(picture, dataclasses.replace(setup, price=1.0), resume=states[2].resume)
    assert resumed.best_maps.equal(states[-1].best_maps)


def test_grey_pictures_and_given_depths_have_twelve():
    for setup in (Setup(grey=True), Setup(depth=3)):
        assert count(torch.eye(32), setup, "cpu").n == 12


def test_twice_the_maps_leave_out_six_tenths_as_much():
    assert promised(0.9, 10, 20) == pytest.approx(1 - 0.1 * 2**-0.75)
    assert promised(0.9, 4, 8, power=0.0) == pytest.approx(0.9)


def test_what_twice_the_maps_would_bring_is_said():
    assert promise(0.9, 24, 1.0) == "; 48 maps: about 0.95"
    assert promise(0.8, 8, 0.5) == "; 16 maps: about 0.86"  # 1 - 0.2 / sqrt 2
    assert promise(0.9, 8, 0.0) == "; more maps would bring little"
    assert promise(0.992, 8, 1.0) == "; more maps would bring little"  # 0.996
