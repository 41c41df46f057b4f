import math

import pytest
import torch

from diff_ifs.metrics import chamfer, dice, foreground, hd95, iou, mse


def square(size: int, low: int, high: int) -> torch.Tensor:
    picture = torch.zeros(size, size)
    picture[low:high, low:high] = 1
    return picture


def test_half_is_on():
    assert foreground(torch.tensor([0.0, 0.49, 0.5, 1.0])).tolist() == [False, False, True, True]


def test_iou_and_dice_of_known_overlaps():
    a, b = square(16, 0, 8), square(16, 4, 12)
    assert iou(a, b) == pytest.approx(16 / 112)
    assert dice(a, b) == pytest.approx(32 / 128)
    assert iou(a, a) == 1
    assert iou(a, torch.zeros(16, 16)) == 0
    assert iou(torch.zeros(16, 16), torch.zeros(16, 16)) == 1


def test_mse_is_of_coverage_not_of_on_pixels():
    assert mse(torch.full((4, 4), 0.25), torch.zeros(4, 4)) == pytest.approx(0.0625)


def test_distances_between_two_parallel_lines():
    a, b = torch.zeros(32, 32), torch.zeros(32, 32)
    a[10, 4:20], b[13, 4:20] = 1, 1
    assert chamfer(a, b) == pytest.approx(3)
    assert hd95(a, b) == pytest.approx(3)
    assert hd95(a, a) == 0


def test_hd95_ignores_a_twentieth_of_the_outline_and_takes_the_worse_direction():
    a = torch.zeros(64, 64)
    a[10, :40] = 1
    b = a.clone()
    b[60, 10] = 1  # one stray pixel of 41
    assert hd95(a, b) == 0
    b[60, 11:14] = 1  # four of 44
    assert hd95(a, b) == pytest.approx(50)


def test_empty_pictures_have_defined_distances():
    empty, some = torch.zeros(8, 8), square(8, 2, 4)
    assert math.isinf(hd95(empty, some))
    assert math.isinf(chamfer(some, empty))
    assert hd95(empty, empty) == 0


def test_chamfer_is_the_mean_of_both_directions():
    """What lies apart in one picture is far from the other, which is not far from it."""
    a = torch.zeros(32, 32)
    a[5, 4:20] = 1
    b = a.clone()
    b[15, 10] = 1
    assert chamfer(a, b) == chamfer(b, a) == pytest.approx(10 / 17 / 2)


def test_outlines_are_pixels_with_one_of_four_neighbours_off():
    solid, hollow = square(16, 4, 11), square(16, 4, 11)
    hollow[5:10, 5:10] = 0
    assert chamfer(solid, hollow) == 0, "the ring is the outline of both"
    hollow[7, 7] = 1
    assert hd95(solid, hollow) == 0, "one of 25 pixels"
    assert chamfer(solid, hollow) == pytest.approx(3 / 25 / 2)
