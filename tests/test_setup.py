"""What a setup may hold, to its limits, and where it comes from: options, a NAME_setup.py, a file
of maps, a checkpoint."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diff_ifs.errors import InputError
from diff_ifs.files.checkpoint import as_tensors, fitted_target, load_origin, setup_of
from diff_ifs.files.setup_file import check_options, load_setup, setup_from
from diff_ifs.files.system import load_system
from diff_ifs.setup import Setup, affine, similarity, stretch, unknown_field


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


LIMITS = {  # the least and the most, and by how much next to nothing would be too much
    "price": (0.0001, 1.0, 1e-6), "depth": (1, 6, 0), "points": (100, 16_000_000, 1),
    "size": (8, 4096, 1), "steps": (10, 1_000_000, 1), "starts": (1, 100_000, 1),
    "rounds": (0, 1000, 1), "jitter": (0.0, 1.0, 1e-6), "stroke": (0.0, 1.0, 1e-6),
    "threshold": (0, 255, 1), "rate": (1e-6, 1.0, 1e-7), "blur": (0.3, 64.0, 1e-6),
    "pull": (0.0, 100.0, 1e-6), "solidity": (0.1, 100.0, 1e-6), "bound": (0.1, 0.99, 1e-6),
    "seed": (0, 2**63 - 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("field", LIMITS)
def test_a_field_may_be_its_least_and_its_most_and_no_more(field):
    low, high, step = LIMITS[field]
    for value in (low, high):
        found = getattr(Setup(**{field: value}), field)
        assert (found, type(found)) == (value, type(low))
    for value in (low - step, high + step) if step else ():
        with pytest.raises(ValueError, match=rf"Setup\.{field} must be a .*number from"):
            Setup(**{field: value})
    if isinstance(low, float):
        whole = getattr(Setup(**{field: 1 if high >= 1 else np.float64(0.5)}), field)
        assert type(whole) is float
        assert whole in (0.5, 1.0)


@pytest.mark.parametrize("field", ["price", "points", "size", "jitter", "invert", "rate", "seed"])
def test_none_is_a_value_only_where_something_else_decides(field):
    with pytest.raises(ValueError, match=rf"Setup\.{field} must be .*, not None"):
        Setup(**{field: None})
    free = ("maps", "depth", "steps", "starts", "rounds", "stroke", "grey", "threshold")
    assert Setup(**dict.fromkeys(free)) == Setup()


def test_the_numbers_of_maps_and_of_starts_are_those_that_are_documented():
    assert [Setup(maps=maps).n for maps in (None, 5, [similarity(0.5)] * 3)] == [12, 5, 3]
    found = [Setup(grey=grey, starts=n).batch for grey in (None, True) for n in (None, 9)]
    assert found == [256, 9, 32, 9]


def test_maps_of_a_setup_are_told_by_their_number_and_reach_to_a_hundred():
    half = similarity(0.5)
    assert Setup(maps=[affine(0.5, 0, 0, -0.5, 100, -100)]).n == 1
    with pytest.raises(ValueError, match="finite numbers from -100 to 100"):
        Setup(maps=[half, affine(0.5, 0, 0, 0.5, 0, -100.001)])
    with pytest.raises(ValueError, match=r"^Setup\.maps\[1\] must shrink .* stretches by 1\.500$"):
        Setup(maps=[half, affine(0, 1.5, 0.2, 0), half])
    assert Setup(maps=[half] * 1000).n == 1000
    with pytest.raises(ValueError, match="1 to 1000 maps"):
        Setup(maps=[half] * 1001)
    with pytest.raises(ValueError, match="1 to 1000 maps"):
        Setup(maps=[])


def test_the_stretch_of_a_map_is_its_largest_singular_value():
    maps = np.random.default_rng(0).normal(size=(20, 2, 3))
    wanted = np.linalg.svd(maps[:, :, :2])[1][:, 0]
    assert [stretch(map_.tolist()) for map_ in maps] == pytest.approx(wanted)


def test_what_is_no_value_is_quoted_in_short():
    with pytest.raises(ValueError, match=r"not such a large one$"):
        Setup(seed=10**30)
    with pytest.raises(ValueError, match=rf"not {10**29}$"):
        Setup(seed=10**29)
    with pytest.raises(ValueError, match=r"not '" + "x" * 59 + "…$"):
        Setup(size="x" * 80)
    assert unknown_field("srength").startswith("Setup has no field 'srength'; the fields are maps,")
    assert unknown_field("pirce") == "Setup has no field 'pirce'; did you mean 'price'?"


def test_an_option_out_of_its_range_is_named_as_an_option():
    with pytest.raises(InputError, match=r"^--size must be a whole number from 8 to 4096, not 7$"):
        check_options({"maps": 3, "size": 7})
    check_options({"maps": 3, "size": 8, "grey": True})


def test_the_setup_of_a_file_lies_beside_it_and_options_win():
    assert load_setup("star", {"size": 32}) == (Setup(size=32), None)
    Path("star_setup.py").write_text("from diff_ifs import Setup\nSETUP = Setup(maps=3, size=64)\n")
    found, path = load_setup("star", {"size": 32})
    assert (found, path) == (Setup(maps=3, size=32), Path("star_setup.py"))
    with pytest.raises(InputError, match=r"^Setup\.depth 40 would draw 3\^40 points"):
        load_setup("star", {"depth": 40})
    Path("star_setup.py").write_text("from ifs_setup import Setup\n")
    words = "line 1: ifs_setup is no more; write: from diff_ifs import Setup, affine, similarity"
    with pytest.raises(InputError, match=words):
        load_setup("star", {})


# --- From a file of maps ---


def test_maps_of_a_file_do_in_a_fit_what_they_do_in_its_window():
    """A window off the middle, and maps that turn, shear and mirror."""
    maps = np.array([similarity(0.5, 70, (0.3, 1.9)), affine(0.2, 0.5, -0.1, 0.3, 2.0, 0.5)])
    fields = {"maps": maps.tolist(), "window": [1, 5, -3, 1], "stroke": 0.5}
    Path("a.json").write_text(json.dumps(fields))
    found = setup_from("a.json", {"seed": 3})
    assert (found.seed, found.stroke) == (3, 0.25)
    places = np.random.default_rng(0).uniform([1, -3], [5, 1], (9, 2))
    for map_, before in zip(np.array(found.maps), maps, strict=True):
        moved = places @ before[:, :2].T + before[:, 2]
        framed = ((places - [3, -1]) / 2) @ map_[:, :2].T + map_[:, 2]
        assert framed == pytest.approx((moved - [3, -1]) / 2)
    assert setup_from("a.json", {"stroke": 0.125}).stroke == 0.125
    Path("b.json").write_text(json.dumps({**fields, "window": [0, 0.25, 0, 0.25], "stroke": 0.25}))
    assert setup_from("b.json", {}).stroke == 1, "no pen is wider"
    Path("c.json").write_text(json.dumps({"maps": maps.tolist()}))
    assert setup_from("c.json", {}).stroke is None


def test_maps_that_no_fit_can_start_from_are_refused_by_the_name_of_their_file():
    rows = [[[0.2, 1.4, 0.3], [-0.1, 0.3, 0.2]], [[0.3, 0, 0], [0, 0.3, 0]]]
    Path("wide.json").write_text(json.dumps({"maps": rows}))
    with pytest.raises(InputError, match=r"^wide\.json: Setup\.maps\[0\] must shrink the world"):
        setup_from("wide.json", {})
    (note,) = load_system("wide.json").notes
    words = "wide.json: maps that stretch the plane by up to 1.442, and long products of them that "
    assert note == words + "shrink it to 0.4472 a map", "the root of its determinant, as it turns"
    Path("a.csv").write_text("0.5 0 0 0.5 0 0\n")
    assert load_system("a.csv").notes == ()
    with pytest.raises(InputError, match=r"^there is no b\.csv here$"):
        load_system("b.csv")
    with pytest.raises(InputError, match=r"^there is no b\.ifs here; compress_ifs\.py makes one"):
        load_system("b.ifs")


# --- From a checkpoint ---


def ramp() -> np.ndarray:
    """Levels that grow to the right and downwards: 64 × 64."""
    y, x = np.mgrid[:64, :64]
    return (2 * x + y).astype(np.uint8)


@pytest.mark.parametrize(
    ("setup", "figure"),
    [
        ({"threshold": 100}, ramp() >= 100),
        ({"threshold": 100, "invert": True}, ramp() < 100),
        ({"threshold": 120}, ramp() >= 120),
    ],
)
def test_the_picture_of_a_fit_is_read_again_as_the_fit_read_it(setup, figure):
    Image.fromarray(ramp()).save("ramp.png")
    marked = hashlib.sha256(figure.astype(np.float32).tobytes()).hexdigest()
    checkpoint = {"setup": setup, "size": 64, "target": marked}
    path, coverage = fitted_target(Path("ramp.pt"), checkpoint, "ramp")
    assert path == Path("ramp.png")
    assert np.array_equal(coverage, figure)
    with pytest.raises(InputError, match=r"^ramp\.png is not the picture that ramp\.pt was fitted"):
        fitted_target(Path("ramp.pt"), {**checkpoint, "setup": {"threshold": 99}}, "ramp")
    assert setup_of(Path("ramp.pt"), {}) == Setup()
    with pytest.raises(InputError, match="does not hold the setup of its fit"):
        setup_of(Path("ramp.pt"), {"setup": {"size": 3}})


def test_of_pictures_of_one_name_that_of_the_fit_is_read_however_it_is_called():
    Image.fromarray(ramp()).save("ramp.png")
    Image.fromarray(ramp()[:, ::-1].copy()).save("ramp.bmp")
    for given, wanted in (("ramp.bmp", "ramp.bmp"), ("ramp.png", "ramp.png"), (None, "ramp.png"),
                          ("other.bmp", "ramp.png"), (3, "ramp.png")):  # fmt: skip
        checkpoint = {"setup": {"threshold": 90}, "size": 64, "picture": given}
        assert fitted_target(Path("ramp.pt"), checkpoint, "ramp")[0] == Path(wanted)


def test_options_that_change_nothing_may_be_given_again_down_to_their_types():
    plain = {"format": "diff_ifs", "version": 1, "window": (-1, 1, -1, 1), "stroke": 0.0}
    plain |= {"maps": torch.tensor([similarity(0.5, at=(0.2, 0))]), "size": 32, "step": 3}
    fields = {"maps": 3, "grey": True, "size": 32, "stroke": 0.0, "threshold": None}
    torch.save({**plain, "iou": 0.5, "name": "star", "setup": fields}, "star.pt")
    same = {"maps": 3, "grey": True, "size": 32, "stroke": 0.0}
    assert load_origin(Path("star.pt"), "star", same)[1] == Setup(**fields)
    for field, value in (("maps", None), ("grey", 1), ("stroke", 0), ("threshold", 7)):
        with pytest.raises(InputError, match=f"made with another --{field}: leave that out"):
            load_origin(Path("star.pt"), "star", {**same, field: value})


def test_fields_of_a_checkpoint_become_tensors_wherever_arrays_are():
    found = as_tensors({"a": np.arange(3.0), "b": [np.eye(2), 5], "c": 7})
    assert found["a"].tolist() == [0, 1, 2]
    assert found["b"][0].tolist() == [[1, 0], [0, 1]]
    assert (found["b"][1], found["c"]) == (5, 7)
    with pytest.raises(ValueError, match="there are no fields"):
        as_tensors([1])
