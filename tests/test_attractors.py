"""Rules of any file, before anything is drawn: whether they have an attractor, how far it reaches,
and what is left of symmetries, chaos lists and weights. Worked out by hand or by a game."""

import math

import numpy as np
import pytest

from diff_ifs.formats.contraction import (
    between,
    contraction,
    coordinates,
    no_attractor,
    spectral_radii,
    stretches,
    supports,
)
from diff_ifs.formats.exchange import decode
from diff_ifs.formats.rules import Rules, composed, own_window, prepared
from diff_ifs.setup import affine, similarity

HALVES = [similarity(0.5, at=at) for at in ((-0.5, -0.5), (0.5, -0.5), (0, 0.5))]


def rows(*maps) -> np.ndarray:
    return np.array(maps, dtype=float)


# --- Shrinking ---


def test_coordinates_are_those_in_which_skew_turns_are_round():
    """A turn by 50° and a shrink to 0.8, seen askew, and its square, at once."""
    c, s = 0.8 * math.cos(math.radians(50)), 0.8 * math.sin(math.radians(50))
    askew = np.array([[2.0, 1.3], [0.0, 0.4]])
    turn = askew @ [[c, -s], [s, c]] @ np.linalg.inv(askew)
    linear = np.stack([turn, turn @ turn])
    assert stretches(linear).max() > 1.5
    there = coordinates(linear)
    seen = there @ linear @ np.linalg.inv(there)
    assert stretches(seen) == pytest.approx([0.8, 0.64], abs=1e-3)
    assert np.linalg.det(there) == pytest.approx(1)
    assert there[1, 0] == 0
    maps = np.concatenate([linear, np.zeros((2, 2, 1))], axis=2)
    assert contraction(maps) == pytest.approx(0.8, abs=1e-3)


def test_the_rate_of_maps_that_shrink_is_their_largest_singular_value():
    maps = rows(affine(0.9, 0, 0, 0.2), affine(0, -0.95, 0.1, 0))
    assert contraction(maps) == pytest.approx(0.95)
    with pytest.raises(ValueError, match="too slowly, if at all: of 131072 products"):
        contraction(rows(affine(1 - 1e-6, 0, 0, 0.5)))
    assert spectral_radii(np.array([[[0.0, 4], [0.25, 0]], [[0, -4], [1, 0]]])) == pytest.approx(
        [1, 2]
    )


def test_products_are_named_by_their_maps_the_last_of_which_comes_first():
    words = "it has no attractor: {} not shrink the plane (spectral radius 1.5)"
    assert no_attractor([3], 1.5) == words.format("map 3 does")
    assert no_attractor([3, 1], 1.5) == words.format("maps 1 and 3 one after the other do")
    many = no_attractor(range(14, 0, -1), 1.5, "xform")
    shown = "xforms 1, 2, 3, 4, 5, 6, …, 10, 11, 12, 13 and 14 one after the other do"
    assert many == words.format(shown)
    assert "…" not in no_attractor(range(12), 1.5)


def test_vectors_are_combinations_of_their_neighbours_in_a_ring():
    count = 16
    angles = np.linspace(-3.5, 3.5, 41)
    vectors = 1.7 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    low, high, left, right = between(vectors, count)
    ring = np.exp(2j * np.pi * np.arange(count) / count)
    made = low * ring[left] + high * ring[right]
    assert np.abs(made - vectors @ [1, 1j]).max() < 1e-9
    assert np.array_equal(right, (left + 1) % count)
    assert min(low.min(), high.min()) >= -1e-9


@pytest.mark.parametrize("free", [True, False])
def test_supports_are_how_far_what_each_map_produced_reaches(free):
    """All words of nine letters, of maps that turn and shear; the first may not come after itself,
    nor the third after the second."""
    maps = rows(similarity(0.6, 40, (0.3, 0.2)), affine(0.4, 0.3, -0.1, 0.5, -0.4, 0.1),
                affine(0.1, -0.6, 0.3, 0.2, 0.1, -0.4))  # fmt: skip
    follows = np.ones((3, 3), bool)
    if not free:
        follows[0, 0] = follows[1, 2] = False
    places = [np.zeros((1, 2))] * 3
    for _ in range(9):
        places = [
            np.concatenate([places[j] for j in range(3) if follows[j, k]]) @ maps[k, :, :2].T
            + maps[k, :, 2]
            for k in range(3)
        ]
    ring = 2 * np.pi * np.arange(64) / 64
    found = supports(maps, follows, 0.75, directions=64)
    reach = [(at @ [np.cos(ring), np.sin(ring)]).max(0) for at in places]
    assert np.abs(found - reach).max() < 0.02
    assert (found >= np.array(reach) - 0.01).all()


def test_where_very_many_maps_have_rules_of_their_own_any_may_follow_any():
    """Maps to 101 places on a ring, none of which may come after itself: it is a bound."""
    angles = 2 * np.pi * np.arange(101) / 101
    maps = rows(*(similarity(0.1, at=(math.cos(a), math.sin(a))) for a in angles))
    follows = ~np.eye(101, dtype=bool)
    bound = supports(maps, follows, 0.1, directions=64)
    assert np.array_equal(bound, supports(maps, np.ones((101, 101), bool), 0.1, directions=64))
    assert bound[0, 0] == pytest.approx(1 + 0.1 / 0.9, abs=0.01)
    exact = supports(maps[:99], follows[:99, :99], 0.1, directions=64)
    assert exact[0, 0] < bound[0, 0] - 1e-4


# --- Rules ---


def test_without_weights_a_game_goes_by_areas_and_never_forgets_a_flat_map():
    """Of a hundredth of the square that is as wide, at least."""
    maps = [affine(0.5, 0, 0, 0.5), affine(0.3, 0, 0, -0.4, 0.2), affine(0, 0.4, 0, 0, 0, 0.6)]
    chain = prepared(Rules(maps, opacities=[1, 1, 0])).measure
    areas = np.array([0.25, 0.12, 0.01 * 0.16])
    assert chain.steps == pytest.approx(np.tile(areas / areas.sum(), (3, 1)), abs=1e-6)
    assert np.array_equal(chain.opacities, [1, 1, 0])


def test_what_follows_is_shared_out_by_weights_times_factors():
    chaos = [[1, 1, 2], [1, 0, 4], [3, 1, 1]]
    chain = prepared(Rules(HALVES, weights=[1, 2, 3], chaos=chaos)).picture
    wanted = [[1 / 9, 2 / 9, 6 / 9], [1 / 13, 0, 12 / 13], [3 / 8, 2 / 8, 3 / 8]]
    assert chain.steps == pytest.approx(np.array(wanted))
    assert chain.follows.tolist() == [[True] * 3, [True, False, True], [True] * 3]
    even = prepared(Rules(HALVES, weights=[1, 2, 3], chaos=[[2] * 3] * 3))
    assert (even.picture, even.measure) == (None, None)
    assert np.array_equal(even.weights, [1, 2, 3])
    biased = prepared(Rules(HALVES, weights=[1, 2, 3], chaos=[[1, 1, 1], [1, 1, 2], [1, 1, 1]]))
    assert biased.picture is None
    once = [[1, 1, 1], [1, 1.5, 2 / 3], [1, 1, 1]]  # the first comes as often, whatever was before
    assert prepared(Rules(HALVES, weights=[1, 2, 3], chaos=once)).measure is not None
    assert biased.measure.steps[1] == pytest.approx([1 / 9, 2 / 9, 6 / 9])


def test_what_is_left_for_good_or_never_chosen_is_gone():
    chaos = [[1, 1, 0], [0, 1, 1], [0, 1, 1]]  # the first is left
    found = prepared(Rules(HALVES, chaos=chaos, weights=[1, 1, 3]))
    assert np.array_equal(found.maps, HALVES[1:])
    assert found.picture is None
    without = prepared(Rules(HALVES, weights=[1, 0, 3]))
    assert np.array_equal(without.maps, [HALVES[0], HALVES[2]])
    assert np.array_equal(without.weights, [1, 3])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weights": [1, 1, -1]}, "map 3 has a negative weight"),
        ({"chaos": [[1, 1, 1], [-1, 1, 1], [1, 1, 1]]}, "the chaos list of map 2 has a negative"),
        ({"weights": [0, 0, 0]}, "the weights of all maps are 0"),
        ({"weights": [1, 1.1e12, 1]}, "the weights of its maps are not from 0 to 1e12"),
        ({"chaos": [[1, 1, 1], [1, 1.1e12, 1], [1, 1, 1]]}, "are not from 0 to 1e12"),
        ({"chaos": [[1, 1, 1], [1, 1, 1], [0, 0, 0]]}, "no map may come after map 3"),
        ({"weights": [0, 1, 1], "chaos": [[1, 0, 1], [0, 1, 1], [1, 0, 0]]}, "come after map 3,"),
        ({"opacities": [0, 0, 0]}, "all of its maps are hidden"),
        ({"finals": [(affine(1, 0, 0, 1), 0.5)] * 7}, "too many final xforms"),
    ],
)
def test_rules_that_make_no_game_are_refused_by_their_numbers(fields, words):
    with pytest.raises(ValueError, match=words):
        prepared(Rules(HALVES, **fields))


def test_weights_and_finals_at_their_limits_are_taken():
    prepared(Rules(HALVES, weights=[1, 1e12, 1]))
    six = prepared(Rules(HALVES, finals=[(affine(1, 0, 0, 1, 0.1), 0.5)] * 6)).measure
    assert len(six.finals) == 64
    assert six.shares == pytest.approx([1 / 64] * 64)


def test_what_a_final_map_draws_is_its_part_and_the_rest_stays():
    one, two = affine(0, -1, 1, 0, 3, 0), affine(2, 0, 0, 2)
    chain = prepared(Rules(HALVES, finals=[(one, 0.25), (two, 1.0)])).measure
    found = {tuple(share): final.ravel().tolist() for share, final in
             zip(chain.shares[:, None].tolist(), chain.finals, strict=True)}  # fmt: skip
    assert found[(0.25,)] == composed(rows(two)[0], rows(one)[0]).ravel().tolist()
    assert found[(0.75,)] == rows(two)[0].ravel().tolist()
    assert len(found) == 2


@pytest.mark.parametrize("head", ["b (3d)", "b(3D)", "b (3D) "])
def test_entries_of_maps_of_space_are_told_by_their_heads(head):
    text = f"a {{\n0.5 0 0 0.5 0 0\n}}\n{head} {{\n0.4 0 0 0.4 0 0\n}}\n".encode()
    assert decode(text, ".ifs").maps[0][0][0] == 0.5
    with pytest.raises(ValueError, match="its entry 'b' is three-dimensional"):
        decode(text, ".ifs", entry="B")


# --- Symmetries ---

QUARTER, MIRROR = similarity(1.0, 90), affine(1, 0, 0, -1)
SMALL = affine(0.3, 0.1, 0, 0.2, 0.5, 0.2)


def test_maps_that_come_back_to_themselves_make_a_group_and_its_images_are_the_maps():
    """A quarter turn and a mirror make the eight symmetries of the square."""
    found = prepared(Rules([SMALL, QUARTER, MIRROR]))
    turns = [rows(similarity(1.0, 90 * k, mirror=m))[0] for k in range(4) for m in (False, True)]
    wanted = {tuple(composed(turn, rows(SMALL)[0]).round(9).ravel() + 0.0) for turn in turns}
    assert {tuple(map_.round(9).ravel() + 0.0) for map_ in found.maps} == wanted
    assert found.picture is None
    assert found.measure is not None, "how often it comes is no matter of weights alone"


@pytest.mark.parametrize(
    ("opacities", "visible"),
    [([1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]), ([1, 1, 0], [1] * 8), ([0, 0, 1], [1] * 8)],
)
def test_where_a_symmetry_is_shown_all_is_and_else_what_the_others_show(opacities, visible):
    found = prepared(Rules([SMALL, QUARTER, MIRROR], opacities=opacities))
    if all(visible):
        assert found.picture is None
        assert len(found.maps) == 8
    else:
        assert found.picture.opacities.tolist() == visible
        assert found.picture.maps[0].tolist() == rows(SMALL)[0].tolist()
        assert np.array_equal(found.picture.steps, np.full((8, 8), 1 / 8))


def test_turns_by_a_degree_come_back_and_by_half_a_degree_do_not():
    assert len(prepared(Rules([SMALL, similarity(1.0, 1.0)])).maps) == 360
    for other in (similarity(1.0, 0.5), affine(1, 1, 0, 1)):
        with pytest.raises(ValueError, match=r"^it has no attractor: map 2 does not shrink"):
            prepared(Rules([SMALL, other]))
    with pytest.raises(ValueError, match="with its symmetries it has more than 1000 maps"):
        prepared(Rules([SMALL] * 3 + [similarity(1.0, 1.0)]))


def test_symmetries_about_two_centres_shift_the_plane_and_are_named_in_their_order():
    half = [similarity(1.0, 180, at) for at in ((0, 0), (1, 0))]
    words = r"^it has no attractor: maps 2, 3 one after the other shift the plane without an end$"
    with pytest.raises(ValueError, match=words):
        prepared(Rules([SMALL, *half]))
    with pytest.raises(ValueError, match="none of its xforms shrinks the plane"):
        prepared(Rules([QUARTER], noun="xform"))


# --- Windows ---


@pytest.mark.parametrize("finals", [[], [(affine(0.5, 0.9, -0.2, 1.1, 4, -3), 0.5)]])
@pytest.mark.parametrize("hidden", [False, True])
def test_the_own_window_is_the_box_of_all_that_is_drawn(finals, hidden):
    """As a game of 20,000 points finds it."""
    maps = rows(similarity(0.6, 40, (5.3, 0.2)), affine(0.4, 0.3, -0.1, 0.5, 2.6, 0.1),
                affine(0.1, -0.6, 0.3, 0.2, 3.1, -0.4))  # fmt: skip
    what = prepared(Rules(maps.tolist(), finals=finals, opacities=[1, 1, 1 - hidden]))
    chance, at, places = np.random.default_rng(1), np.zeros(2), []
    for k in chance.integers(3, size=20_000):
        at = maps[k, :, :2] @ at + maps[k, :, 2]
        if not (hidden and k == 2):
            places.append(at)
    places = np.array(places[100:])
    for final, _ in finals:
        moved = places @ np.array(final)[:, :2].T + np.array(final)[:, 2]
        places = np.concatenate([places, moved])
    low, high = places.min(0), places.max(0)
    half, middle = 1.08 * max(high - low) / 2, (low + high) / 2
    wanted = [middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half]
    found = own_window(what)
    assert found == pytest.approx(wanted, abs=0.03 * half)
    wide = own_window(what, 0.5)
    assert (wide[1] - wide[0]) - (found[1] - found[0]) == pytest.approx(1.08)
