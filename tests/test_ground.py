"""Where readings of a picture turn: noise, light, soft edges, thin frames and doubts, each on both
sides of its threshold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from diff_ifs.files import levels, noise
from diff_ifs.files.ground import read
from diff_ifs.files.target import _decoded, read_target


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def seen(pixels: np.ndarray, size: int | None = None, **options):
    Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8)).save("a.png")
    return read_target(Path("a.png"), size or max(pixels.shape[:2]), **options)


def shape(height: int = 72, width: int = 96) -> np.ndarray:
    """A wedge with a bite, nowhere symmetric: (H, W) of booleans."""
    picture = Image.new("1", (width, height))
    pen = ImageDraw.Draw(picture)
    pen.polygon([(15, 12), (width - 20, 25), (40, height - 10)], fill=1)
    pen.rectangle((30, 20, 38, 30), fill=0)
    return np.array(picture)


def coloured(figure: np.ndarray, *colours) -> np.ndarray:
    """Ground and figure in these two colours: (H, W, 3)."""
    return np.where(figure[..., None], np.array(colours[1], float), np.array(colours[0], float))


# --- Files ---


@pytest.mark.parametrize(
    ("shape", "k"), [((120, 250), 3), ((250, 120), 3), ((100, 90), 1), ((101, 20), 2)]
)
def test_pictures_are_reduced_by_the_least_whole_factor_that_is_enough(shape, k):
    """To at most a hundred pixels, each the mean of k × k."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save("a.png")
    colours, alpha, jpeg = _decoded(Path("a.png"), 100)
    assert colours.shape == (-(-shape[0] // k), -(-shape[1] // k), 3)
    assert (alpha, jpeg) == (None, False)
    rows, columns = (n // k for n in shape)
    whole = pixels[: rows * k, : columns * k].reshape(rows, k, columns, k).mean((1, 3)) / 255
    assert np.abs(colours[:rows, :columns, 1] - whole).max() < 0.6 / 255


@pytest.mark.parametrize("most", [0.7, 1.0, 200.0, 255.0, 1000.5])
def test_numbers_of_deep_pictures_are_parts_of_their_white(most):
    """Whole ones up to 255 of that; others of what is brightest."""
    values = (np.arange(12.0).reshape(3, 4) / 11 * most).astype(np.float32)
    if most in (200.0, 255.0):
        values = values.round()
    values[0, 0] = np.nan
    Image.fromarray(values).save("a.tiff")
    white = 255.0 if most in (200.0, 255.0) else most
    found = _decoded(Path("a.tiff"), 100)[0]
    assert found[..., 2] == pytest.approx(np.nan_to_num(values) / white)


def test_a_picture_is_turned_as_its_camera_was_held():
    figure = shape()
    turned = Image.fromarray(255 * figure.T.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 5  # rows and columns are exchanged
    turned.save("a.png", exif=exif)
    found = read_target(Path("a.png"), 96).coverage
    assert np.array_equal(found[12:84] >= 0.5, figure)


# --- Noise ---


def test_the_noise_of_a_picture_is_that_of_its_worst_channel():
    chance = np.random.default_rng(0)
    y, x = np.mgrid[:80, :90]
    slope = (0.3 + x / 400 - y / 500)[..., None]
    assert noise.noise_of(slope[..., 0]) < 1e-6, "an even slope is none"
    sigmas = [0.02, 0.1, 0.05]
    found = noise.noise_of(slope + sigmas * chance.normal(size=(80, 90, 3)))
    assert found == pytest.approx(0.1, rel=0.06)
    assert noise.noise_of(0.1 * chance.normal(size=(200, 200))) == pytest.approx(0.1, rel=0.06)
    assert noise.noise_of(chance.random((2, 50))) == 0


@pytest.mark.parametrize("sigma", [0.12, 0.13, 0.2, 0.4])
def test_what_smoothing_leaves_of_noise_is_an_eighth(sigma):
    blur = noise.smoothing(sigma)
    assert (blur > 0) == (sigma > 0.125)
    assert noise.residual_noise(sigma) == min(sigma, 0.125)
    if sigma >= 0.2:
        grains = np.random.default_rng(1).normal(0, sigma, (300, 300))
        left = gaussian_filter(grains, blur).std()
        assert left == pytest.approx(0.125, rel=0.06 if sigma > 0.3 else 0.2)


def test_coverage_without_noise_begins_and_ends_two_and_a_half_deviations_later():
    ramp = np.array([[0.0, 0.05, 0.075, 0.3, 0.5, 0.85, 0.925, 1.0]])
    wanted = [0, 0, 0, 0.225 / 0.85, 0.5, 0.775 / 0.85, 1, 1]
    assert noise.cleaned(ramp, 0.03)[0] == pytest.approx(wanted)
    most = noise.cleaned(np.tile([0.3, 0.31, 0.69, 0.7], (12, 1)), 0.2)
    assert most[5] == pytest.approx([0, 0.025, 0.975, 1]), "and three tenths of the gap at most"


@pytest.mark.parametrize("figure", [True, False])
def test_specks_and_holes_of_fewer_than_twelve_pixels_go_where_there_is_noise(figure):
    """Pixels that touch at their corners hang together."""
    picture = np.zeros((40, 40))
    picture[2:5, 2:5] = 1  # with three more, twelve pixels
    picture[[5, 6, 7], [5, 6, 7]] = 1
    picture[10:13, 10:13], picture[13, 13], picture[14, 14] = 1, 1, 1  # eleven
    picture[20:30, 20:30] = 1
    cleared = picture.copy()
    cleared[10:15, 10:15] = 0
    if not figure:
        picture, cleared = 1 - picture, 1 - cleared
    assert np.array_equal(noise.cleaned(picture, 0.039), picture)
    assert np.array_equal(noise.cleaned(picture, 0.04), cleared)


def test_salt_goes_with_pepper_and_lone_dots_of_one_kind_stay():
    clean = 0.4 + 0.2 * shape()
    strewn = clean.copy()
    strewn[3:70:7, 3:90:7] = 1
    assert np.array_equal(noise.without_salt(strewn), strewn), "white dots alone are a picture"
    strewn[6:70:7, 6:90:7] = 0
    found = noise.without_salt(strewn)
    assert (found != clean).mean() < 0.01
    few = np.full((100, 100), 0.5)
    few[10, 10:90:8] = 1  # ten, a thousandth of all
    few[20, 10:82:8] = 0  # nine
    assert np.array_equal(noise.without_salt(few), few)
    few[20, 82] = 0
    assert (noise.without_salt(few) == 0.5).all()


def test_grains_that_hang_on_none_are_noise():
    chance = np.random.default_rng(2)
    grains = chance.random((64, 80))
    assert noise.is_noise(grains)
    assert not noise.is_noise(gaussian_filter(grains, 0.7)), "its grains hang together"
    assert not noise.is_noise(shape().astype(float))
    assert not noise.is_noise(grains[:15])
    assert noise.is_noise(grains[:16])
    dots = (chance.random((64, 64)) < 0.15) * 1.0
    assert not noise.is_noise(dots), "lone dots"
    assert noise.is_noise((chance.random((64, 64)) < 0.3) * 1.0)


def test_means_of_blocks_leave_out_what_is_incomplete():
    grey = np.arange(35.0).reshape(5, 7)
    assert noise.block_means(grey, 2).tolist() == [[4, 6, 8], [18, 20, 22]]
    assert noise.block_means(grey, 3).tolist() == [[8, 11]]


# --- Levels ---


def test_otsu_parts_two_unequal_heaps_where_their_variances_are_least():
    chance = np.random.default_rng(3)
    for bright in (0.6, 0.7):
        heaps = chance.normal(0.2, 0.05, 9000), chance.normal(bright, 0.12, 1000)
        values = np.concatenate(heaps)

        def within(edge: float, values=values) -> float:
            parts = values[values <= edge], values[values > edge]
            return sum(part.size * part.var() for part in parts)

        best = min(np.linspace(values.min(), values.max(), 257)[1:-1], key=within)
        assert levels.otsu(values) == pytest.approx(best, abs=0.006)
    assert 0 < levels.otsu(np.array([0.0, 0.0, 1.0])) < 1


def test_a_surface_is_that_of_most_and_not_of_all():
    """Two channels over a picture that is not square; a third of the places lie far off."""
    y, x = np.mgrid[-1:1:40j, -1:1:56j]
    truth = np.stack([0.5 + 0.1 * x - 0.2 * y + 0.1 * x * y, 0.4 + 0.2 * x**2 - 0.1 * y**2], -1)
    values, chance = truth.copy(), np.random.default_rng(4)
    values[chance.random(x.shape) < 0.33] += 0.4
    found = levels.smooth_surface(values, np.argwhere(x > -2)[::3])
    assert np.abs(found - truth).max() < 0.01


@pytest.mark.parametrize("transposed", [False, True])
def test_under_uneven_light_dark_and_bright_are_surfaces(transposed):
    figure = shape()
    y, x = np.mgrid[-1 : 1 : figure.shape[0] * 1j, -1 : 1 : figure.shape[1] * 1j]
    dark, gap = 0.25 + 0.15 * x + 0.05 * y, 0.35 + 0.1 * x
    grey = dark + gap * figure
    if transposed:
        grey, dark, gap = grey.T, dark.T, gap.T
    low, high = levels.two_surfaces(grey)
    assert np.abs(low - dark).max() < 0.02
    assert np.abs(high - dark - gap).max() < 0.03
    low, high = levels.two_surfaces(0.2 + 0.5 * figure)
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.7)), "numbers, where light is even"


def test_the_level_of_thin_lines_is_that_of_their_brightest_places():
    """Ten lines of a pixel, nine of a half; beside them ground of 0.1 and a few darker pixels."""
    grey = np.full((60, 60), 0.1)
    grey[3:60:6] = 0.5
    grey[3] = 0.9
    low, high = levels.two_surfaces(grey)
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.9))
    solid = np.full((60, 60), 0.1)
    solid[10:40, 10:50] = 0.6
    solid[10, 10:50] = 0.9
    assert levels.two_surfaces(solid)[1] == pytest.approx(0.6), "and of what is solid, the middle"


def test_greys_are_what_is_no_edge_between_dark_and_bright():
    edge = np.zeros((64, 64))
    edge[:, 32:] = 1
    edge[:, 30:33] = [0.25, 0.5, 0.75]
    assert levels.grey_share(edge, 0.0) == 0
    apart = np.zeros((64, 64))
    apart[20:36, 20:36] = 0.5  # a sixteenth, with nothing bright near it
    assert levels.grey_share(apart, 0.0) == pytest.approx(1 / 16)
    assert levels.grey_share(apart, 0.11) == 0, "so much noise may be what is half way"
    mixed = np.zeros((64, 64))
    mixed[::2, ::2] = 0.31  # a quarter, and not more
    assert levels.grey_share(mixed, 0.0) == pytest.approx(1 / 4)
    mixed[1, 1] = 0.69
    assert levels.grey_share(mixed, 0.0) == 1


def test_three_to_six_flat_greys_are_flat_levels():
    def bands(*greys: float) -> np.ndarray:
        return np.repeat(np.array(greys), 240 // len(greys))[None].repeat(60, 0)

    assert not levels.has_flat_levels(bands(0.1, 0.9), 0.0)
    assert levels.has_flat_levels(bands(0.1, 0.5, 0.9), 0.0)
    assert levels.has_flat_levels(bands(0.1, 0.5, 0.9), 0.05)
    assert not levels.has_flat_levels(bands(0.1, 0.5, 0.9), 0.06)
    assert levels.has_flat_levels(bands(0, 0.15, 0.3, 0.5, 0.7, 0.9), 0.0)
    assert not levels.has_flat_levels(bands(0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9), 0.0)
    assert not levels.has_flat_levels(np.linspace(0, 1, 240)[None].repeat(60, 0), 0.0)
    rare = bands(0.1, 0.9)
    rare[:12, :11] = 0.5  # less than a hundredth
    assert not levels.has_flat_levels(rare, 0.0)
    assert not levels.has_flat_levels(np.random.default_rng(5).random((60, 60)), 0.0)


# --- Ground ---


@pytest.mark.parametrize(("clear", "rule"), [(10, "levels"), (11, "transparency")])
def test_a_thousandth_of_transparent_pixels_is_none(clear, rule):
    colours, alpha = np.zeros((100, 100, 3)), np.ones((100, 100))
    colours[20:60, 30:80] = 1
    alpha[5, :clear] = 0.49
    assert read(colours, alpha).rule == rule


@pytest.mark.parametrize(("soft", "sure"), [(23, True), (24, False)])
def test_where_a_fifth_is_soft_there_is_doubt_unless_a_threshold_is_given(soft, sure):
    """Of 120 columns with some opacity, those that are half opaque; and the same in red."""
    alpha = np.zeros((60, 160))
    alpha[5:55, 10:130] = 1
    alpha[5:55, 130 - soft : 130] = 0.5
    opaque = np.dstack([np.zeros((60, 160, 3)), 255 * alpha])
    red = 255 * (1 - alpha[..., None] * [0, 0.4, 0.4])
    doubt = "a.png is read with some doubt: --threshold T settles it, as {} does here"
    for pixels, cut in ((opaque, 128), (red, 51)):
        assert seen(pixels).hints == ([] if sure else [doubt.format(cut)])
        assert seen(pixels, threshold=40).hints == []


def test_a_figure_has_the_colours_that_a_tenth_of_it_has_and_that_are_apart():
    figure = shape()
    columns = np.arange(figure.shape[1])
    on = np.cumsum(figure.sum(0)) / figure.sum()

    def said(share: float, other: tuple) -> str:
        pixels = coloured(figure, (255, 255, 255), (200, 0, 0))
        pixels[figure & (on < share)[columns]] = other
        return seen(pixels).said

    assert said(0.085, (0, 0, 200)) == "a.png: a red figure on white"
    assert said(0.15, (0, 0, 200)) == "a.png: a many-coloured figure on white"
    assert said(0.4, (200, 45, 0)) == "a.png: a red figure on white", "nearly the same"
    assert said(0.4, (200, 60, 0)) == "a.png: a many-coloured figure on white"


@pytest.mark.parametrize(("rows", "said"), [(34, "many-coloured figure on white"), (26, "levels")])
def test_the_ground_is_what_half_of_the_border_has_or_brightness_decides(rows, said):
    """White above, a blue part and a red one below."""
    pixels = np.full((60, 60, 3), (255.0, 255, 255))
    pixels[rows:, :32], pixels[rows:, 32:] = (0, 0, 255), (255, 0, 0)
    assert said in seen(pixels, grey=False).said


@pytest.mark.parametrize(("chroma", "said"), [(40, "a blue figure on black"), (26, "two levels")])
def test_what_has_little_colour_for_its_contrast_has_none(chroma, said):
    """An eighth of all brightness counts as colour."""
    pixels = coloured(shape(), (0, 0, 0), (240 - chroma, 240 - chroma, 240))
    assert said in seen(pixels).said


@pytest.mark.parametrize(("blue", "said"), [(132, "a grey figure on grey"), (128, "two levels")])
def test_faint_colours_count_where_contrasts_are_faint(blue, said):
    """A twenty-fifth of all brightness, ten of 255, is enough."""
    assert said in seen(coloured(shape(), (120, 120, 120), (120, 120, blue))).said


@pytest.mark.parametrize(
    ("colours", "figure", "cut"),
    [
        ([(40, 40, 40), (200, 200, 200)], 1, 120),
        ([(255, 255, 255), (0, 60, 110)], 0, 182.5),
        ([(0, 0, 0), (255, 195, 145)], 1, 72.5),
    ],
)
def test_the_cut_that_is_told_parts_what_was_read(colours, figure, cut):
    """Bands of flat greys are half as far from the page as the nearest is, or a quarter of all."""
    on, bands = shape(), np.arange(96) // 16 % 3
    pixels = np.where(on, np.array(colours[1])[bands], np.array(colours[0])[bands]) / 255
    found = read(pixels[..., None].repeat(3, 2), None)
    assert np.array_equal(found.coverage >= 0.5, on == bool(figure))
    assert np.array_equal(pixels >= found.cut, on == bool(figure))
    assert found.rule == "levels"
    if len(set(colours[1])) == 1:
        assert 255 * found.cut == pytest.approx(cut)


@pytest.mark.parametrize(
    ("side", "soft", "grey"), [(32, 128, True), (33, 128, False), (32, 0, False)]
)
def test_soft_strokes_are_greys_in_pictures_as_small_as_digits(side, soft, grey):
    """Up to 32 pixels, where a quarter of the light and more is in half tones."""
    pixels = np.zeros((side, side))
    pixels[5:25, 10:13] = soft, 255, soft
    assert seen(pixels).grey == grey
    assert not seen(pixels, threshold=100).grey


def test_what_fades_into_a_page_of_one_colour_is_a_figure_and_no_photo():
    figure = shape()
    fade = figure * np.linspace(0.05, 1, figure.shape[1])
    found = seen(255 * (1 - fade[..., None] * [0, 1, 1]))
    assert not found.grey
    assert found.said == "a.png: a many-coloured figure on white"


def test_strong_noise_on_colours_is_smoothed_before_they_are_told_apart():
    figure = shape(108, 144)
    pixels = coloured(figure, (120, 130, 90), (60, 60, 230))
    noisy = pixels + np.random.default_rng(6).normal(0, 32, pixels.shape)
    found = seen(noisy, grey=False).coverage[18:126] >= 0.5
    assert (found & figure).sum() / (found | figure).sum() > 0.997


def test_the_colour_of_the_ground_may_have_light_and_shade():
    """As dark on the right as the figure is light on the left."""
    figure = shape(108, 144)
    figure[40:85, :30] = True  # it touches a tenth of the border
    light = np.linspace(1, 0.45, 144)[:, None]
    pixels = light * coloured(figure, (230, 225, 210), (190, 110, 90))
    found = seen(pixels, grey=False)
    on = found.coverage[18:126] >= 0.5
    assert (on & figure).sum() / (on | figure).sum() > 0.97
    assert "figure on" in found.said


def test_of_flat_greys_the_page_is_told_and_what_is_on_it():
    """Dark greys on a light page; the doubt of none."""
    figure = shape()
    bands = np.array([0, 110, 60])[np.arange(96) // 16 % 3]
    found = seen(np.where(figure, bands, 255))
    assert found.said.startswith("a.png: a dark figure on a light page, and the page is fitted")
    assert found.page
    assert found.hints == []
    assert np.array_equal(found.coverage[12:84] >= 0.5, ~figure)


def test_what_is_as_opaque_as_a_tenth_of_the_figure_is_whole():
    """Three fifths are half as opaque as the others: they are covered by half."""
    alpha = np.zeros((60, 100))
    alpha[10:50, 10:60], alpha[10:50, 60:90] = 0.4, 0.8
    found = read(np.zeros((60, 100, 3)), alpha)
    assert found.coverage[20, 20] == pytest.approx(0.5)
    assert found.coverage[20, 70] == 1
    assert found.cut == pytest.approx(0.4)


# --- Frames ---


@pytest.mark.parametrize(
    ("side", "rough", "framed"),
    [(60, 1, True), (60, 2, False), (119, 2, False), (120, 2, True), (120, 3, False)],
)
def test_a_frame_may_have_an_inner_edge_of_a_fortieth(side, rough, framed):
    """Rings of which every other pixel is on, between a line all around and nothing."""
    pixels = np.zeros((side, side))
    pixels[side // 3 : side // 2, side // 3 : side // 2 + 5] = 255
    checks = np.indices((side, side)).sum(0) % 2 * 255
    for k in range(3, 3 + rough):
        ring = np.zeros((side, side), dtype=bool)
        ring[k : side - k, k : side - k] = True
        ring[k + 1 : side - k - 1, k + 1 : side - k - 1] = False
        pixels[ring] = checks[ring]
    for edge in (2, side - 3):
        pixels[edge, 2 : side - 2] = pixels[2 : side - 2, edge] = 255
    hints = seen(pixels, grey=False).hints
    assert ("a.png has a thin frame all around, which is fitted with it: cut it off" in hints) == (
        framed
    )
