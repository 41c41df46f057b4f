"""Files of systems, read and drawn by a few lines of other code: SVG pictures and flames."""

import json
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from diff_ifs.formats.exchange import decode, to_json
from diff_ifs.formats.flame import to_flame
from diff_ifs.formats.fractint import to_fractint
from diff_ifs.formats.svg import to_svg
from diff_ifs.setup import affine, similarity

FINE = 0.5 / 512  # README's precision of an SVG: half of one of 512 pixels
SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"


def matrix(text: str | None) -> np.ndarray:
    """An SVG transform as a matrix (3, 3)."""
    if text is None:
        return np.eye(3)
    a, b, c, d, e, f = map(float, re.findall(r"[-+.\de]+", text.removeprefix("matrix")))
    return np.array([[a, c, e], [b, d, f], [0, 0, 1]])


def shapes(svg: str) -> list[tuple[np.ndarray, float]]:
    """The corners (V, 2) of all that an SVG draws, y down, and the widths of its lines."""
    root = ET.fromstring(svg)
    named = {group.get("id"): group for group in root.iter(f"{SVG}g")}
    found = []

    def walk(element, before: np.ndarray, font: float) -> None:
        at, size = before @ matrix(element.get("transform")), element.get("font-size", "100%")
        font = font * float(size[:-1]) / 100 if size.endswith("%") else float(size)
        if element.tag == f"{SVG}use":
            walk(named[element.get(LINK)[1:]], at, font)
        elif element.tag in (f"{SVG}polygon", f"{SVG}path"):
            numbers = element.get("points") or element.get("d").replace("h0", " ")
            corners = np.array(re.findall(r"[-.\de]+", numbers), dtype=float).reshape(-1, 2)
            width = element.get("stroke-width")
            width = float(width[:-2]) * font if width.endswith("em") else float(width)
            width *= math.sqrt(abs(np.linalg.det(at[:2, :2])))
            found.append((corners @ at[:2, :2].T + at[:2, 2], width))
        elif element.tag in (f"{SVG}g", f"{SVG}svg"):
            for part in element:
                walk(part, at, font)

    walk(root, np.eye(3), 1.0)
    return found


TURNED = [similarity(1 / 8, 30, (0.7, 0.4)), similarity(1 / 64, -50, (-0.6, 0.9), mirror=True),
          similarity(1 / 9, 100, (-0.3, -0.2))]  # fmt: skip
LEANING = [affine(0.12, 0.05, -0.01, 0.09, 0.7, 0.4), affine(0.02, 0.1, 0.06, -0.02, -0.5, 0.1)]
FLAT = [affine(0.1, 0.0, 0.0, 0.0, 0.7, 0.4), affine(0.1, 0.02, 0.0, 0.1, -0.5, 0.1)]
MOVED = (-1.5, 1.0, -0.75, 1.75)


@pytest.mark.parametrize("window", [(-1.0, 1.0, -1.0, 1.0), MOVED])
@pytest.mark.parametrize(
    ("maps", "stroke"), [(TURNED, 0.0), (TURNED, 0.05), (LEANING, 0.0), (LEANING, 0.05), (FLAT, 0)]
)
def test_an_svg_has_a_small_piece_at_every_point_of_the_attractor_and_nowhere_else(
    maps, stroke, window
):
    points = np.zeros((1, 2))  # of all words of so many letters, which shrink what is left to 1e-6
    for _ in range(7):
        points = np.concatenate([points @ np.array(m)[:, :2].T + np.array(m)[:, 2] for m in maps])
    side = window[1] - window[0]
    wanted = np.stack([points[:, 0] - window[0], window[3] - points[:, 1]], 1) / side
    system = {"maps": maps, "window": window, "stroke": stroke, "size": 300}
    text = to_svg(system, "a<b")
    assert 'width="300" height="300" viewBox="0 0 1 1"' in text
    assert "<title>a&lt;b</title>" in text
    drawn = shapes(text)
    pen = 2 * stroke / side
    if stroke or maps is TURNED:  # others make ellipses of the thin line around a piece
        wide = pen + FINE / 1.5 if pen else FINE / 2
        assert [width for _, width in drawn] == pytest.approx([wide] * len(drawn), rel=1e-4)
    if stroke:  # each corner is a dot; they are as near as the pen's edge stays round
        spots, near = np.concatenate([corners for corners, _ in drawn]), pen / 16
    else:
        spots, near = np.array([corners.mean(0) for corners, _ in drawn]), FINE
        reach = np.array([np.ptp(corners, axis=0).max() for corners, _ in drawn])
        assert FINE / 20 < reach.max() <= 1.1 * FINE
    for ours, theirs in ((spots, wanted), (wanted, spots)):
        for part in np.array_split(ours, -(-len(ours) // 100)):
            away = np.linalg.norm(part[:, None] - theirs, axis=2).min(1)
            assert away.max() < 1.1 * near


# --- Flames ---

FLAME = """<flames><flame name="other"><xform weight="1" linear="1" coefs="1 0 0 1 0 0"/></flame>
<flame name="all" size="300 200" center="0.5 -0.25" scale="40" zoom="1" cam_zoom="1.25" rotate="30"
 stroke="0.125">
 <layer visible="0"><xform weight="7" linear="1" coefs="0.9 0 0 0.9 0 0"/></layer>
 <layer visible="1">
 <xform weight="0.5" linear="0.5" linear3D="0.25" color="0.3" coefs="0.4 0.1 -0.2 0.3 0.5 -0.6"
  post="0.8 0.1 -0.3 0.9 0.2 -0.1" opacity="0.5" chaos="1 0.5"/>
 <xform weight="2" var="0.75 0 0" coefs="0.2 -0.3 0.1 0.4 -0.7 0.3" plotmode="off"/>
 <symmetry kind="-3"/>
 <finalxform linear="1" coefs="0.5 0.1 0.2 0.7 0.3 -0.2" opacity="0.75"/>
 <finalxform linear="1" coefs="0.1 0 0 0.1 0 0" enabled="0"/>
 </layer><edit><sheep><flame name="all"><xform linear="1"/></flame></sheep></edit>
</flame></flames>"""


def planned(amount: float, coefs: str, post: str, x: float, y: float) -> tuple[float, float]:
    """Where an xform takes a point of the world, whose y points up: in the flame it points down."""
    a, d, b, e, c, f = map(float, coefs.split())
    p, q, r, s, t, u = map(float, post.split())
    v, w = x, -y
    v, w = amount * (a * v + b * w + c), amount * (d * v + e * w + f)
    v, w = p * v + r * w + t, q * v + s * w + u
    return v, -w


NOTHING = "1 0 0 1 0 0"
COS, SIN = math.cos(2 * math.pi / 3), math.sin(2 * math.pi / 3)


def test_all_that_a_flame_says_is_read():
    rules = decode(FLAME.encode(), ".flame", flame="all")
    assert rules.others == "it holds 2 flames, of which this is 2, 'all'"
    assert rules.weights == [0.5, 2, 1, 1, 1]
    assert rules.opacities == [0.5, 0, 1, 1, 1]
    assert rules.chaos == [[1, 0.5, 1, 1, 1], *[[1] * 5] * 4]
    assert (rules.stroke, rules.size) == (0.125, 300)
    # 300 pixels, 40 for a unit, twice and 1.25 times as near: 3 units; y up
    assert rules.window == pytest.approx((0.5 - 1.5, 0.5 + 1.5, 0.25 - 1.5, 0.25 + 1.5))
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    for x, y in ((0.0, 0.0), (0.7, -0.4), (-0.3, 1.1)):
        wanted = [
            planned(0.75, "0.4 0.1 -0.2 0.3 0.5 -0.6", "0.8 0.1 -0.3 0.9 0.2 -0.1", x, y),
            planned(0.75, "0.2 -0.3 0.1 0.4 -0.7 0.3", NOTHING, x, y),
            (-x, y),  # the mirror and two turns of a negative kind
            (COS * x + SIN * y, -SIN * x + COS * y),
            (COS * x - SIN * y, SIN * x + COS * y),
        ]
        finals = [
            planned(1, "0.5 0.1 0.2 0.7 0.3 -0.2", NOTHING, x, y),
            # the picture is turned about its centre, clockwise where y points up
            (0.5 + cos * (x - 0.5) + sin * (y - 0.25), 0.25 - sin * (x - 0.5) + cos * (y - 0.25)),
        ]
        found = [np.array(map_) @ (x, y, 1) for map_ in rules.maps]
        assert np.allclose(found, wanted)
        ends = [np.array(map_) @ (x, y, 1) for map_, _ in rules.finals]
        assert np.allclose(ends, finals)
    assert [opacity for _, opacity in rules.finals] == [0.75, 1]


ONE = '<xform weight="1" linear="1" coefs="0.5 0 0 0.5 0 0"/>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<flame/>", "it has 0 maps, not 1 to 1000"),
        (f"<a>{ONE}</a>", "it has no <flame>"),
        (f"<flame>{ONE}", "it is not XML"),
        (f"<!DOCTYPE a><flame>{ONE}</flame>", "it has a document type"),
        (f"<flame><layer>{ONE}</layer><layer>{ONE}</layer></flame>", "more than one layer"),
        (f"<flame>{ONE}<symmetry kind='0'/></flame>", "its symmetry is of kind '0'"),
        (f"<flame>{ONE}<symmetry kind='1001'/></flame>", "its symmetry is of kind '1001'"),
        (f"<flame>{ONE}<symmetry kind='1.5'/></flame>", "its symmetry is of kind '1.5'"),
        (f"<flame cam_pitch='0.1'>{ONE}</flame>", "three-dimensional (cam_pitch)"),
        (f"<flame cam_roll='5' rotate='4'>{ONE}</flame>", "three-dimensional (cam_roll)"),
        (f"<flame size='0 9' scale='1'>{ONE}</flame>", "size, scale or zoom makes no sense"),
        (f"<flame scale='0'>{ONE}</flame>", "size, scale or zoom makes no sense"),
        (f"<flame cam_zoom='0'>{ONE}</flame>", "size, scale or zoom makes no sense"),
        (f"<flame zoom='-65'>{ONE}</flame>", "size, scale or zoom makes no sense"),
        (f"<flame size='1048577 9'>{ONE}</flame>", "size, scale or zoom makes no sense"),
        (f"<flame center='1'>{ONE}</flame>", "its center must be 2 finite numbers, not '1'"),
        (f"<flame scale='x'>{ONE}</flame>", "its scale must be 1 finite number, not 'x'"),
        (ONE.join(["<flame>", "</flame>"]).replace("0.5 0 0 0.5 0 0", "1 2"),
         "its coefs must be 6 finite numbers, not '1 2' in xform 1"),
        (ONE.join(["<flame>", "</flame>"]).replace('linear="1"', 'var1="13"'),
         "xform 1 has the variation number 13;"),
        (ONE.join(["<flame>", "</flame>"]).replace('linear="1"', 'var="1 0 1"'),
         "xform 1 has the variation number 2;"),
        (ONE.join(["<flame>", "</flame>"]).replace('linear="1"', 'linear="0"'),
         "xform 1 has no variation"),
        (ONE.join(["<flame>", "</flame>"]).replace('linear="1"', 'julian="1" julian_power="2"'),
         "xform 1 has the variation 'julian';"),
        (ONE.join(["<flame>", "</flame>"]).replace('weight="1"', 'chaos="-1"'),
         "its chaos lists have negative numbers"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_flame_is_said(text, words):
    with pytest.raises(ValueError) as caught:
        decode(text.encode(), ".flame")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "window", "size"),
    [
        ("", None, 256),
        ("cam_roll='30' rotate='30' scale='100' size='100 200'", (-1, 1, -1, 1), 200),
        ("zoom='64' scale='1e-17' size='1048576 1'", None, 1048576),
        ("zoom='-64' scale='1e17' size='1 1'", None, 1),
    ],
)
def test_what_a_camera_may_be(attributes, window, size):
    rules = decode(f"<flame {attributes}>{ONE}</flame>".encode(), ".flame")
    assert rules.size == size
    if window or not attributes:
        assert rules.window == (window and pytest.approx(window))


# --- Text ---

ROWS = [(0.5, 0.1, -0.2, 0.4, 0.3, -0.6, 0.25), (0.3, 0.0, 0.05, 0.2, -0.1, 0.7, 0.75)]
TABLE = "\n".join(" ".join(map(str, row)) for row in ROWS)
BARE = "\n".join(", ".join(map(str, row[:6])) for row in ROWS)


@pytest.mark.parametrize(
    ("text", "end", "entry", "weighted", "others"),
    [
        (f"fern {{ ; one\n{TABLE}\n}}", ".ifs", None, True, ""),
        (f"comment {{ no {{ }}\nfern (2D) {{\n{TABLE}\n}}", ".ifs", None, True, ""),
        (f"a {{\n{BARE.splitlines()[0]}\n}}\nFern{{\n{BARE}\n}}", ".ifs", "fERN", False,
         "it holds 2 entries, of which this is 'Fern'"),
        (f"a,b,c,d,e,f,p\n{TABLE.replace(' ', ',')}\n", ".csv", None, True, ""),
        (f"# a comment\n{BARE}  # and one more", ".csv", None, False, ""),
        (BARE.replace(",", ";"), ".csv", None, False, ""),
        (f"fern {{\n{TABLE.replace(chr(10), ' ')}\n}}", ".ifs", None, True, ""),
    ],
)  # fmt: skip
def test_rows_of_text_are_read(text, end, entry, weighted, others):
    rules = decode(text.encode("utf-8-sig" if end == ".csv" else "utf-8"), end, entry=entry)
    assert rules.maps == [[[a, b, e], [c, d, f]] for a, b, c, d, e, f, _ in ROWS]
    assert rules.weights == ([0.25, 0.75] if weighted else None)
    assert (rules.others, rules.window, rules.stroke, rules.size) == (others, None, 0, 256)


@pytest.mark.parametrize(
    ("text", "end", "words"),
    [
        ("1 2 3", ".csv", "its rows must be six numbers a b c d e f, or seven with a weight p"),
        ("1 2 3 4 5 6\n1 2 3 4 5 6 7", ".csv", "some of its rows have weights, and some have none"),
        (" ".join("1" * 13), ".csv", "its rows have 13 numbers: maps of space"),
        ("1 2 3 4 5 x", ".csv", "'x' is not a finite number"),
        ("1 2 3 4 5 inf", ".csv", "'inf' is not a finite number"),
        ("a {\n1 2 3 4 5 6\n}  b (3D) {\n1 2 3 4 5 6 }", ".ifs", ""),
        ("b (3D) {\n1 2 3 4 5 6 }", ".ifs", "its entry 'b' is three-dimensional (3D)"),
        ("comment {\n1 2 3 4 5 6 }", ".ifs", "it is no text of Fractint's"),
    ],
)
def test_what_is_wrong_with_rows_is_said(text, end, words):
    if not words:
        assert decode(text.encode(), end).others == "it holds 2 entries, of which this is 'a'"
        return
    with pytest.raises(ValueError) as caught:
        decode(text.encode(), end)
    assert words in str(caught.value)


# --- What is written ---

WRITTEN = {
    "maps": [[[0.5, 0.25, 1.5], [-0.125, 0.75, -2.0]], [[0.0, -0.5, 0.0], [0.5, 0.0, 1.0]]],
    "weights": [0.75, 0.25], "window": (-1.0, 3.0, -2.0, 2.0), "stroke": 0.125, "size": 200,
}  # fmt: skip


def test_a_flame_is_written_word_by_word():
    """y points down: b, c and y change their signs. Colours are spread over the palette."""
    head = "<flame name='a &lt; \"b\"' " + 'size="200 200" center="1.0 0.0" scale="50.0" '
    head += 'oversample="2" filter="0.5" quality="200" background="0 0 0" brightness="4" '
    head += 'gamma="4" estimator_radius="0" stroke="0.125">'
    lines = to_flame(WRITTEN, 'a < "b"').splitlines()
    assert lines[0].replace("-0.0", "0.0") == head
    assert lines[1:4] == [
        '  <xform weight="0.75" color="0.0" linear="1" coefs="0.5 0.125 -0.25 0.75 1.5 2.0"/>',
        '  <xform weight="0.25" color="1.0" linear="1" coefs="0.0 -0.5 0.5 0.0 0.0 -1.0"/>',
        '  <palette count="256" format="RGB">',
    ]
    assert len("".join(lines[4:-2])) == 256 * 6
    assert lines[-2:] == ["  </palette>", "</flame>"]
    alone = to_flame({**WRITTEN, "maps": WRITTEN["maps"][:1], "weights": [1.0]}, "a")
    assert 'color="0.0"' in alone


def test_text_and_json_are_written_word_by_word():
    assert to_fractint(WRITTEN, "a < b-c_ä").splitlines() == [
        "a_b-c_ä {",
        "  0.5 0.25 -0.125 0.75 1.5 -2.0 0.75",
        "  0.0 -0.5 0.5 0.0 0.0 1.0 0.25",
        "}",
    ]
    written = {**WRITTEN, "window": list(WRITTEN["window"])}
    wanted = {"format": "diff_ifs", "version": 1, "name": "ä", "n": 2, **written}
    assert json.loads(to_json(WRITTEN, "ä")) == wanted
    assert "    [[0.5, 0.25, 1.5], [-0.125, 0.75, -2.0]],\n" in to_json(WRITTEN, "ä")
