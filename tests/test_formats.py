"""Files of other programs: what they mean is told by chaos games in a few lines of numpy, and by
twins worked out by hand.
"""

import json
import math
import shutil
import subprocess
from pathlib import Path

import drawings
import numpy as np
import pytest
import torch
from drawings import PLACES
from games import apart, played, written
from PIL import Image
from refusals import refusal
from systems import CARPET, CORNER_GASKET, FERN, KOCH

import compress_ifs
import render_ifs
import train_ifs
from diff_ifs.draw import chain
from diff_ifs.draw.coverage import occupancy
from diff_ifs.draw.density import density_strips
from diff_ifs.draw.geometry import View
from diff_ifs.files.setup_file import setup_from
from diff_ifs.files.system import load_system
from diff_ifs.formats.contraction import contraction, spectral_radii, stretches
from diff_ifs.formats.exchange import decode
from diff_ifs.formats.rules import own_window, prepared


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def turned(degrees, scale, x, y):
    """The coefs of a similarity."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return (c, s, -s, c, x, y)


LEAF = [
    {"coefs": turned(30, 0.6, 0.3, 0.2)},
    {"coefs": turned(-50, 0.7, -0.4, 0.1)},
    {"coefs": (0.3, 0.2, -0.1, 0.4, 0.1, -0.6)},
]
QUARTERS = [{"coefs": (0.5, 0, 0, 0.5, x, y)} for x in (-0.5, 0.5) for y in (-0.5, 0.5)]


def with_(xforms, **lists):
    """Xforms with more attributes, one value for each."""
    return [
        {**f, **{key: values[k] for key, values in lists.items()}} for k, f in enumerate(xforms)
    ]


FLAMES = {
    "plain": {"xforms": LEAF},
    "an amount": {"xforms": with_(LEAF, linear=[0.8, 0.9, 1.2])},
    "post": {
        "xforms": with_(
            LEAF,
            post=[(0.9, 0.1, -0.2, 0.8, 0.1, 0.2), turned(70, 1, 0, 0), turned(0, 1, 0.2, 0.1)],
        )
    },
    "rotate": {"xforms": LEAF, "rotate": 40, "center": (0.2, -0.1), "scale": 45},
    "a final xform": {"xforms": LEAF, "finals": [(1.2, 0.3, -0.5, 0.4, 0.1, 0.2)], "rotate": -20},
    "a flat final xform": {"xforms": LEAF, "finals": [(1.2, 0.6, 0.6, 0.3, 0.1, 0.2)]},
    "hidden": {"xforms": with_(LEAF, opacity=[1, 0, 1])},
    "two hidden": {"xforms": with_(LEAF, opacity=[0, 1, 0]), "finals": [(1, 0.3, 0, 1, 0.1, 0)]},
    "all that is flat is shown": {
        "xforms": with_([*LEAF, {"coefs": (0.4, 0.4, 0.2, 0.2, 0, 0)}], opacity=[0, 0, 0, 1])
    },
    "no weight": {"xforms": with_(QUARTERS, weight=[1, 2, 0, 1])},
    "chaos without zeros": {"xforms": with_(LEAF, chaos=[(1, 2, 3), (0.5, 1), (9,)])},
    "none after itself": {
        "xforms": with_(QUARTERS, chaos=[[int(i != j) for j in range(4)] for i in range(4)])
    },
    "forbidden": {"xforms": with_(LEAF, chaos=[(1, 1, 0), (0, 1, 1), (1, 0, 1)])},
    "left for good": {"xforms": with_(LEAF, chaos=[(0, 1, 1), (0, 1, 1), (0, 1, 1)])},
    # What an editor makes of a linked xform: hidden, and followed by one that is an isometry.
    "linked": {
        "xforms": with_(
            [LEAF[0], LEAF[1], {"coefs": turned(90, 1, 0, 0)}],
            chaos=[(0, 0, 1), (1, 1, 0), (1, 1, 0)],
            opacity=[0, 1, 1],
            post=[turned(0, 1, 0, 0)] * 2 + [turned(10, 1, 0.2, 0)],
        )
    },
    "stretches": {
        "xforms": with_(
            LEAF, coefs=[(0.2, 1.4, -0.1, 0.3, 0.3, 0.2), LEAF[2]["coefs"], turned(9, 0.4, 0.5, 0)]
        )
    },
    "a half turn": {"xforms": [*LEAF[:2], {"coefs": turned(180, 1, 0.2, 0.1)}]},
    "a hidden half turn": {
        "xforms": with_([*LEAF[1:], {"coefs": turned(180, 1, 0.2, 0.1)}], opacity=[1, 1, 0])
    },
}  # fmt: skip


def drawn(system, window=None, size=96):
    """The pixels in which there is something, one sample a pixel."""
    window = window or system.window
    if system.picture is not None:
        return chain.coverage(View(window, size, chain=system.picture)).numpy() > 0
    return occupancy(torch.from_numpy(system.maps), window, size, supersample=1).numpy() > 0


@pytest.mark.slow
@pytest.mark.parametrize("flame", FLAMES.values(), ids=FLAMES)
def test_a_flame_is_drawn_as_the_chaos_game_of_its_rules(flame):
    flame = {"scale": 30, "size": 96, **flame}
    Path("test.flame").write_bytes(written(**flame))
    ours, theirs = drawn(load_system("test.flame")), played(**flame)
    assert theirs.sum() > 20
    assert apart(theirs, ours & theirs) <= 0.02 * theirs.sum()
    assert apart(ours, theirs) <= 0.004 * theirs.sum()  # what a game comes to but rarely
    assert (ours & theirs).sum() > 0.9 * theirs.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["an amount", "a final xform", "hidden", "chaos without zeros", "forbidden", "a half turn"],
)
def test_the_measure_of_a_flame_is_that_of_its_chaos_game(name):
    flame = {"scale": 20, "size": 64, **FLAMES[name]}
    flame["xforms"] = with_(flame["xforms"], weight=[1, 0.3, 0.5])
    Path("test.flame").write_bytes(written(**flame))
    system = load_system("test.flame")
    if system.measure is not None:
        ours = chain.mass(system.measure, system.window, 64).numpy()
    else:
        weights = torch.from_numpy(system.weights)
        maps = torch.from_numpy(system.maps)
        (ours,) = density_strips(maps, View(system.window, 64, weights=weights))
        ours = ours.numpy()
    theirs = played(**flame, steps=1200, counts=True) / (4000 * 999)
    assert theirs.sum() > 0.3
    ours, theirs = (mass.reshape(16, 4, 16, 4).sum(axis=(1, 3)) for mass in (ours, theirs))
    assert np.abs(ours - theirs).sum() < 0.05 * theirs.sum()


@pytest.mark.slow
def test_a_zoom_into_forbidden_words_shows_what_a_long_game_has_there():
    flame = {**FLAMES["forbidden"], "scale": 30, "size": 96}
    Path("test.flame").write_bytes(written(**flame))
    system = load_system("test.flame")
    row, column = np.argwhere(drawn(system))[40]
    x, y = system.window[0] + (column + 0.5) / 30, system.window[3] - (row + 0.5) / 30
    ours = drawn(system, (x - 0.16, x + 0.16, y - 0.16, y + 0.16))
    theirs = played(**{**flame, "scale": 300, "center": (x, -y)}, steps=1500)
    assert ours.sum() > 60
    assert apart(theirs, ours & theirs) <= 0.02 * theirs.sum()
    assert apart(ours, theirs) <= 0.05 * theirs.sum()


# --- Flames: how they say things ---

GASKET = 'coefs="0.5 0 0 0.5 {} {}"'
THREE = [GASKET.format(x, y) for x, y in ((0, 0), (0.5, 0), (0.25, -0.433))]


def flame(xforms, head='size="64 64" center="0.5 -0.4" scale="60"', more=""):
    return (
        f"<flame name='a' {head}>{''.join(f'<xform {x}/>' for x in xforms)}{more}</flame>".encode()
    )


PLAIN = prepared(decode(flame([f'linear="1" {x}' for x in THREE]), ".flame"))


@pytest.mark.parametrize(
    "said",
    [
        'var1="0"',
        'var="1 0 0 0"',
        'linear3D="1.0" color_type="DIFFUSION" material="0.5" mod_gamma="0.5" '
        'linear3D_fx_priority="0"',
        'linear="1" flatten="1" pre_zscale="2" post_flatten="1"',
        'linear="0.5" linear3D="0.5" julian="0" julian_power="3" color="0.3" var_color="1" '
        'symmetry="0.5" animate="1"',
        'linear="1" post="1 0 0 1 0 0" yzCoefs="1 0 0 1 0 0" name="sin" plotmode="on" '
        'opacity="0.5"',
        'weight="2" linear="1" chaos="1 1 1"',
    ],
)
def test_what_moves_nothing_is_passed_over(said):
    found = prepared(decode(flame([f"{said} {x}" for x in THREE]), ".flame"))
    assert np.allclose(found.maps, PLAIN.maps)
    assert found.picture is None


def test_planes_of_space_that_move_something_are_refused():
    moved = flame([f'linear="1" zxCoefs="1 0 0 1 0.5 0" {x}' for x in THREE])
    with pytest.raises(ValueError, match="xform 1 has the variation 'zxCoefs'"):
        decode(moved, ".flame")


def test_spectral_radii_are_the_largest_of_the_eigenvalues():
    linear = np.random.default_rng(0).normal(size=(200, 2, 2))
    assert np.allclose(spectral_radii(linear), np.abs(np.linalg.eigvals(linear)).max(axis=1))


@pytest.mark.parametrize(
    ("head", "window"),
    [
        ('size="200 100" center="0.5 -0.25" scale="50"', (-1.5, 2.5, -1.75, 2.25)),
        ('size="100 200" center="0 0" scale="50"', (-2, 2, -2, 2)),
        ('size="100 100" center="0 0" scale="50" zoom="2"', (-0.25, 0.25, -0.25, 0.25)),
        ('size="100 100" center="0 0" scale="50" cam_zoom="2"', (-0.5, 0.5, -0.5, 0.5)),
        ('size="100 100" center="0 0" scale="50" rotate="0" angle="0"', (-1, 1, -1, 1)),
    ],
)
def test_the_window_of_a_flame_is_the_square_of_its_longer_side(head, window):
    assert decode(flame([f'linear="1" {THREE[0]}'], head), ".flame").window == pytest.approx(window)


def test_the_angle_of_apophysis_is_minus_the_rotation_in_radians():
    one, other = (
        prepared(decode(flame([f'linear="1" {x}' for x in THREE], head), ".flame"))
        for head in ('scale="60" rotate="30"', f'scale="60" angle="{-math.pi / 6}"')
    )
    assert np.allclose(one.maps, other.maps)
    assert not np.allclose(one.maps, PLAIN.maps)


@pytest.mark.parametrize(
    ("kind", "count"),
    [("3", 3), ("1", 1), ("2", 2), ("-1", 2), ("-2", 4), ("-3", 6), ("6", 6)],
)
def test_a_symmetry_repeats_every_map(kind, count):
    found = prepared(
        decode(
            flame(['linear="1" coefs="0.5 0 0 0.5 0.1 -0.5"'], more=f'<symmetry kind="{kind}"/>'),
            ".flame",
        )
    )
    places = found.maps @ np.array([0, 0, 1])
    expected = [
        (math.cos(2 * math.pi * k / int(kind)), math.sin(2 * math.pi * k / int(kind)))
        for k in range(abs(int(kind)))
    ]
    corner = np.array([0.1, 0.5])
    turns = [np.array([[c, -s], [s, c]]) for c, s in expected]
    flips = [turn @ np.diag([-1, 1]) for turn in turns] if int(kind) < 0 else []
    wanted = np.array([turn @ corner for turn in turns + flips])
    assert len(places) == count == len(wanted)
    assert np.abs(places[:, None] - wanted).max(axis=2).min(axis=1).max() < 1e-9


def test_of_several_flames_one_is_drawn_and_it_says_of_how_many(capsys):
    parts = [
        flame(['linear="1" coefs="0.5 0 0 0.5 0 0"'] * n).replace(b"'a'", b"'%c'" % (96 + n))
        for n in (1, 2, 3)
    ]
    inner = (
        b"<edit><flame name='b'><xform linear='1' coefs='0.1 0 0 0.1 0 0'/></flame></edit></flame>"
    )
    Path("some.flame").write_bytes(
        b"<flames>" + b"".join(parts).replace(b"</flame>", inner) + b"</flames>"
    )
    for arguments, n in ([], 1), (["--flame", "2"], 2), (["--flame", "c"], 3):
        assert len(load_system("some.flame", *arguments[1:]).maps) == n
        assert render_ifs.main(["some.flame", "20", "16", "--quiet", *arguments]) == 0
        said = capsys.readouterr().err
        assert "it holds 3 flames" in said
        assert f"this is {n}, '{chr(96 + n)}'" in said
    said = refusal(render_ifs.main, ["some.flame", "20", "16", "--flame", "d"], capsys)
    assert "it has no flame 'd', but 'a', 'b', 'c'" in said
    Path("many.flame").write_bytes(b"<flames>" + 10 * parts[0] + b"</flames>")
    said = refusal(render_ifs.main, ["many.flame", "20", "16", "--flame", "11"], capsys)
    assert "it has no flame '11', but " + ", ".join(8 * ["'a'"]) + " and 2 more" in said


# --- Fractint and CSV ---

BINARY = """; made by hand
binary { ; a comment
  .5 .0 .0 .5 -2.563477 -0.000003 .333333 ; another
  .5,.0,.0,.5,\t2.436544 -0.000003 .333333

 .0 -.5 .5 .0 4.873085 7.563492 .333333
 }
Comment { whoever wrote this }
space (3D) { .0 .0 .0 .0 .18 .0 .0 .0 .0 .0 .0 .0 .01 }
Two Words {.5 0 0 .5 0 0
 .5 0 0 .5 1 1}
"""
BINARY_MAPS = [
    [[0.5, 0, -2.563477], [0, 0.5, -0.000003]],
    [[0.5, 0, 2.436544], [0, 0.5, -0.000003]],
    [[0, -0.5, 4.873085], [0.5, 0, 7.563492]],
]


def test_an_entry_of_fractint_is_read_with_its_comments(capsys):
    Path("some.ifs").write_text(BINARY)
    assert np.array_equal(load_system("some.ifs").maps, BINARY_MAPS)
    assert load_system("some.ifs", entry="two words").maps[1].tolist() == [[0.5, 0, 1], [0, 0.5, 1]]
    assert render_ifs.main(["some.ifs", "20", "16", "--quiet", "--entry", "BINARY"]) == 0
    assert "it holds 3 entries, of which this is 'binary'" in capsys.readouterr().err
    for entry, words in (
        ("space", "three-dimensional (3D)"),
        ("none", "no entry 'none', but 'binary', 'space', 'Two Words'"),
    ):
        assert words in refusal(render_ifs.main, ["some.ifs", "20", "16", "--entry", entry], capsys)


@pytest.mark.parametrize(
    "text",
    [
        ".5 0 0 .5 -2.563477 -0.000003\n.5 0 0 .5 2.436544 -0.000003\n0 -.5 .5 0 4.873085 7.563492",
        "a,b,c,d,e,f,p\r\n.5,0,0,.5,-2.563477,-0.000003,1\r\n"
        ".5,0,0,.5,2.436544,-0.000003,1\r\n0,-.5,.5,0,4.873085,7.563492,1",
        "# rows\n.5; 0; 0; .5; -2.563477; -3e-6;\n.5\t0\t0\t.5\t2.436544\t-3E-06\n"
        "# a turn\n0 -.5 .5 0 4.873085 7.563492 # by 90°\n\n",
    ],
)
def test_rows_of_numbers_are_maps(text):
    assert np.array_equal(prepared(decode(text.encode(), ".csv")).maps, BINARY_MAPS)


def test_numbers_of_an_entry_may_stand_on_any_lines():
    numbers = " ".join(
        str(x) for (a, b, e), (c, d, f) in BINARY_MAPS for x in (a, b, c, d, e, f, 0.33)
    )
    words = numbers.split()
    text = "odd {" + "\n".join(" ".join(words[k : k + 4]) for k in range(0, len(words), 4)) + "}"
    assert np.array_equal(prepared(decode(text.encode(), ".ifs")).maps, BINARY_MAPS)


def test_the_first_byte_tells_our_code_from_text():
    from diff_ifs.formats.fractint import is_text

    assert is_text(BINARY.encode())  # which begins with a byte that our code may begin with, too
    assert is_text(BINARY[15:].encode())
    assert not is_text(b"\x3b{{{{")
    assert not is_text(b"; a {" + bytes(range(40)))


@pytest.mark.parametrize("end", [".json", ".flame", "_fractint.ifs"])
def test_what_is_exported_comes_back_with_the_weights_of_the_file_or_by_area(end):
    """Of maps of a half and of a quarter, the first has four times the area."""
    maps = [[[0.5, 0.0, 0.1], [0.0, 0.5, 0.2]], [[0.0, -0.25, 0.3], [0.25, 0.0, -0.4]]]
    for given, wanted in (({"weights": [0.3, 0.7]}, [0.3, 0.7]), ({}, [0.8, 0.2])):
        Path("some.json").write_text(json.dumps({"maps": maps, **given}))
        kind, out = end.strip("_.").removesuffix(".ifs"), f"copy{end}"
        assert compress_ifs.main(["some.json", "--export", kind, "--out", out]) == 0
        back = load_system(out)
        assert back.maps.tolist() == maps
        assert back.weights == pytest.approx(wanted)


# --- What has an attractor ---


@pytest.mark.slow
def test_maps_that_stretch_may_have_an_attractor_and_the_rate_bounds_all_products():
    chance, decided = np.random.default_rng(3), [0, 0]
    for _ in range(150):
        maps = chance.uniform(-1, 1, (chance.integers(2, 6), 2, 3))
        try:
            rate = contraction(maps)
        except ValueError:
            decided[1] += 1
            continue
        decided[0] += stretches(maps[:, :, :2]).max() > 1
        words = maps[chance.integers(len(maps), size=(500, 12)), :, :2]
        product = words[:, 0]
        for letter in range(1, 12):
            product = product @ words[:, letter]
        assert spectral_radii(product).max() <= rate**12 + 1e-9
    assert min(decided) > 20


def test_a_product_that_grows_is_named(capsys):
    rows = [[[0.1, 2, 0], [0, 0.1, 0]], [[0.3, 0, 1], [0, 0.3, 0]], [[0.1, 0, 0], [2, 0.1, 1]]]
    Path("grows.json").write_text(json.dumps({"maps": rows}))
    said = refusal(render_ifs.main, ["grows.json", "20", "16"], capsys)
    assert "one after the other do not shrink" in said
    assert "maps 3 and 1" in said
    Path("grows.json").write_text(json.dumps({"maps": [rows[1], [[1.1, 0, 0], [0, 0.2, 0]]]}))
    assert "map 2 does not shrink" in refusal(render_ifs.main, ["grows.json", "20", "16"], capsys)


def test_in_a_flame_a_product_is_named_by_its_xforms_and_counts_only_if_it_is_allowed():
    long, wide = ('linear="1" coefs="1.5 0 0 0.2 0 0"', 'linear="1" coefs="0.2 0 0 1.5 1 0"')
    with pytest.raises(ValueError, match="xform 1 does not shrink"):
        prepared(decode(flame([long, wide]), ".flame"))
    once = [f'{long} chaos="0 1"', f'{wide} chaos="1 0"']
    assert prepared(decode(flame(once), ".flame")).rate < 0.99  # one after the other they shrink
    large = [f"{one} post='2 0 0 2 0 0'" for one in once]
    with pytest.raises(ValueError, match=r"xforms [12] and [12] one after the other do not shrink"):
        prepared(decode(flame(large), ".flame"))


@pytest.mark.parametrize(
    ("maps", "window"),
    [
        (CORNER_GASKET.double().numpy(), (-1.08, 1.08, -1.08, 1.08)),
        (
            CARPET.double().numpy() + np.array([[0, 0, 40 * 2 / 3]]),
            (39 - 1 + 1 - 0.08, 41 + 0.08, 39 - 0.08 + 0, 41 + 0.08),
        ),
    ],
)
def test_the_window_of_a_file_without_one_is_its_own_box_and_four_percent(maps, window):
    found = own_window(prepared(decode(json.dumps({"maps": maps.tolist()}).encode(), ".json")))
    assert found == pytest.approx(window, abs=0.01)


def test_a_window_has_room_for_the_pen():
    found = prepared(decode(json.dumps({"maps": CARPET.tolist()}).encode(), ".json"))
    bare, pen = (np.array(own_window(found, stroke)) for stroke in (0.0, 0.25))
    assert pen - bare == pytest.approx(np.array([-1, 1, -1, 1]) * 0.25 * 1.08)


@pytest.mark.parametrize("off", ["0", "false"])
def test_layers_that_are_not_visible_are_no_part_of_a_flame(off):
    layers = f'<layer><xform linear="1" {THREE[1]}/></layer>'
    hidden = f'<layer visible="{off}"><xform linear="1" {THREE[2]}/></layer>'
    found = decode(flame([], more=hidden + layers + hidden), ".flame")
    assert found.maps == [[[0.5, 0.0, 0.5], [0.0, 0.5, 0.0]]]


def test_what_is_switched_off_in_a_flame_is_not_drawn():
    off, on = 'linear="1" plotmode="off" ' + THREE[0], 'linear="1" ' + THREE[1]
    final = '<finalxform linear="1" coefs="1 0 0 1 1 0" enabled="{}"/>'
    found = [decode(flame([off, on], more=final.format(k)), ".flame") for k in (0, 1)]
    assert found[0].opacities == [0.0, 1.0]
    assert [len(rules.finals) for rules in found] == [0, 1]


def test_opacities_are_from_nothing_to_all():
    said = [f'linear="1" opacity="{o}" {x}' for o, x in zip((2, -1, 0.5), THREE, strict=True)]
    assert decode(flame(said), ".flame").opacities == [1.0, 0.0, 0.5]


def test_what_a_final_xform_of_some_opacity_leaves_stays_where_it_is():
    """Of three specks, a quarter of the light is moved to the right by one."""
    final = '<finalxform linear="1" coefs="1 0 0 1 1 0" opacity="0.25"/>'
    specks = [f'linear="1" coefs="0.001 0 0 0.001 {x} {y}"' for x, y in ((-1, 0), (-0.5, 0.3))]
    found = prepared(decode(flame(specks, more=final), ".flame"))
    mass = chain.mass(found.picture, (-1.5, 1.5, -1.5, 1.5), 30).numpy()
    assert mass[:, :12].sum() == pytest.approx(0.75, abs=0.01)
    assert mass[:, 14:].sum() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_pen_follows_what_is_shown_where_maps_are_hidden(parts):
    xforms = [
        f'linear="1" opacity="{opacity}" coefs="1e-5 0 0 1e-5 {x} {-y}"'
        for opacity, (x, y) in zip((1, 0, 1), PLACES, strict=True)
    ]
    Path("pens.flame").write_bytes(flame(xforms, 'stroke="0.2"'))
    options = ["--window", -1, 1, -1, 1, "--supersample", parts]
    for more, radius in (([], 0.2), (["--stroke", 0.3], 0.3), (["--stroke", 0], 0.0)):
        shown = drawings.drawn("pens.flame", 30, 48, *options, *more) / 255
        seen = drawings.discs(radius, 48, parts=parts, places=(PLACES[0], PLACES[2]))
        assert np.abs(shown - seen).max() < 0.003


def test_half_the_opacity_is_a_tenth_of_the_light():
    """Of three specks that are visited as often."""
    specks = [
        f'linear="1" opacity="{opacity}" coefs="0.001 0 0 0.001 {x} 0"'
        for x, opacity in ((-1, 1), (0, 0.5), (1, 0.25))
    ]
    found = prepared(decode(flame(specks), ".flame"))
    mass = chain.mass(found.measure, (-1.5, 1.5, -1.5, 1.5), 30).numpy().sum(0)
    light = [part.sum() for part in np.split(mass, 3)]
    assert light == pytest.approx([1 / 3, 1 / 30, 1 / 300], rel=0.01)


# --- Bad input ---

FEW = "0.5 0 0 0.5 0 0"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.flame",
            flame([f'linear="1" weight="-1" {x}' for x in THREE]),
            "xform 1 has a negative weight",
        ),
        (
            "a.flame",
            flame([f'linear="1" weight="0" {x}' for x in THREE]),
            "the weights of all xforms are 0",
        ),
        (
            "a.flame",
            flame([f'linear="1" opacity="0" {x}' for x in THREE]),
            "all of its xforms are hidden",
        ),
        (
            "a.flame",
            flame([f'linear="1" {THREE[0]}', f'linear="0" {THREE[1]}']),
            "xform 2 has no variation",
        ),
        ("a.flame", flame([THREE[0]]), "xform 1 has no variation"),
        ("a.flame", flame([f'var1="4" {THREE[0]}']), "xform 1 has the variation number 4"),
        ("a.flame", flame([f'var="1 0 0.5" {THREE[0]}']), "xform 1 has the variation number 2"),
        ("a.flame", flame([f'linear="1" pre_blur="0.1" {THREE[0]}']), "variation 'pre_blur'"),
        (
            "a.flame",
            flame([f'linear3D="1" linear3D_fx_priority="-1" {THREE[0]}']),
            "'linear3D_fx_priority'",
        ),
        (
            "a.flame",
            flame([f'linear="1" {THREE[0]}'], 'scale="9" cam_pitch="0.3"'),
            "three-dimensional (cam_pitch)",
        ),
        (
            "a.flame",
            flame([f'linear="1" {THREE[0]}'], more='<symmetry kind="0"/>'),
            "symmetry is of kind '0'",
        ),
        ("a.flame", flame([f'linear="1" chaos="0" {THREE[0]}']), "no xform may come after xform 1"),
        ("a.flame", flame([f'linear="1" chaos="-1" {THREE[0]}']), "chaos list"),
        (
            "a.flame",
            flame(['linear="1" coefs="1e200 0 0 1 0 0" post="1e200 0 0 1 0 0"']),
            "from -1000 to 1000",
        ),
        ("a.flame", flame([f'linear="1" weight="1e308" {x}' for x in THREE]), "from 0 to 1e12"),
        (
            "a.flame",
            flame([f'linear="1" {THREE[0]}']).replace(b"<xform", b"<layer/><layer/><xform"),
            "one layer",
        ),
        ("a.flame", b"<flame>" + b"<xform/>" * 1_100_000, "more than 8388608 bytes"),
        ("a.flame", b"<flame>" + b"<xform/>" * 100_000, "more than 1000 maps"),
        (
            "a.flame",
            b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><flame name="&b;"/>',
            "document type",
        ),
        ("a.csv", b"", "0 maps"),
        ("a.csv", b"1,2,3\n", "six numbers a b c d e f"),
        ("a.csv", (FEW + "\n").encode() * 60_000, "more than 1000 maps"),
        ("a.csv", (FEW + "\n").encode() * 1_000_000, "more than 1048576 bytes"),
        ("a.csv", f"{FEW} 1\n{FEW}".encode(), "some of its rows have weights"),
        ("a.csv", f"{FEW} nan".encode(), "'nan' is not a finite number"),
        ("a.csv", f"{FEW} -1".encode(), "map 1 has a negative weight"),
        ("a.csv", ("0 " * 12 + "0").encode(), "maps of space"),
        ("a.csv", b"1e308 0 0 0.5 0 0", "from -1000 to 1000"),
        ("a.csv", b"-1 0 0 1 0 0\n-1 0 0 1 1 0\n0.5 0 0 0.5 0 0", "shift the plane without an end"),
        ("a.ifs", b"name { 1 2 3 }", "six numbers a b c d e f"),
        ("a.ifs", b"name " * 200_000 + b"{", "no text of Fractint's"),
        ("a.ifs", b"x {" * 300_000, "no text of Fractint's"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(name, data, message, capsys):
    Path(name).write_bytes(data)
    assert message in refusal(render_ifs.main, [name, "20", "16"], capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hidden.flame", "30", "16", "--figure", "hull"], "has hidden maps"),
        (["hidden.flame", "30", "16", "--kind", "distance"], "is not drawn with --kind distance"),
        (["hidden.flame", "30", "16", "--color", "map"], "is not drawn with --color"),
        (["hidden.flame", "5", "16"], "is not drawn with RECURSION 5"),
        (["hidden.flame", "30", "16", "--sweep", "levels"], "is not drawn with --sweep"),
        (["hidden.flame", "30", "16", "--morph", "plain.flame"], "hidden.flame has hidden maps"),
        (["plain.flame", "30", "16", "--morph", "hidden.flame"], "hidden.flame has hidden maps"),
        (["plain.flame", "30", "16", "--morph", "wide.flame"], "maps that stretch the plane"),
        (
            ["plain.flame", "30", "16", "--morph", "chaos.flame", "--kind", "density"],
            "chaos.flame has hidden maps, or final ones, or such as may not follow each other, "
            "weights that hang on what came before",
        ),
        (["hidden.flame", "30", "16", "--entry", "a"], "--entry is for an .ifs text of Fractint"),
        (["koch", "30", "16", "--flame", "2"], "--flame is for files of several fractals"),
        (["none.csv", "30", "16"], "there is no none.csv here"),
    ],
)
def test_what_is_not_drawn_of_a_chain_is_refused_by_name(arguments, message, capsys):
    for file, name in (("wide", "stretches"), ("chaos", "chaos without zeros")):
        Path(f"{file}.flame").write_bytes(written(**FLAMES[name]))
    for name in ("plain", "hidden"):
        Path(f"{name}.flame").write_bytes(written(**FLAMES[name]))
    assert message in refusal(render_ifs.main, arguments, capsys)


def test_hidden_maps_are_not_exported_nor_fitted(capsys):
    Path("hidden.flame").write_bytes(written(**FLAMES["hidden"]))
    Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save("line.png")
    assert "has hidden maps" in refusal(
        compress_ifs.main, ["hidden.flame", "--export", "json"], capsys
    )
    assert "has hidden maps" in refusal(train_ifs.main, ["line", "--from", "hidden.flame"], capsys)


# --- Out ---


@pytest.mark.slow
def test_a_fit_starts_from_the_maps_of_a_file_in_the_frame_of_its_window(capsys):
    maps = CORNER_GASKET.double().clone()
    maps[:, :, 2] = 3 * maps[:, :, 2] + 5 - 5 * maps[:, :, :2].sum(2)
    Path("gasket.json").write_text(json.dumps({"maps": maps.tolist(), "window": [2, 8, 2, 8]}))
    picture = occupancy(CORNER_GASKET.double(), (-1, 1, -1, 1), 64).numpy()
    Image.fromarray(np.uint8(255 * picture)).save("target.png")
    setup = setup_from("gasket.json", {"seed": 3})
    assert np.allclose(setup.maps, CORNER_GASKET.tolist())
    assert (setup.seed, setup.stroke) == (3, None)
    fields = {"maps": maps.tolist(), "window": [2, 8, 2, 8], "stroke": 0.3}
    Path("pen.json").write_text(json.dumps(fields))  # in a window three times as wide
    assert setup_from("pen.json", {}).stroke == pytest.approx(0.1)
    assert setup_from("pen.json", {"stroke": 0.0}).stroke == 0
    options = ["--size", "64", "--steps", "20", "--starts", "2", "--quiet"]
    assert train_ifs.main(["target", "--from", "gasket.json", *options]) == 0
    assert torch.load("target.pt", weights_only=True)["iou"] > 0.7
    capsys.readouterr()
    assert "either --from FILE or --maps" in refusal(
        train_ifs.main, ["target", "--from", "gasket.json", "--maps", "3"], capsys
    )


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("rsvg-convert"), reason="rsvg-convert is not installed")
@pytest.mark.parametrize(
    ("maps", "stroke"),
    [(CARPET, 0.0), (CORNER_GASKET, 0.0), (KOCH, 0.02), (FERN, 0.03)],
    ids=["carpet", "gasket", "koch", "fern"],
)
def test_an_svg_is_drawn_as_the_renderer_draws_it(maps, stroke):
    fields = {"maps": maps.tolist(), "window": [-1, 1, -1, 1], "stroke": stroke, "size": 256}
    Path("some.json").write_text(json.dumps(fields))
    assert compress_ifs.main(["some.json", "--export", "svg"]) == 0
    side = 256 if maps is FERN else 512  # the fern has 15 times as many parts as the others
    how = ["-w", str(side), "-h", str(side), "-o", "some.png"]
    subprocess.run(["rsvg-convert", *how, "some.svg"], check=True)
    with Image.open("some.png") as picture:
        theirs = np.asarray(picture.convert("L")) >= 128
    ours = occupancy(maps.double(), (-1, 1, -1, 1), side, 1000, stroke, 4).numpy() >= 0.5
    assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.98


def test_the_groups_of_an_svg_are_made_of_the_groups_below():
    text = compress_ifs.as_text(
        {"maps": KOCH, "window": (-1, 1, -1, 1), "stroke": 0.01, "size": 256}, "a<b", "svg"
    )
    depth = text.count("<g id=")
    assert "<title>a&lt;b</title>" in text
    assert text.count("<use ") == 4 * (depth - 1) + 1
    assert text.count("matrix(1 0 0 -1") == 1
