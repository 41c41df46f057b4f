"""Which lengths are tried for what is asked, where how good each would be is known beforehand."""

from types import SimpleNamespace

import pytest
import torch
from systems import KOCH

from diff_ifs.compress import goals
from diff_ifs.errors import InputError
from diff_ifs.setup import WINDOW, similarity

LEAST = 10  # bytes of a header and the coarsest lattice


@pytest.fixture
def search(monkeypatch):
    """IoU by length as rounded and as refitted; what was refitted and improved is kept."""
    made = {"rounded": {}, "refitted": {}, "refits": [], "improved": []}

    def coded(code, ious):
        if ious.get(code.length, 0) is None:
            raise InputError("too few")
        return SimpleNamespace(code=code, iou=ious.get(code.length, 0))

    def refit(code, maps, target, *options, **more):
        made["refits"].append(code.length)
        return coded(code, made["refitted"])

    def improve(best, target, *options):
        made["improved"].append((best.code.length, *options[:2]))
        return best

    monkeypatch.setattr(goals, "fewest_bytes", lambda code: code.least)
    monkeypatch.setattr(goals, "rounded", lambda code, *_: coded(code, made["rounded"]))
    monkeypatch.setattr(goals, "best_box", lambda code, *_: coded(code, made["rounded"]))
    monkeypatch.setattr(goals, "refit", refit)
    monkeypatch.setattr(goals, "improve", improve)
    return made


def way(least: int = LEAST, felt: bool = True, n: int = 3):
    code = SimpleNamespace(least=least, n=n, header=lambda: (0, 24))
    return SimpleNamespace(
        code=code, maps=None, felt=felt or None, numbers=6 * n,
        at=lambda length: (SimpleNamespace(length=length, least=least, n=n), None),
    )  # fmt: skip


def from_(length: int, most: int = 100) -> dict[int, float]:
    """Good enough from so many bytes on."""
    return {k: 0.95 if k >= length else 0.5 for k in range(1, most)}


@pytest.mark.parametrize(
    ("plain", "refitted", "most", "length"),
    [
        (40, 35, 60, 35),
        (40, 40, 60, 40),
        (40, 10, 60, 28),  # never less than seven tenths of what rounding needs
        (12, 1, 60, 10),  # nor than the least
        (10, 10, 60, 10),
        (60, 59, 60, 59),
        (61, 20, 60, None),  # rounding alone must do at some length
    ],
)
def test_of_many_numbers_the_length_is_halved_upon(plain, refitted, most, length, search):
    search.update(rounded=from_(plain), refitted=from_(refitted))
    found = goals._shortest(way(), None, most, lambda coded: coded.iou >= 0.9, (7, 0.9, bool))
    assert (found and found.code.length) == length
    assert len(search["refits"]) <= 4


@pytest.mark.parametrize(
    ("plain", "refitted", "most", "length", "refits"),
    [
        ({12: 0.87, 13: 0.95}, {12: 0.91}, 20, 12, [12]),
        ({12: 0.85, 13: 0.95}, {12: 0.91}, 20, 13, []),  # too far off for a refit
        ({11: None, 12: 0.87, 13: 0.89}, {12: 0.89, 13: 0.9}, 20, 13, [12, 13]),
        ({20: 0.9}, {}, 20, 20, []),
        ({21: 0.9}, {}, 20, None, []),
        ({9: 0.99, 10: 0.9}, {}, 20, 10, []),
    ],
)
def test_of_few_numbers_each_length_is_tried(plain, refitted, most, length, refits, search):
    search.update(rounded=plain, refitted=refitted)
    found = goals._shortest_of_few(way(), None, most, lambda c: c.iou >= 0.9, (7, 0.9, bool))
    assert (found and found.code.length) == length
    assert search["refits"] == refits


@pytest.mark.parametrize(
    ("found", "plain", "refitted", "refits", "best"),
    [
        ([way()], {30: 0.9, 29: 0.99}, {30: 0.93}, [30], 30),  # of many numbers, just that length
        ([way(felt=False)], {30: 0.9, 29: 0.903, 28: 0.8}, {30: 0.91, 29: 0.92}, [29, 30], 29),
        ([way(felt=False)], {30: 0.9, 29: 0.905, 28: 0.8}, {30: 0.99, 29: 0.92}, [29], 29),
        ([way(felt=False)], {30: 0.9, 29: 0.9, 28: 0.901}, {30: 0.99, 28: 0.98}, [28, 30], 30),
        ([way(felt=False)], {30: 0.9, 27: 0.99}, {30: 0.99}, [30], 30),
        ([way(felt=False)], {30: None, 29: 0.8, 28: 0.1}, {29: 0.9}, [29], 29),
        ([way(31), way(30)], {30: 0.9}, {30: 0.9}, [30], 30),
    ],
)
def test_of_the_lengths_the_likely_ones_are_refitted_and_the_best_is_improved(
    found, plain, refitted, refits, best, search
):
    search.update(rounded=plain, refitted=refitted)
    assert goals.best_of(found, None, 30, 55).code.length == best
    assert search["refits"] == refits
    assert search["improved"] == [(best, 55, 1.0)]


def test_what_even_the_fewest_bytes_have_no_room_for_is_said(search):
    with pytest.raises(InputError) as caught:
        goals.best_of([way(34, n=5), way(33, n=4)], None, 30, 55)
    assert str(caught.value) == "even 4 of its maps needs at least 33 bytes, not 30"


SQUARE = torch.tensor([similarity(0.5, at=(x, y)) for x in (-0.25, 0.25) for y in (-0.25, 0.25)])
SYSTEM = {"maps": SQUARE, "window": WINDOW, "stroke": 0.0, "size": 64}  # pixels 16 to 47
FILLED = torch.zeros(64, 64)
FILLED[16:48, 16:48] = 1


@pytest.mark.parametrize(
    ("loss", "lengths", "found"),
    [
        (0.05, [(True, 40), (False, 30)], 30),
        (0.05, [(True, 40), (False, 45)], 40),  # the next must be shorter
        (0.05, [(False, 12), (True, 40)], 12),
        (0.05, [(False, None), (True, 40)], 40),
        (0.05, [(False, None)], None),
    ],
)
def test_the_shortest_way_wins(loss, lengths, found, search, monkeypatch):
    """A way of many numbers needs so many bytes as it is rounded; one of few, as it is."""
    ways, asked = [], []
    for felt, length in lengths:
        ways.append(way(felt=felt))
        ways[-1].length = length

    def shortest(some, target, most, good, options):
        asked.append((most, options[:1], options[1]))
        coded = SimpleNamespace(
            iou=options[1], code=SimpleNamespace(length=some.length), numbers=None
        )
        fits = some.length is not None and some.length <= most
        assert good(coded)
        coded.iou -= 1e-6
        assert not good(coded)
        return SimpleNamespace(code=coded.code) if fits else None

    monkeypatch.setattr(goals, "ways", lambda *_: ways)
    monkeypatch.setattr(goals, "_shortest", shortest)
    monkeypatch.setattr(goals, "_shortest_of_few", shortest)
    monkeypatch.setattr(goals, "score", lambda *_, quality: {"final": 0.951}[quality])
    if found is None:
        with pytest.raises(InputError, match=r"no number of bytes reaches an IoU of 0\.9500; give"):
            goals.fit_within(SYSTEM, FILLED, loss, 7)
        return
    assert goals.fit_within(SYSTEM, FILLED, loss, 7).code.length == found
    assert asked[0][:2] == ((24 + 16 * 18) // 8 + 1, (7,)), "a header, and 16 bits a number"
    assert asked[0][2] == pytest.approx(0.95), "all of the IoU, less what may be lost"
    if len(asked) > 1:
        best = lengths[0][1]
        assert asked[1][0] == (40 if best is None else best - 1)


def test_with_all_edges_drawn_no_more_may_be_lost_either(search, monkeypatch):
    seen = []

    def shortest(some, target, most, good, options):
        seen.append(good(SimpleNamespace(iou=1.0, code=None, numbers=None)))

    monkeypatch.setattr(goals, "ways", lambda *_: [way()])
    monkeypatch.setattr(goals, "_shortest", shortest)
    for final in (0.94, 0.96):
        monkeypatch.setattr(goals, "score", lambda *_, quality, iou=final: iou)
        with pytest.raises(InputError):
            goals.fit_within(SYSTEM, FILLED, 0.05)
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("length", "kept"), [(5, [1, 1]), (17, [3, 2]), (18, [4, 3]), (30, [8, 6]), (42, [9, 9])]
)
def test_few_bytes_are_tried_with_fewer_maps_too(length, kept, search, monkeypatch):
    """(8 · bytes - 46) bits are for maps of 24 and of 32; 42 bytes hold nine of 32."""
    counts = []
    maps = torch.cat([KOCH, KOCH, KOCH[:1]]).double()
    monkeypatch.setattr(goals, "ways", lambda system, target: [])
    monkeypatch.setattr(goals, "encodings", lambda system: [len(system["maps"])])
    monkeypatch.setattr(goals, "fewer", lambda maps, target, stroke: maps[:-1])
    monkeypatch.setattr(goals, "descended", lambda code, maps, target: (code, maps))
    monkeypatch.setattr(goals, "_way", lambda code, maps, target: counts.append(code))
    monkeypatch.setattr(goals, "best_of", lambda found, *options: options[1:3])
    assert goals.fit_into({**SYSTEM, "maps": maps}, None, length, 9) == (length, 9)
    wanted = [n for n, before in zip(kept, [9, kept[0]], strict=True) if n < before]
    assert counts == wanted
