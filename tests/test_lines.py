"""Which faint lines of a picture are raised to be seen, and which are not."""

import numpy as np
import pytest
from scipy.ndimage import label

from diff_ifs.files.line import whole_lines


@pytest.mark.parametrize(
    ("length", "level", "joined", "raised"),
    [
        (4, 0.3, False, True),
        (3, 0.3, False, False),
        (3, 0.3, True, True),
        (9, 0.21, False, True),
        (9, 0.19, False, False),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_faint_line_is_raised_that_is_long_or_joins_two_parts(
    length, level, joined, raised, turned
):
    coverage = np.zeros((20, 30))
    line = 10, slice(8, 8 + length)
    coverage[line] = level
    if joined:
        coverage[6:15, 1:8] = coverage[6:15, 8 + length : 20] = 1
    before = coverage.copy()
    found = whole_lines(coverage.T if turned else coverage, 0.2)
    found = found.T if turned else found
    assert (found[line] >= 0.5).all() == raised
    found[line] = before[line]
    assert np.array_equal(found, before), "and nothing else is touched"


def test_a_faint_line_goes_over_from_row_to_row_where_it_is_fainter_still():
    coverage = np.zeros((20, 30))
    coverage[10, 5:12], coverage[11, 13:20], coverage[10:12, 12] = 0.3, 0.3, 0.15
    found = whole_lines(coverage, 0.2) >= 0.5
    assert label(found, np.ones((3, 3)))[1] == 1
    assert found[10, 5:12].all()
    assert found[11, 13:20].all()
    coverage[10:12, 12] = 0.09  # less than half of the least
    assert label(whole_lines(coverage, 0.2) >= 0.5, np.ones((3, 3)))[1] == 2


@pytest.mark.parametrize("turn", range(4))
def test_a_soft_edge_is_no_line(turn):
    """It is not twice as bright as what lies two pixels off on either side."""
    coverage = np.zeros((21, 31))
    coverage[8, 4:27], coverage[9, 4:27], coverage[10, 4:27] = 0.3, 0.2, 0.16
    turned = np.rot90(coverage, turn)
    assert np.array_equal(whole_lines(turned, 0.2), turned)


@pytest.mark.parametrize(("linked", "raised"), [(True, False), (False, True)])
def test_parts_that_touch_at_their_corners_are_one_and_need_no_line(linked, raised):
    """Two blocks, three faint pixels between them, and a chain of corners around."""
    coverage = np.zeros((30, 40))
    coverage[5:15, 5:12] = coverage[5:15, 15:22] = 1
    coverage[10, 12:15] = 0.3
    for k in range(8 if linked else 0):
        coverage[15 + min(k, 7 - k), 10 + k] = 1
    found = whole_lines(coverage, 0.2)
    assert (found[10, 12:15] >= 0.5).all() == raised
