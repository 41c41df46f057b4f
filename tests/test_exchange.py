"""Files of fractals beside what their formats say: flames as flam3 takes them, JSON, and .ifs bits
written by hand."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from diff_ifs.errors import InputError
from diff_ifs.files.system import System, load_system
from diff_ifs.formats.code import Code, checksum, pack, stroke_code, stroke_of, unpack


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def flame(attributes: str, *xforms: str) -> System:
    Path("a.flame").write_text(
        f"<flame {attributes}>{''.join(f'<xform {x}/>' for x in xforms)}</flame>"
    )
    return load_system("a.flame")


def test_the_coefs_of_a_flame_are_columns_and_its_y_points_down():
    """x' = 0.5 x + 0.3 y + 0.1 and y' = 0.2 x + 0.4 y - 0.7, where y is down."""
    (map_,) = flame("", 'weight="1" linear="1" coefs="0.5 0.2 0.3 0.4 0.1 -0.7"').maps
    x, y = 0.6, -0.8  # in the world, where y is up
    down = 0.2 * x + 0.4 * -y - 0.7
    assert map_ @ [x, y, 1] == pytest.approx([0.5 * x + 0.3 * -y + 0.1, -down])


@pytest.mark.parametrize(
    ("amounts", "factor"),
    [
        ('linear="1"', 1),
        ('linear="0.5"', 0.5),
        ('linear3D="0.25"', 0.25),
        ('linear="0.5" linear3D="0.25"', 0.75),
    ],
)
def test_the_amount_of_the_linear_variation_scales_what_a_map_does(amounts, factor):
    (map_,) = flame("", f'weight="1" {amounts} coefs="0.5 0.2 0.3 0.4 0.1 -0.7"').maps
    (whole,) = flame("", 'weight="1" linear="1" coefs="0.5 0.2 0.3 0.4 0.1 -0.7"').maps
    assert np.allclose(map_, factor * whole)


XFORM = 'linear="1" coefs="0.5 0 0 0.5 0 0"'


@pytest.mark.parametrize(
    ("attributes", "window", "size"),
    [
        ('scale="128"', (-1, 1, -1, 1), 256),
        ('size="200 100" scale="50"', (-2, 2, -2, 2), 200),
        ('size="100 200" scale="50"', (-2, 2, -2, 2), 200),
        ('size="100 100" scale="50" center="0.5 0.25"', (-0.5, 1.5, -1.25, 0.75), 100),
        ('size="100 100" scale="50" zoom="2"', (-0.25, 0.25, -0.25, 0.25), 100),
        ('size="400 400" scale="50" zoom="-1" center="1 0"', (-7, 9, -8, 8), 400),
    ],
)
def test_the_window_of_a_flame_is_as_wide_as_its_longer_side(attributes, window, size):
    """`scale` is pixels per unit, and a zoom of z doubles it z times."""
    found = flame(attributes, XFORM)
    assert found.window == pytest.approx(window)
    assert found.size == size


def test_the_first_of_many_flames_is_read():
    Path("a.flame").write_text(
        f"<flames><flame><xform {XFORM}/></flame><flame/><flame>nonsense</flame></flames>"
    )
    assert len(load_system("a.flame").maps) == 1


@pytest.mark.parametrize(
    ("attributes", "xform", "message"),
    [
        ("", 'linear="1" julia="0.1" coefs="0.5 0 0 0.5 0 0"', "xform 2 has the variation 'julia'"),
        ("", 'linear="3" coefs="0.5 0 0 0.5 0 0"', "xform 2 does not shrink the plane"),
        ('size="0 0"', XFORM, "makes no sense"),
        ('scale="-1"', XFORM, "makes no sense"),
        ('zoom="65"', XFORM, "makes no sense"),
        ('size="100"', XFORM, "its size must be 2 finite numbers"),
    ],
)
def test_what_is_not_drawn_of_a_flame_is_refused(attributes, xform, message):
    with pytest.raises(InputError, match=message):
        flame(attributes, XFORM, xform)


def test_what_changes_nothing_in_a_flame_is_let_pass():
    more = 'weight="0.5" color="0.2" opacity="1" post="1 0 0 1 0 0" chaos="1 1" julia="0"'
    assert len(flame('angle="0"', f"{XFORM} {more}").maps) == 1


# --- JSON ---

MAPS = [[[0.5, 0.1, -0.2], [0.0, 0.25, 0.75]]]


def as_json(**fields: object) -> System:
    Path("a.json").write_text(json.dumps({"maps": MAPS, **fields}))
    return load_system("a.json")


def test_of_json_the_maps_alone_are_needed():
    plain = as_json()
    assert plain.maps.tolist() == MAPS
    assert (plain.stroke, plain.size) == (0, 256)
    # all there is: x = 0.5 x + 0.1 y - 0.2 and y = 0.25 y + 0.75
    x, y = (
        -0.2 / 0.5 + 0.1 / 0.5,
        1.0,
    )
    assert plain.window[0] < x < plain.window[1] < x + 1e-5
    assert plain.window[2] < y < plain.window[3] < y + 1e-5
    found = as_json(
        window=[0, 3, -1, 2], stroke=0.5, size=100, n=1, weights=[1], format="diff_ifs", version=1
    )
    assert (found.window, found.stroke, found.size) == ((0, 3, -1, 2), 0.5, 100)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 2}, '"n" is not the number'),
        ({"weights": [1, 1]}, '"weights" must be a list of 1'),
        ({"weights": ["a"]}, '"weights" must hold finite numbers'),
        ({"window": [0, 1, 0]}, '"window" must be a list of 4'),
        ({"window": [0, 1, 0, 1.1]}, "not a square"),
        ({"window": [1, 0, 1, 0]}, "not a square"),
        ({"window": [0, 1e-7, 0, 1e-7]}, "not a square"),
        ({"window": [2.1e6, 2.2e6, 0, 1e5]}, "not a square"),
        ({"stroke": 2.01, "window": [-1, 1, -1, 1]}, "stroke is not from 0 to the width"),
        ({"stroke": -0.01}, "stroke is not from 0 to the width"),
        ({"size": 0}, '"size" is not a number of pixels'),
        ({"size": 1.5}, '"size" is not a number of pixels'),
        ({"size": 2**20 + 1}, '"size" is not a number of pixels'),
        ({"format": "other"}, "of another format or version"),
        ({"version": 2}, "of another format or version"),
        ({"maps": [[[0.5, 0, 1000.1], [0, 0.5, 0]]]}, "numbers that are not from -1000 to 1000"),
        (
            {"maps": [[[0.5, 0, 0], [0, 0.5, 0]], [[1.01, 0, 0], [0, 0.5, 0]]]},
            "map 2 does not shrink the plane",
        ),
        ({"maps": [[[0, 0.7, 0], [0.7, 0.8, 0]]]}, "map 1 does not shrink the plane"),
        ({"maps": [[[0.99995, 0, 0], [0, 0.5, 0]]]}, "too slowly"),
    ],
)
def test_json_out_of_its_ranges_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        as_json(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"maps": [[[0.99, 0, 1000], [0, -0.99, -1000]]]},
        {"stroke": 2},
        {"size": 1},
        {"size": 2**20},
        {"window": [1.9e6, 2e6, 0, 1e5]},
        {"window": [0, 1.1e-6, 0, 1.1e-6]},
    ],
)
def test_json_at_its_limits_is_read(fields):
    as_json(**fields)


# --- The bits of .ifs ---

first = partial(Code, version=1)


def test_the_checksum_is_the_crc_8_of_everybody():
    """The check value of CRC-8 (polynomial 7, start 0), as catalogues of such codes have it, is
    F4."""
    assert checksum(b"123456789") == 0xF4
    assert checksum(b"123456789\xf4") == 0
    assert checksum(b"") == 0


@pytest.mark.parametrize(
    ("code", "bits"),
    [
        # version 3, similar, pen, unusual, symmetric, graded; size k + 3; n + 7; box width - 1,
        # height - 1; symmetry, centre + 1024; the mix of kinds
        (Code(1, 256, (-16, 16, -8, 8)), "010 0 0 0 0 0 0101 1000 1111 0111"),
        (
            Code(2, 256, (-14, 14, -14, 14), 0, 0, True, 0xAB, symmetry=(3, 5, -7), kinds=(1, 1)),
            "010 1 1 0 1 0 10101011 0101 1001 1101 011 10000000101 01111111001 01",
        ),
        (
            Code(1, 256, (-14, 14, -14, 14), gain=1, symmetry=(1, 0), kinds=(1, 0)),
            "010 0 0 1 1 0 0 0 001 0101 1000 1101 1101 001 10000000000 0",
        ),
        (  # of 20 mixes of 3 maps, kinds 0, 3 and 3: C(0, 1) + C(4, 2) + C(5, 3) = 16
            Code(3, 256, (-16, 16, -16, 16), kinds=(1, 0, 0, 2)),
            "010 0 0 0 0 1 0101 1010 1111 1111 10000",
        ),
        # the first version: size k + 3; n + 7; box l - 10, 10 - r, b - 10, 10 - t
        (first(1, 256, (-8, 8, -8, 8)), "001 0 0 0 0101 1000 0010 0010 0010 0010"),
        (first(8, 8, (-10, 10, 0, 1)), "001 0 0 0 0000 1111 0000 0000 1010 1001"),
        (first(9, 4096, (-1, 5, -9, 3)), "001 0 0 0 1001 0 10000 1001 0101 0001 0111"),
        (
            first(255, 100, (-8, 8, -8, 8)),
            "001 0 0 0 1111 000001100011 00000 100000110 0010 0010 0010 0010",
        ),
        (
            first(4, 256, (-8, 8, -8, 8), similar=True, stroke=0xAB),
            "001 1 1 0 10101011 0101 1011 0010 0010 0010 0010",
        ),
        (
            first(4, 16, (-8, 8, -8, 8), gain=5, spread=2),
            "001 0 0 1 0 110 101 0001 1011 0010 0010 0010 0010",
        ),
        (
            first(4, 16, (-8, 8, -8, 8), window=(-0.5, 0.25, 1.5)),
            f"001 0 0 1 1 {0xBF000000:032b} {0x3E800000:032b} {0x3FC00000:032b} 0 000 0001 1011 "
            "0010 0010 0010 0010",
        ),
    ],
)
def test_headers_are_written_bit_by_bit_as_documented(code, bits):
    bits = bits.replace(" ", "")
    number, length = code.header()
    assert f"{number:0{length}b}" == bits
    numbers = [[0] * (5 if code.similar else 6)] * code.n
    data = pack(code, numbers)
    written = "".join(f"{byte:08b}" for byte in data)
    assert written.startswith(bits)
    back, found = unpack(data)
    assert back == code
    assert found == numbers


@pytest.mark.parametrize(
    ("code", "radius"),
    [(1, 1), (15, 15), (16, 16), (31, 31), (32, 32), (0x2F, 62), (0xFF, 31 << 14)],
)
def test_strokes_are_small_floating_point_numbers(code, radius):
    """side · 2⁻²⁰ · m if e = 0, else side · 2⁻²⁰ · (16 + m) · 2^(e − 1)"""
    assert stroke_of(code, 2.0) == 2 * radius / 2**20
    assert stroke_code(stroke_of(code, 3.0), 3.0) == code
    assert stroke_code(1.01 * stroke_of(code, 3.0), 3.0) == code
    assert stroke_code(0, 3.0) == 0


@pytest.mark.parametrize(
    ("similar", "n", "length"), [(False, 3, 20), (True, 4, 28), (False, 40, 200)]
)
def test_the_lattice_is_the_finest_that_the_file_has_room_for(similar, n, length):
    """Counted ring by ring: |A| + |B| = m has 4 m pairs, each with 2 (L − 2 m) + 1 shifts, or the
    square of that."""
    code = Code(n, 256, (-8, 8, -8, 8), similar=similar, length=length)

    def systems(steps: int) -> int:
        rings = (
            (4 * m or 1) * (2 * (steps - 2 * m) + 1) ** (1 + similar) for m in range(steps // 2 + 1)
        )
        points = sum(rings)
        return math.comb((2 * points if similar else points**2) + n - 1, n)

    room = 2 ** (8 * (length - 1) - code.header()[1])
    assert systems(code.steps) <= room < systems(code.steps + 1)


def test_each_kind_of_maps_has_its_own_lattice():
    """Full, coarse (a third of the steps), small (half as many rings), and small and coarse."""
    code = Code(5, 256, (-8, 8, -8, 8), length=30, kinds=(1, 1, 2, 1))

    def points(steps: int, rings: int) -> int:
        return sum((4 * m or 1) * (2 * (steps - 2 * m) + 1) for m in range(rings + 1)) ** 2

    def systems(steps: int) -> int:
        third = steps // 3
        small = points(steps, steps // 4)
        few = points(steps, steps // 2) * points(third, third // 2) * points(third, third // 4)
        return few * small * (small + 1) // 2

    room = 2 ** (8 * 29 - code.header()[1])
    assert systems(code.steps) <= room < systems(code.steps + 1)


@pytest.mark.parametrize(("kind", "order"), [(0, 2), (1, 2), (2, 2), (3, 3), (5, 5), (7, 7)])
def test_a_symmetry_makes_the_other_maps_of_an_orbit(kind, order):
    """As matrices: S f S⁻¹ about a centre in steps of 1/1024 of half the window."""
    places = (64, -128) if kind > 1 else (64,)
    code = Code(2, 256, (-16, 16, -12, 12), length=40, symmetry=(kind, *places), kinds=(1, 1))
    steps = code.steps
    numbers = [[steps // 8, 5, 7, -9, steps // 7, -steps // 3], [1, 2, 3, 4, 5, 6]]
    back, found = unpack(pack(code, numbers))
    assert (back, found, back.drawn) == (code, numbers, order + 1)
    maps = np.array(code.maps(numbers))
    square = np.concatenate([maps, np.tile([[[0.0, 0.0, 1.0]]], (len(maps), 1, 1))], axis=1)
    angle = 2 * math.pi / order
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turn = (np.diag([-1.0, 1.0]), np.diag([1.0, -1.0]), *[turn] * 6)[kind]
    x, y = (0.0625, -0.125) if kind > 1 else ((0.0625, 0.0), (0.0, 0.0625))[kind]
    whole, about = np.eye(3), np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
    whole[:2, :2] = turn
    whole = about @ whole @ np.linalg.inv(about)
    for k in range(1, order):
        other = np.linalg.matrix_power(whole, k)
        assert square[k] == pytest.approx(other @ square[0] @ np.linalg.inv(other), abs=1e-12)


def test_a_symmetry_with_too_many_maps_is_refused():
    code = Code(37, 256, (-8, 8, -8, 8), length=200, symmetry=(7, 0, 0), kinds=(37, 0))
    with pytest.raises(ValueError, match="header makes no sense"):
        unpack(pack(code, [[0] * 6] * 37))
