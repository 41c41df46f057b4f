"""Searches where how good each place is, is known beforehand: they have to come to the best."""

import dataclasses

import pytest
import torch
from systems import CARPET

from diff_ifs.compress import goals, grades, search, symmetry
from diff_ifs.compress.lattice import Coded, finest, maps_of, place_of, round_to_lattice, stride
from diff_ifs.errors import InputError
from diff_ifs.fit import judge
from diff_ifs.formats.code import LARGEST
from diff_ifs.setup import WINDOW, affine, similarity
from ifs_model import singular_values

LEAN = torch.tensor(
    [affine(0.5, -0.2, 0.1, 0.4, -0.3, 0.2), affine(0.3, 0.3, -0.2, 0.4, 0.4, -0.3)]
).double()
TURNS = torch.tensor(
    [similarity(0.5, 30, (-0.3, 0.2)), similarity(0.6, -70, (0.3, -0.1), mirror=True)]
).double()
BLANK = torch.zeros(8, 8)


def system(maps: torch.Tensor, **fields) -> dict:
    return {"maps": maps, "window": WINDOW, "stroke": 0.0, "size": 64, **fields}


@pytest.fixture
def landscape(monkeypatch):
    """How far numbers, pen and centre are from those of a goal; its curvature is told, too."""
    made = {"goal": None, "weights": None, "pen": 0, "centre": (), "judged": 0}

    def score(code, numbers, target, supersample=3, quality="draft"):
        made["judged"] += supersample == 2
        away = (numbers - made["goal"])[:, : search.columns(code)].double().flatten() / stride(code)
        off = abs(code.stroke - made["pen"])
        off += sum(abs(a - b) for a, b in zip(code.symmetry[1:], made["centre"], strict=True))
        return 1 - float(away @ made["weights"] @ away) / 2e4 - off / 1e3

    def linearised(here, target):
        wide = search.columns(here.code)
        away = (here.numbers - made["goal"])[:, :wide].double().flatten() / stride(here.code)
        return made["weights"], made["weights"] @ away

    monkeypatch.setattr(search, "score", score)
    monkeypatch.setattr(search, "linearised", linearised)
    return made


def begin(made: dict, maps: torch.Tensor, off: dict, length: int = 24, **fields) -> Coded:
    """A code of maps, some of whose numbers are so many strides from the goal."""
    code = dataclasses.replace(search.encodings(system(maps))[-1], length=length, **fields)
    numbers = round_to_lattice(code, place_of(code, maps))
    made["goal"] = numbers.clone()
    moved = numbers.clone()
    for (row, column), strides in off.items():
        moved[row, column] += strides * stride(code)
    wide = search.columns(code)
    chance = torch.Generator().manual_seed(1)
    mixed = torch.randn(len(maps) * wide, len(maps) * wide, generator=chance).double()
    made["weights"] = torch.eye(len(mixed)).double() * 3 + mixed @ mixed.T / len(mixed)
    made["pen"], made["centre"] = code.stroke, code.symmetry[1:]
    return Coded(code, moved, search.score(code, moved, BLANK))


@pytest.mark.parametrize(("maps", "length"), [(LEAN, 16), (TURNS, 12)], ids=["any", "similar"])
def test_single_steps_come_to_the_best_numbers(landscape, maps, length):
    here = begin(landscape, maps, {(0, 1): 2, (0, 2): -1, (1, 0): -2, (1, 3): 1}, length)
    assert stride(here.code) == 1
    found = search.improve(here, BLANK, 400)
    assert torch.equal(found.numbers, landscape["goal"])
    assert found.iou == 1


def test_single_steps_are_as_long_as_they_must_be_to_be_seen(landscape):
    """A thousandth of a fine lattice's steps."""
    here = begin(landscape, TURNS, {(0, 1): 2, (1, 0): -1}, 21)
    assert stride(here.code) > 3
    found = search.improve(here, BLANK, 100)
    assert torch.equal(found.numbers, landscape["goal"])


def test_the_effort_is_how_many_are_judged_and_a_goal_ends_the_search(landscape):
    off = {(k, j): 2 - 4 * ((j + k) % 2) for k in (0, 1) for j in range(6)}
    here = begin(landscape, LEAN, off, 16)
    landscape["judged"] = 0
    found = search.improve(here, BLANK, 5)
    assert landscape["judged"] == 6, "the first is the start"
    assert here.iou < found.iou < 1
    assert search.improve(here, BLANK, 0) is here
    assert search.improve(here, BLANK, 400, goal=here.iou) is here
    half = (1 + here.iou) / 2
    told = []
    found = search.improve(here, BLANK, 400, half, told.append)
    assert half <= found.iou < 1
    assert set(told) == {1}
    assert len(told) <= 400


@pytest.mark.parametrize(("goal", "judged"), [(0.97, 40), (1.0, 100)])
def test_a_search_that_will_not_reach_its_goal_is_given_up(landscape, goal, judged):
    """Nothing gains; after forty judgements there is no hope for what is left of them."""
    here = begin(landscape, LEAN, {}, 16)
    landscape["pen"] = 50  # which nothing changes
    start = dataclasses.replace(here, iou=search.score(here.code, here.numbers, BLANK))
    assert start.iou == 0.95
    landscape["judged"] = 0
    assert search.improve(start, BLANK, 100, goal) is start
    assert landscape["judged"] == judged + (goal == 1.0)


@pytest.mark.parametrize(("pen", "wanted"), [(90, 91), (93, 92)])
def test_the_pen_is_moved_too_where_there_is_one(landscape, pen, wanted):
    """By a step to either side."""
    here = begin(landscape, LEAN, {}, 20, stroke=pen)
    landscape["pen"] = 3 * wanted - 2 * pen
    start = dataclasses.replace(here, iou=search.score(here.code, here.numbers, BLANK))
    found = search.improve(start, BLANK, 60)
    assert found.code.stroke == wanted
    assert torch.equal(found.numbers, here.numbers)


@pytest.mark.parametrize("stroke", [0, 77])
def test_the_centre_of_a_symmetry_is_moved_too(landscape, stroke):
    here = begin(landscape, TURNS, {}, 24, symmetry=(3, 40, -60), kinds=(2, 0), stroke=stroke)
    landscape["centre"] = (42, -61)
    start = dataclasses.replace(here, iou=search.score(here.code, here.numbers, BLANK))
    found = search.improve(start, BLANK, 80)
    assert found.code.symmetry == (3, 41, -61)
    assert found.code.stroke == stroke


@pytest.mark.parametrize("length", [16, 24])
def test_whole_steps_change_many_numbers_at_once(landscape, length):
    off = {(k, j): (-1, 2, 0, 1, -2, 1)[(j + 2 * k) % 6] for k in (0, 1) for j in range(6)}
    here = begin(landscape, LEAN, off, length)
    told = []
    found = search.whole_steps(here, BLANK, told.append)
    best = max(found, key=lambda coded: coded.iou)
    assert torch.equal(best.numbers, landscape["goal"])
    assert len(told) == len(found) <= 3 * 8
    for coded in search.whole_steps(dataclasses.replace(here, numbers=best.numbers), BLANK):
        assert not torch.equal(coded.numbers, best.numbers), "what is there is not judged again"


def test_steps_of_a_pen_and_a_centre_stay_in_their_ranges():
    code = dataclasses.replace(search.encodings(system(TURNS))[-1], stroke=2, kinds=(2, 0),
                               symmetry=(2, 1022, -1023))  # fmt: skip
    assert search.nudged(code, 0, 3).stroke == 5
    assert search.nudged(code, 0, -7).stroke == 1, "a pen stays one"
    assert search.nudged(dataclasses.replace(code, stroke=254), 0, 7).stroke == 255
    assert search.nudged(code, 1, 4).symmetry == (2, 1023, -1023)
    assert search.nudged(code, 2, -4).symmetry == (2, 1022, -1024)
    assert search.nudged(code, 2, 1).symmetry == (2, 1022, -1022)


def test_a_code_has_four_numbers_a_map_only_where_all_maps_are_nearly_similarities():
    nearly = affine(0.5, 0, 0, 0.476)  # 0.048 of relative difference
    for maps, kinds in (([nearly] * 2, [False, True]), ([nearly, affine(0.5, 0, 0, 0.47)], [False]),
                        ([affine(0.5, 0, 0, 0.47)] * 2, [False])):  # fmt: skip
        codes = search.encodings(system(torch.tensor(maps)))
        assert [code.similar for code in codes] == kinds
        assert [search.columns(code) for code in codes] == [4 if kind else 6 for kind in kinds]
    (code,) = search.encodings(system(LEAN / 2, window=(0.5, 1.5, -2, -1), stroke=0.02, size=48))
    assert (code.window, code.size, code.n) == ((0.5, -2.0, 1.0), 48, 2)
    assert code.radius == pytest.approx(0.02, rel=0.1)
    with pytest.raises(InputError, match="at most 255 maps, not 256; fit again with --maps 255"):
        search.encodings(system(torch.tensor([similarity(0.01)] * 256)))


def test_maps_that_rounding_lets_expand_are_drawn_together(monkeypatch):
    monkeypatch.setattr(search, "score", lambda *_, **__: 0.5)
    slow = torch.tensor([affine(0.985, 0.05, -0.02, 0.9), affine(0.2, 0, 0, 0.97)]).double()
    for length in (12, 16, 30):
        code = dataclasses.replace(search.encodings(system(slow))[0], length=length)
        found = search.rounded(code, slow, BLANK)
        assert singular_values(maps_of(code, found.numbers)).max() <= LARGEST
        assert search.contracts(code, found.numbers)
    plain = round_to_lattice(code, place_of(code, slow))
    assert torch.equal(found.numbers, plain), "and only those"
    wide = plain.clone()
    wide[0, 0] += code.steps // 50
    assert not search.contracts(code, wide)


def test_maps_have_an_order_of_their_own():
    maps = torch.cat([TURNS, LEAN])
    found = goals.sorted_maps(maps.float())
    assert torch.equal(found, goals.sorted_maps(maps.float().flip(0)))
    assert found.dtype == torch.float64
    assert found[:, 0, 0].tolist() == sorted(maps.float()[:, 0, 0].tolist())


# --- Grades ---


def test_the_map_that_is_missed_least_goes_first(monkeypatch):
    """Judged as contractions, without a pen's edges."""
    seen = []

    def evaluate(maps, target, stroke, **options):
        seen.append((stroke, options, float(singular_values(maps).max())))
        return judge.Evaluation(0.5 + 0.1 * float(maps[0, 0, 2] > 0.35), 0, BLANK, 0)

    monkeypatch.setattr(grades, "evaluate", evaluate)
    maps = torch.cat([LEAN, affine_rows(0.995, 0.1)])
    assert torch.equal(grades.fewer(maps, BLANK, 0.03), maps[1:]), "the first then is at 0.4"
    assert [stroke for stroke, _, _ in seen] == [0.03] * 3
    assert max(most for _, _, most in seen) < 0.995


def affine_rows(scale: float, x: float) -> torch.Tensor:
    return torch.tensor([affine(scale, 0, 0, scale, x)]).double()


def test_how_much_a_map_is_felt_is_the_geometric_mean_of_its_axes(monkeypatch):
    """Curvatures of 4 and 1 in each of three pairs, and of 100 and 25: 2 and 50, by the square of
    the lattice's steps a stride."""
    code = dataclasses.replace(search.encodings(system(LEAN))[0], length=30)
    fine = finest(code)
    axes = torch.tensor([4.0, 1, 4, 1, 4, 1, 100, 25, 100, 25, 100, 25]).double()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))[0]
    turn = torch.block_diag(turn, turn).double()
    hessian = turn @ axes.diag() @ turn.T
    monkeypatch.setattr(grades, "linearised", lambda here, target: (hessian, axes))
    felt = grades.sensitivities(code, LEAN, BLANK)
    factor = (fine.steps / stride(fine)) ** 2
    assert felt.tolist() == pytest.approx([2 * factor, 50 * factor], rel=1e-4)


@pytest.mark.parametrize(("tall", "kinds"), [(0.6, (1, 0, 7, 0)), (0.1, (0, 0, 8, 0))])
def test_a_small_map_is_small_in_both_of_its_rows(tall, kinds):
    """Half of it, 0.05 and 0.05 or 0.3, is at most 0.24 of what a row can hold."""
    small = [affine(0.1, 0, 0, 0.1, 0.8 * (k % 3 - 1), 0.8 * (k // 3 - 1)) for k in range(7)]
    maps = torch.tensor([*small, affine(0.1, 0, 0, tall, 0.5)]).double()
    code = dataclasses.replace(search.encodings(system(maps))[0], length=60)
    way, ordered = grades.graded(code, maps, torch.ones(8).double())
    assert way.kinds == kinds
    assert torch.equal(ordered[0], maps[7 if kinds[0] else 0]), "the full lattice comes first"


# --- Boxes ---


def test_of_boxes_the_one_that_loses_least_is_taken_and_judged_more_finely(monkeypatch):
    boxes = []

    def score(code, numbers, target, supersample=3, quality="draft"):
        if supersample == 1:
            boxes.append(code.box)
        return 0.5 + 0.01 * (len(boxes) == 3) if supersample == 1 else 0.4 + 0.05 * supersample

    monkeypatch.setattr(search, "score", score)
    told = []
    code = dataclasses.replace(search.encodings(system(LEAN))[0], length=20)
    found = search.best_box(code, LEAN, BLANK, told.append)
    assert len(boxes) > 3
    assert len(told) == len(boxes) == len(set(boxes))
    assert found.code.box == boxes[2]
    assert found.iou == 0.5, "with 2 × 2 sub-pixels"


# --- Symmetries ---


def test_of_symmetries_the_one_with_the_fewest_maps_comes_first(monkeypatch):
    """The carpet about (0, 0): one side, a half turn, a quarter turn; systems as good as before."""
    target = torch.zeros(81, 81)
    target[9:72, 9:72] = 1
    monkeypatch.setattr(
        symmetry,
        "evaluate",
        lambda maps, small, radius, quality: judge.Evaluation(0.9, 0, small, 0.9),
    )
    code = search.encodings(system(CARPET))[-1]
    found = symmetry.symmetric_codes(code, CARPET.double(), target)
    counts = [way.n for way, _ in found]
    assert counts == sorted(counts)
    assert counts[0] == 2
    assert all(way.drawn <= 9 and way.n == len(maps) for way, maps in found)
    assert {way.symmetry[1:] for way, _ in found} == {(0,), (0, 0)}
    moved = symmetry.symmetric_codes(code, CARPET.double(), target.roll(-4, 0))
    # four rows up, of 81: 8/81 of half a side, of 1024 steps
    assert {way.symmetry[-1] for way, _ in moved if way.symmetry[0]} == {101}
    by_kind = {way.symmetry[0]: way.kinds for way, _ in found}
    assert by_kind[0] == (3, 2), "three maps on one side, two across the mirror"
    assert symmetry.symmetric_codes(code, CARPET.double(), torch.zeros(81, 81)) == []


def test_a_symmetry_that_loses_more_than_a_twentieth_is_none(monkeypatch):
    target = torch.zeros(64, 64)
    target[8:56, 8:56] = 1
    for lost, there in ((0.049, True), (0.051, False)):
        ious = iter([0.9])
        monkeypatch.setattr(symmetry, "evaluate", lambda *_, ious=ious, lost=lost, **__:
                            judge.Evaluation(next(ious, 0.9 - lost), 0, target, 0))  # fmt: skip
        code = search.encodings(system(CARPET))[-1]
        assert bool(symmetry.symmetric_codes(code, CARPET.double(), target)) == there
