import itertools
import math
import sys

import numba
import pytest
import torch
from systems import CARPET, FERN

import ifs_model as model
from diff_ifs import backend
from diff_ifs.draw.geometry import in_pixels
from diff_ifs.draw.growth import _reach, address_tree, iterate
from diff_ifs.errors import InputError
from diff_ifs.fit.objective import Objective
from diff_ifs.fit.stages import stages
from diff_ifs.kernels.jit import BLOCK
from diff_ifs.setup import WINDOW, Setup, similarity


def random_maps(*shape: int, seed: int = 0, scale: float = 0.35) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return model.contract(
        scale * torch.randn(*shape, 2, 3, generator=generator, dtype=torch.float64), 0.9
    )


def test_constructors_are_what_they_say():
    turned = torch.tensor(similarity(0.5, degrees=90, at=(0.1, 0.2)))
    corner = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert torch.allclose(
        model.apply(turned, corner), torch.tensor([[0.1, 0.7], [-0.4, 0.2]]), atol=1e-6
    )
    mirrored = torch.tensor(similarity(0.5, mirror=True))
    assert torch.allclose(
        model.apply(mirrored, corner), torch.tensor([[0.5, 0.0], [0.0, -0.5]]), atol=1e-6
    )
    assert model.determinants(mirrored) == -0.25


def test_compose_is_one_map_after_the_other():
    f, g = random_maps(2)
    points = torch.randn(5, 2, dtype=torch.float64)
    assert torch.allclose(
        model.apply(model.compose(f, g), points), model.apply(f, model.apply(g, points))
    )


def test_singular_values_agree_with_the_library():
    maps = random_maps(50)
    assert torch.allclose(model.singular_values(maps), torch.linalg.svdvals(maps[..., :2]))


def test_contract_is_the_nearest_contraction_and_leaves_contractions_alone():
    maps = random_maps(200, scale=2.0)
    wild = 5 * maps
    u, s, vh = torch.linalg.svd(wild[..., :2])
    nearest = u @ torch.diag_embed(s.clamp(max=0.97)) @ vh
    tamed = model.contract(wild)
    assert torch.allclose(tamed[..., :2], nearest)
    assert torch.equal(tamed[..., 2], wild[..., 2])
    tame = random_maps(200, scale=0.1)
    assert torch.equal(model.contract(tame), tame)


def test_fixed_points_and_centroid_are_fixed():
    maps = random_maps(3, 7)
    points = model.fixed_points(maps)
    assert torch.allclose(model.apply(maps, points[..., None, :]).squeeze(-2), points)
    weights = model.area_weights(maps)
    middle = model.centroid(maps, weights)
    images = model.apply(maps, middle[:, None, None, :]).squeeze(-2)
    assert torch.allclose((weights[..., None] * images).sum(1), middle)


def test_area_weights_follow_areas_but_never_forget_a_flat_map():
    weights = model.area_weights(FERN)
    areas = model.determinants(FERN).abs()
    assert torch.allclose(weights[1:] / weights[1], areas[1:] / areas[1], rtol=1e-4)
    assert 0 < weights[0] < 0.01
    assert math.isclose(float(weights.sum()), 1, rel_tol=1e-6)


def test_words_of_a_depth_are_all_of_them_in_order():
    words = model.words_of_depth(3, 4)
    assert words.tolist() == [list(word) for word in itertools.product(range(3), repeat=4)]
    assert model.words_of_depth(3, 0).shape == (1, 0)


@pytest.mark.parametrize(("n", "count"), [(1, 10), (2, 64), (4, 100), (7, 50), (30, 200), (30, 5)])
def test_words_by_weight_stand_for_the_whole_measure(n, count):
    maps = random_maps(3, n)
    weights = model.area_weights(maps)
    words = backend.words_by_weight(weights, count)
    heavy = model.word_weights(weights, words)
    assert torch.allclose(heavy.sum(-1), torch.ones(3, dtype=torch.float64))
    assert words.shape[1] <= max(count, n)
    if n > 1:
        assert words.shape[1] > count - n
        # Greedy: no word that was split was lighter than one that was kept, so each is within min p
        # of the heaviest.
        assert (heavy.amin(-1) >= heavy.amax(-1) * weights.amin(-1) * (1 - 1e-9)).all()
    for system in words.tolist():
        spelled = sorted(tuple(letter for letter in word if letter < n) for word in system)
        for first, second in itertools.pairwise(
            spelled
        ):  # sorted: a prefix stands right before what it begins
            assert second[: len(first)] != first


def test_words_by_weight_finds_room_for_very_long_words():
    weights = torch.tensor([[0.97, 0.03]], dtype=torch.float64)
    words = backend.words_by_weight(weights, 60)
    assert int((words < 2).sum(-1).max()) > 20
    assert torch.allclose(
        model.word_weights(weights, words).sum(-1), torch.ones(1, dtype=torch.float64)
    )


def test_word_maps_are_the_compositions_that_words_spell():
    maps = random_maps(2, 3)
    words = torch.tensor([[0, 1, 2, 1, 0], [2, 2, 3, 3, 3], [3, 3, 3, 3, 3]])
    composed = model.word_maps(maps, words)
    for system in range(2):
        for word, found in zip(words.tolist(), composed[system], strict=True):
            expected = torch.eye(2, 3, dtype=torch.float64)
            for letter in word:
                if letter < 3:
                    expected = model.compose(expected, maps[system, letter])
            assert torch.allclose(found, expected)


def test_attractor_points_are_all_words_applied_to_the_centroid():
    weights = model.area_weights(CARPET.double())
    words = (model.words_of_depth(8, 2), model.words_of_depth(8, 1))
    points, shares = model.attractor_points(
        CARPET.double(), weights, words, torch.eye(2, 3, dtype=torch.float64)
    )
    expected = model.centroid(CARPET.double(), weights)[None]
    for _ in range(3):
        expected = model.apply(CARPET.double(), expected).flatten(0, 1)
    assert points.shape == (2, 512)
    assert torch.allclose(torch.sort(points, 1).values, torch.sort(expected.T, 1).values, atol=1e-7)
    assert torch.allclose(shares, torch.full((512,), 1 / 512, dtype=torch.float64))


def test_frame_puts_pixel_centres_where_the_design_says():
    to_pixels = torch.tensor(model.frame(WINDOW, 8))
    row, column = 2, 5
    centre = torch.tensor([[(2 * column + 1) / 8 - 1, 1 - (2 * row + 1) / 8]])
    assert torch.allclose(
        model.apply(to_pixels, centre), torch.tensor([[float(column), float(row)]])
    )


def brute_force_splat(points: torch.Tensor, weights: torch.Tensor, size: int) -> torch.Tensor:
    """The same tent of one pixel, from every point to every pixel."""
    pixels = torch.arange(size, dtype=points.dtype)
    across = (1 - (points[:, 0, :, None] - pixels).abs()).clamp(min=0)
    down = (1 - (points[:, 1, :, None] - pixels).abs()).clamp(min=0)
    return torch.einsum("bp,bpr,bpc->brc", weights, down, across)


def test_splat_agrees_with_brute_force_inside_and_outside():
    generator = torch.Generator().manual_seed(1)
    points = 30 * torch.rand(3, 2, 500, generator=generator, dtype=torch.float64) - 7
    weights = torch.rand(3, 500, generator=generator, dtype=torch.float64)
    expected = brute_force_splat(points, weights, 16)
    assert torch.allclose(model.splat(points, weights, 16), expected)
    assert torch.allclose(model.splat(points[0], weights[0], 16), expected[0])
    assert points.amin() < -1, "the test must cover points far outside"
    assert points.amax() > 17


def test_splat_gradients_agree_with_brute_force():
    generator = torch.Generator().manual_seed(2)
    points = (
        22 * torch.rand(2, 2, 300, generator=generator, dtype=torch.float64) - 3
    ).requires_grad_()
    weights = torch.rand(2, 300, generator=generator, dtype=torch.float64).requires_grad_()
    upstream = torch.randn(2, 16, 16, generator=generator, dtype=torch.float64)
    fast = torch.autograd.grad(
        (model.splat(points, weights, 16) * upstream).sum(), (points, weights)
    )
    slow = torch.autograd.grad(
        (brute_force_splat(points, weights, 16) * upstream).sum(), (points, weights)
    )
    for ours, theirs in zip(fast, slow, strict=True):
        assert torch.allclose(ours, theirs)


def test_splat_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(3)
    points = (
        10 * torch.rand(1, 2, 12, generator=generator, dtype=torch.float64) - 1
    ).requires_grad_()
    weights = torch.rand(1, 12, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, w: model.splat(p, w, 8), (points, weights), eps=1e-7, atol=1e-5
    )


def test_blur_keeps_mass_away_from_the_border_and_agrees_with_a_direct_sum():
    picture = torch.zeros(32, 32, dtype=torch.float64)
    picture[14, 17] = 1
    spread = model.blur_matrix(32, 1.5, picture)
    blurred = spread @ picture @ spread
    assert math.isclose(float(blurred.sum()), 1, rel_tol=1e-9)
    at = torch.arange(32, dtype=torch.float64)
    squared = (at[:, None] - 14) ** 2 + (at - 17) ** 2
    direct = torch.exp(-squared / (2 * 1.5**2))
    # it is cut off after four sigmas
    assert torch.allclose(blurred, direct / direct.sum(), rtol=0, atol=1e-5)


def test_a_pen_keeps_mass_and_its_gradient_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(7)
    density = torch.zeros(2, 15, 15, dtype=torch.float64)
    density[:, 4:11, 4:11] = torch.rand(2, 7, 7, generator=generator, dtype=torch.float64)
    radius = torch.tensor([0.7, 1.9], dtype=torch.float64)
    density.requires_grad_()
    drawn = model.convolve(density, model.pen_discs(radius, 3))
    assert torch.allclose(drawn.sum((1, 2)), density.sum((1, 2)))
    assert torch.autograd.gradcheck(
        lambda d: model.convolve(d, model.pen_discs(radius, 3)), density, eps=1e-7, atol=1e-5
    )


def test_a_pen_draws_a_disc_about_a_point():
    density = torch.zeros(1, 11, 11, dtype=torch.float64)
    density[0, 3, 6] = 1
    drawn = model.convolve(density, model.pen_discs(torch.tensor([2.0], dtype=torch.float64), 4))
    at = torch.arange(11, dtype=torch.float64)
    disc = (2.5 - torch.hypot(at[:, None] - 3, at - 6)).clamp(0, 1)
    assert torch.allclose(drawn[0], disc / disc.sum())


@pytest.mark.parametrize("size", [16, 19, 34])
def test_the_loss_of_a_picture_of_any_size_has_the_gradient_of_finite_differences(size):
    generator = torch.Generator().manual_seed(8)
    density = torch.rand(
        2, size, size, generator=generator, dtype=torch.float64, requires_grad=True
    )
    target = torch.rand(size, size, generator=generator).double()
    along = torch.rand(2, size, size, generator=generator, dtype=torch.float64)
    before, after = (
        model.picture_loss(density.detach() + h * along, 1.0, 2.0, target, 4).sum()
        for h in (-1e-5, 1e-5)
    )
    (gradient,) = torch.autograd.grad(
        model.picture_loss(density, 1.0, 2.0, target, 4).sum(), density
    )
    assert math.isclose(float((gradient * along).sum()), float(after - before) / 2e-5, rel_tol=1e-6)


def test_coverage_is_zero_without_density_and_half_at_log_two():
    assert torch.allclose(
        model.coverage(torch.tensor([0.0, math.log(2), 50.0]), 1.0), torch.tensor([0.0, 0.5, 1.0])
    )


@pytest.mark.slow
def test_threads_that_share_systems_change_no_bit():
    loops = backend.load_kernels()
    generator = torch.Generator().manual_seed(9)
    shapes = (3, 5, 2, 3), (3, 2, 40), (3, 5), (3, 40)
    splatted = [8 * torch.rand(shape, generator=generator).numpy() for shape in shapes]
    upstream = (
        torch.rand(3, 16, 16, generator=generator).numpy(),
        torch.rand(3, generator=generator).numpy(),
    )
    maps, to = random_maps(3, 4, seed=9), torch.tensor(model.frame(WINDOW, 16), dtype=torch.float64)
    words, trees = model.words_of_depth(4, 2), [address_tree(system, WINDOW, 32) for system in maps]
    target = torch.rand(16, 16, generator=generator).double()
    look = model.LossSettings(target, target, 1.0, target.new_ones(3), 1)
    spelled = backend.arrays(maps, *(half.expand(3, -1, -1) for half in (words, words)), to)
    letters, parents = (
        backend.arrays(*parts) for parts in zip(*(kin[:2] for kin in trees), strict=True)
    )
    grown = (
        *backend.arrays(maps),
        letters,
        parents,
        [kin.sizes[0] for kin in trees],
        to.numpy(),
        0.25,
    )
    for work in (
        lambda threads: loops.splat(*splatted, 16, threads),
        lambda threads: loops.splat_gradient(*splatted, *upstream, threads),
        lambda threads: loops.word_loss(
            *spelled, 0.02, 0.1, *backend.settings_arrays(look), threads
        ),
        lambda threads: loops.tree_loss(*grown, *backend.settings_arrays(look), threads),
    ):
        for one, *others in zip(work(1), work(2), work(2), strict=True):
            assert one.any()
            assert all((one == other).all() for other in others)


def test_without_numba_there_is_one_line_that_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(InputError, match=r"numba is needed .*: pip install numba"):
        backend.load_kernels.__wrapped__()


def test_loops_that_numba_may_not_compile_are_refused(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(InputError, match="NUMBA_DISABLE_JIT is set"):
        backend.load_kernels.__wrapped__()


def test_compiled_loops_and_plain_pytorch_splat_alike(monkeypatch):
    maps = 1.5 * random_maps(3, 4, seed=7)  # reach far out of the picture
    maps[0, 0, :, 0] = maps[0, 0, :, 1]  # is flat
    to = torch.tensor(model.frame((-0.5, 0.5, -0.5, 0.5), 16), dtype=torch.float64)
    weights = model.area_weights(maps)
    words = (backend.words_by_weight(weights, 40), backend.words_by_weight(weights, 20))
    assert backend.kernels(maps) is not None
    compiled = backend.splat_words(maps, words, to, 16)
    monkeypatch.setattr(backend, "load_kernels", lambda: None)
    plain = backend.splat_words(maps, words, to, 16)
    for ours, theirs in zip(compiled, plain, strict=True):
        assert torch.allclose(ours, theirs)
    assert (compiled[1] > 1).all(), "points must lie outside"
    assert (compiled[0].sum((1, 2)) > 0.05).all(), "and inside"


@pytest.mark.parametrize("size", [16, 35])
def test_compiled_loops_and_plain_pytorch_draw_with_pens_and_blur_alike(size, monkeypatch):
    generator = torch.Generator().manual_seed(10)
    density = torch.rand(3, size, size, generator=generator, dtype=torch.float64)
    radius = torch.tensor([0.6, 1.4, 2.0]).double()

    def drawn_and_blurred():
        drawn = backend.convolve(density, model.pen_discs(radius, 3))
        return drawn, backend.blur(drawn, 0.8)

    compiled = drawn_and_blurred()
    monkeypatch.setattr(backend, "load_kernels", lambda: None)
    for ours, theirs in zip(compiled, drawn_and_blurred(), strict=True):
        assert torch.allclose(ours, theirs)


@pytest.mark.parametrize(("n", "count"), [(1, 10), (2, 100), (5, 60)])
def test_compiled_loops_and_plain_pytorch_choose_the_same_words(n, count, monkeypatch):
    weights = model.area_weights(random_maps(3, n, seed=12)).float()
    compiled = backend.words_by_weight(weights, count)
    monkeypatch.setattr(backend, "load_kernels", lambda: None)
    assert torch.equal(compiled, backend.words_by_weight(weights, count))


def test_compiled_loops_and_plain_pytorch_choose_the_same_alphas(monkeypatch):
    target, maps = torch.zeros(32, 32, dtype=torch.float64), random_maps(3, 3, seed=4)
    target[9:23, 4:27] = 1
    setup, stroke = (
        Setup(maps=3, size=32, stroke=0.05),
        torch.tensor([0.05, 0.2, 0.05], dtype=torch.float64),
    )

    def chosen(sigma: float) -> torch.Tensor:
        objective = Objective(target, stages(setup)[0], setup)
        objective.refresh(maps, stroke, sigma)
        return objective.alphas

    compiled = [chosen(sigma) for sigma in (0.5, 2.0, 6.0)]
    assert len(torch.cat(compiled).unique()) > 2
    monkeypatch.setattr(backend, "load_kernels", lambda: None)
    for ours, sigma in zip(compiled, (0.5, 2.0, 6.0), strict=True):
        assert torch.allclose(ours, chosen(sigma))


@pytest.mark.parametrize(("size", "pens"), [(16, True), (35, False)])
def test_compiled_loops_and_plain_pytorch_find_the_same_loss_of_words(size, pens, monkeypatch):
    generator = torch.Generator().manual_seed(11)
    maps = 1.5 * random_maps(3, 4, seed=11)  # reach far out of the picture
    maps[0, 0, :, 0] = maps[0, 0, :, 1]  # is flat
    maps[1, 1] = 0.0
    maps.requires_grad_()
    to = torch.tensor(model.frame((-0.5, 0.5, -0.5, 0.5), size), dtype=torch.float64)
    target, away = torch.rand(2, size, size, generator=generator, dtype=torch.float64)
    alphas, radius = (
        torch.tensor([20.0, 50.0, 80.0]).double(),
        torch.tensor([0.6, 1.4, 2.0]).double(),
    )
    look = model.LossSettings(
        target, away, 0.8, alphas, 4, model.pen_discs(radius, 3) if pens else None
    )
    words = backend.words_by_weight(model.area_weights(maps), 40), model.words_of_depth(4, 2)

    def loss_and_gradient():
        loss = backend.word_loss(maps, words, to, look, 0.3)
        return loss, *torch.autograd.grad(loss.square().sum(), maps)

    compiled = loss_and_gradient()
    monkeypatch.setattr(backend, "load_kernels", lambda: None)
    for ours, theirs in zip(compiled, loss_and_gradient(), strict=True):
        assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("pens", [False, True])
@pytest.mark.parametrize("middle", [-0.98, -0.2, 0.9])
def test_rows_that_hold_nothing_are_skipped_without_a_difference(middle, pens, monkeypatch):
    maps = 0.3 * random_maps(2, 3, seed=5)
    maps[:, :, 1] *= 0.02  # flat attractors, one of them higher up
    maps[:, :, 1, 2] += torch.tensor([[middle], [middle + 0.1]])
    maps.requires_grad_()
    to = torch.tensor(model.frame(WINDOW, 40), dtype=torch.float64)
    target, away = torch.rand(
        2, 40, 40, generator=torch.Generator().manual_seed(6), dtype=torch.float64
    )
    discs = model.pen_discs(torch.tensor([1.2, 2.0]).double(), 2) if pens else None
    look, words = (
        model.LossSettings(target, away, 0.6, target.new_tensor([20, 50]), 3, discs),
        model.words_of_depth(3, 3),
    )
    rows = backend.splat_words(maps, (words, words), to, 40)[0].sum((0, 2)).nonzero()
    assert len(rows) < 10

    def loss_and_gradient():
        loss = backend.word_loss(maps, (words, words), to, look, 0.3)
        return loss, *torch.autograd.grad(loss.square().sum(), maps)

    compiled = loss_and_gradient()
    monkeypatch.setattr(backend, "load_kernels", lambda: None)
    for ours, theirs in zip(compiled, loss_and_gradient(), strict=True):
        assert torch.allclose(ours, theirs)


def test_descendants_are_on_the_attractor_and_their_gradients_agree_with_finite_differences():
    maps = (0.8 * random_maps(1, 3, seed=8)[0]).requires_grad_()
    tree = address_tree(maps.detach(), WINDOW, 8)
    assert len(tree.sizes) > 3
    assert sum(tree.sizes) == len(tree.letters)
    points = model.tree_points(maps, tree)
    pixels = in_pixels(maps.detach(), WINDOW, 8)
    grown = torch.cat([points for _, points in iterate(pixels, _reach(pixels, 8), 1.0, 99)], dim=1)
    to = torch.tensor(model.frame(WINDOW, 8), dtype=torch.float64)
    assert torch.allclose(to[:, :2] @ points + to[:, 2:], grown)
    assert torch.autograd.gradcheck(lambda m: model.tree_points(m, tree), maps, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("pens", [False, True])
def test_compiled_loops_and_plain_pytorch_find_the_same_loss_of_grown_points(pens, monkeypatch):
    generator = torch.Generator().manual_seed(9)
    maps = CARPET.double() + 0.01 * torch.randn(
        2, 8, 2, 3, generator=generator, dtype=torch.float64
    )
    maps.requires_grad_()
    to = torch.tensor(model.frame(WINDOW, 16), dtype=torch.float64)
    target, away = torch.rand(2, 16, 16, generator=generator, dtype=torch.float64)
    alphas, radius = torch.tensor([0.5, 1.0]).double(), torch.tensor([0.6, 1.9]).double()
    look = model.LossSettings(
        target, away, 0.8, alphas, 2, model.pen_discs(radius, 3) if pens else None
    )
    trees = [address_tree(system.detach(), WINDOW, 64) for system in maps]
    assert max(len(tree.letters) for tree in trees) > BLOCK

    def loss_and_gradient():
        loss = backend.tree_loss(maps, trees, to, 0.25, look)
        return loss, *torch.autograd.grad(loss.square().sum(), maps)

    compiled = loss_and_gradient()
    monkeypatch.setattr(backend, "load_kernels", lambda: None)
    for ours, theirs in zip(compiled, loss_and_gradient(), strict=True):
        assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("level", [0, -1])
@pytest.mark.parametrize("depth", [None, 3])
def test_gradients_of_the_loss_agree_with_finite_differences(depth, level):
    generator = torch.Generator().manual_seed(4)
    target = (torch.rand(32, 32, generator=generator) > 0.5).double()
    setup = Setup(maps=3, depth=depth, size=32, stroke=0.05)
    stage = stages(setup)[level]
    objective = Objective(target, stage, setup)
    maps = random_maps(2, 3, seed=5).requires_grad_()
    stroke = torch.tensor([0.05, 0.1], dtype=torch.float64)
    objective.refresh(maps, stroke, 1.0)
    assert torch.autograd.gradcheck(lambda m: objective(m, 1.0), maps, eps=1e-7, atol=1e-5)


def test_gradients_of_the_loss_of_a_grown_stage_agree_with_finite_differences():
    target = (torch.rand(32, 32, generator=torch.Generator().manual_seed(4)) > 0.5).double()
    setup = Setup(maps=3, size=32)
    objective = Objective(target, stages(setup)[-1], setup)
    maps = random_maps(2, 3, seed=5).requires_grad_()
    objective.refresh(maps, None, 1.0)
    assert objective.trees
    assert torch.autograd.gradcheck(lambda m: objective(m, 1.0), maps, eps=1e-7, atol=1e-5)
