"""An iterated function system and its differentiable picture.

Maps become words, words become points, points are splatted into a density, and the density
saturates into a coverage: the soft picture of the attractor. Everything is a tensor program over
leading batch dimensions, so that many systems (restarts, targets) are rendered and fitted at once.

Letters in shapes: B any batch dimensions, n maps, K words, L letters of a word, P points, S side of
the picture. World: x right, y up; a window is (xmin, xmax, ymin, ymax). Pixels: u right, v down,
pixel centres at integers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SINGULAR = 0.97
FLATTEST = 0.02  # ratio of its singular values that a flatter map counts as if it had


# --- Maps: (B, n, 2, 3), f(x) = A x + t with A = maps[..., :2] and t = maps[..., 2] ---


def compose(f: Tensor, g: Tensor) -> Tensor:
    """The maps f∘g, of shapes (..., 2, 3) that broadcast."""
    moved = f[..., :2] @ g
    return torch.cat([moved[..., :2], moved[..., 2:] + f[..., 2:]], dim=-1)


def apply(maps: Tensor, points: Tensor) -> Tensor:
    """Images of points (..., P, 2) under maps (..., 2, 3), whose batch dimensions broadcast."""
    return points @ maps[..., :2].mT + maps[..., None, :, 2]


def singular_values(maps: Tensor) -> Tensor:
    """The two singular values of A, the larger first: (..., 2) for maps (..., 2, 3)."""
    turn, flip = turn_and_flip(maps)
    return torch.stack(
        [turn.norm(dim=-1) + flip.norm(dim=-1), (turn.norm(dim=-1) - flip.norm(dim=-1)).abs()],
        dim=-1,
    )


def determinants(maps: Tensor) -> Tensor:
    """det A, the signed factor by which a map scales areas: (...) for maps (..., 2, 3)."""
    return maps[..., 0, 0] * maps[..., 1, 1] - maps[..., 0, 1] * maps[..., 1, 0]


def contract(maps: Tensor, bound: float = MAX_SINGULAR) -> Tensor:
    """The nearest maps (in the Frobenius norm) whose singular values are at most `bound`; same
    shape, same t.

    A 2×2 matrix is z -> α z + β z̄ on the complex plane, and its singular values are |α| + |β| and
    ||α| - |β||; clamping them therefore only rescales α and β.
    """
    turn, flip = turn_and_flip(maps)
    q, r = turn.norm(dim=-1), flip.norm(dim=-1)
    larger, smaller = (q + r).clamp(max=bound), (q - r).clamp(-bound, bound)
    tiny = torch.finfo(maps.dtype).tiny
    turn = turn * ((larger + smaller) / 2 / q.clamp(min=tiny))[..., None]
    flip = flip * ((larger - smaller) / 2 / r.clamp(min=tiny))[..., None]
    (c, s), (e, g) = turn.unbind(-1), flip.unbind(-1)
    linear = torch.stack([c + e, g - s, g + s, c - e], dim=-1).unflatten(-1, (2, 2))
    inside = (q + r <= bound)[..., None, None]
    return torch.cat([torch.where(inside, maps[..., :2], linear), maps[..., 2:]], dim=-1)


def turn_and_flip(maps: Tensor) -> tuple[Tensor, Tensor]:
    """α and β of A = (z -> α z + β z̄), as real pairs (..., 2)."""
    (a, b), (c, d) = (row.unbind(-1) for row in maps[..., :2].unbind(-2))
    return torch.stack([a + d, c - b], dim=-1) / 2, torch.stack([a - d, c + b], dim=-1) / 2


def fixed_points(maps: Tensor) -> Tensor:
    """The fixed point of each map, (..., 2) for maps (..., 2, 3): the solution of x = A x + t, by
    Cramer's rule."""
    (a, b, x), (c, d, y) = (row.unbind(-1) for row in maps.unbind(-2))
    determinant = (1 - a) * (1 - d) - b * c
    return torch.stack(
        [((1 - d) * x + b * y) / determinant, ((1 - a) * y + c * x) / determinant], dim=-1
    )


def rotations(angles: Tensor) -> Tensor:
    """Rotations (..., 2, 2) by angles (...)."""
    c, s = angles.cos(), angles.sin()
    return torch.stack([c, -s, s, c], dim=-1).unflatten(-1, (2, 2))


def area_weights(maps: Tensor) -> Tensor:
    """Probabilities (B, n) in proportion to |det A|, which spread points evenly over a solid
    attractor.

    A map flatter than FLATTEST counts as if it were not: a map of rank one, such as the stem of
    Barnsley's fern, still gets its points.
    """
    large, small = singular_values(maps).unbind(-1)
    area = large * torch.maximum(small, FLATTEST * large) + 1e-9
    return area / area.sum(-1, keepdim=True)


def centroid(maps: Tensor, weights: Tensor) -> Tensor:
    """Centre of mass (B, 2) of the invariant measure: the solution of m = Σ p_i f_i(m)."""
    return fixed_points((weights[..., None, None] * maps).sum(-3))


# --- Words: (B, K, L) letters 0 … n-1; the letter n is the identity and pads shorter words ---


def words_of_depth(n: int, depth: int, device: torch.device | str | None = None) -> Tensor:
    """All n^depth words of `depth` letters, in lexicographic order: (n^depth, depth)."""
    letters = torch.arange(n, device=device)
    return (
        torch.cartesian_prod(*[letters] * depth).reshape(-1, depth)
        if depth
        else letters.new_zeros(1, 0)
    )


def rounds_of(n: int, count: int) -> int:
    """How often `words_by_weight` replaces a word of n letters by its children for about `count`
    words."""
    return max(1, (count - 1) // (n - 1)) if n > 1 else 24


def words_by_weight(weights: Tensor, count: int) -> Tensor:
    """About `count` words of nearly equal weight that together stand for the whole measure: (B, K,
    L).

    Starting from the empty word, the heaviest word is replaced by its n children until the next
    replacement would give more than `count` words. No word is a prefix of another, and their
    weights sum to one, so that Σ p_w f_w#μ = μ holds for them as it does for all words of one
    depth; but no map is sampled too thinly because it is large. K depends on n and `count` alone.
    Weights are (B, n).
    """
    batch, n = weights.shape[:-1], weights.shape[-1]
    p = weights.detach().reshape(-1, n)
    rounds = rounds_of(n, count)
    size = 1 + rounds * (n - 1)
    rows = torch.arange(len(p), device=p.device)
    weight = torch.zeros(len(p), size, dtype=p.dtype, device=p.device)
    weight[:, 0] = 1
    words = torch.full((len(p), size, 8), n, dtype=torch.long, device=p.device)
    length = torch.zeros(len(p), size, dtype=torch.long, device=p.device)
    letters = torch.arange(n, device=p.device)
    for done in range(rounds):
        parent = weight.argmax(1)
        longest = length[rows, parent]
        # room for the letters of eight rounds
        if done % 8 == 0 and int(length.max()) + 8 > words.shape[-1]:
            words = torch.cat([words, torch.full_like(words[..., :8], n)], dim=-1)
        # child 0 takes the place of its parent, the others the next free places
        first = 1 + done * (n - 1)
        places = torch.cat([parent[:, None], (first + letters[: n - 1]).expand(len(p), -1)], dim=1)
        spelling = words[rows, parent][:, None].repeat(1, n, 1)
        spelling.scatter_(
            2, longest[:, None, None].expand(-1, n, 1), letters[:, None].expand(len(p), n, 1)
        )
        words[rows[:, None], places] = spelling
        weight[rows[:, None], places] = weight[rows, parent][:, None] * p
        length[rows[:, None], places] = longest[:, None] + 1
    return words[..., : int(length.max())].reshape(*batch, size, -1)


def word_maps(maps: Tensor, words: Tensor) -> Tensor:
    """The compositions f_w1∘…∘f_wL as maps (B, K, 2, 3), from maps (B, n, 2, 3) and words (K, L) or
    (B, K, L)."""
    identity = torch.eye(2, 3, dtype=maps.dtype, device=maps.device).expand(
        *maps.shape[:-3], 1, 2, 3
    )
    alphabet = torch.cat([maps, identity], dim=-3)
    words = words.expand(*maps.shape[:-3], *words.shape[-2:])
    index = words.flatten(-2)[..., None, None].expand(*words.shape[:-2], -1, 2, 3)
    letters = alphabet.gather(-3, index).unflatten(-3, words.shape[-2:])  # (B, K, L, 2, 3)
    if words.shape[-1] == 0:
        return identity.expand(*words.shape[:-1], 2, 3)
    while letters.shape[-3] > 1:  # neighbours are joined in pairs: log2 L rounds
        even = letters[..., : letters.shape[-3] // 2 * 2, :, :]
        joined = compose(even[..., 0::2, :, :], even[..., 1::2, :, :])
        letters = torch.cat([joined, letters[..., even.shape[-3] :, :, :]], dim=-3)
    return letters[..., 0, :, :]


def word_weights(weights: Tensor, words: Tensor) -> Tensor:
    """The product (B, K) of the weights (B, n) of a word's letters, for words (K, L) or (B, K,
    L)."""
    # a sum of logarithms: the gradient of a product makes a GPU wait, to look for zeros
    alphabet = torch.cat([weights.log(), torch.zeros_like(weights[..., :1])], dim=-1)
    words = words.expand(*weights.shape[:-1], *words.shape[-2:])
    return alphabet.gather(-1, words.flatten(-2)).unflatten(-1, words.shape[-2:]).sum(-1).exp()


# --- Points and pictures ---


def frame(window: tuple[float, float, float, float], size: int) -> list[list[float]]:
    """The world-to-pixel map of a size × size picture of `window`, as 2 × 3 numbers: the one place
    that flips y."""
    xmin, xmax, ymin, ymax = window
    sx, sy = size / (xmax - xmin), size / (ymax - ymin)
    return [[sx, 0.0, -xmin * sx - 0.5], [0.0, -sy, ymax * sy - 0.5]]


def attractor_points(
    maps: Tensor, weights: Tensor, words: tuple[Tensor, Tensor], to: Tensor
) -> tuple[Tensor, Tensor]:
    """Points (B, 2, P) of the attractor, seen through the map `to` (2, 3), and their weights (B,
    P).

    The points are f_v(f_w(m)) for every v of words[0] and w of words[1], with m the centroid of the
    measure: all pairs at the cost of a matrix product with an inner dimension of three. Words are
    (K, L) or (B, K, L).
    """
    outer, inner = outer_and_inner_words(maps, weights, words, to)
    homogeneous = torch.cat([inner, torch.ones_like(inner[..., :1])], dim=-1)
    # (B, 2, K, 3) @ (B, 1, 3, M)
    points = outer.transpose(-3, -2) @ homogeneous.mT[..., None, :, :]
    shares = (
        word_weights(weights, words[0])[..., :, None]
        * word_weights(weights, words[1])[..., None, :]
    )
    return points.flatten(-2), shares.flatten(-2)


def outer_and_inner_words(
    maps: Tensor, weights: Tensor, words: tuple[Tensor, Tensor], to: Tensor
) -> tuple[Tensor, Tensor]:
    """Outer words as maps (B, K, 2, 3) into the frame `to`, and inner words as points (B, M, 2)."""
    first = word_maps(maps, words[0])
    second = first if words[1] is words[0] else word_maps(maps, words[1])
    middle = centroid(maps, weights)[..., None, None, :]
    return compose(to, first), apply(second, middle).squeeze(-2)


class _Splat(torch.autograd.Function):
    """Bilinear scatter of weighted points into a picture; the backward pass gathers at the same
    four pixels.

    The picture is padded by two pixels on each side. Coordinates are clamped to the padding, so
    that points outside fall on pixels that are cropped: they add nothing and receive no gradient.
    """

    @staticmethod
    def forward(ctx, points: Tensor, weights: Tensor, size: int) -> Tensor:
        side = size + 4
        clamped = points.clamp(-2, size)
        corner = clamped.floor()
        (fu, fv), (column, row) = (clamped - corner).unbind(1), corner.long().unbind(1)
        index = torch.add(column + (2 * side + 2), row, alpha=side)
        ctx.save_for_backward(index, fu, fv, weights)
        ctx.size = size
        picture = weights.new_zeros(len(points), side * side)
        lower = weights * fv
        upper = weights - lower
        taps = (0, upper, True), (1, upper, False), (side, lower, True), (side + 1, lower, False)
        for offset, row_share, left in taps:
            share = row_share * fu
            picture.scatter_add_(1, index + offset, row_share - share if left else share)
        return picture.unflatten(1, (side, side))[:, 2:-2, 2:-2]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        index, fu, fv, weights = ctx.saved_tensors
        side = ctx.size + 4
        padded = F.pad(gradient, (2, 2, 2, 2)).flatten(1)
        g00, g01, g10, g11 = (padded.gather(1, index + offset) for offset in (0, 1, side, side + 1))
        top, bottom = g01 - g00, g11 - g10  # differences along u
        left = torch.addcmul(g00, top, fu)
        down = torch.addcmul(g10, bottom, fu) - left  # difference along v
        along_u = torch.addcmul(top, bottom - top, fv) * weights
        return torch.stack([along_u, down * weights], dim=1), torch.addcmul(left, down, fv), None


def splat(points: Tensor, weights: Tensor, size: int) -> Tensor:
    """The density (B, S, S) of points (B, 2, P) in pixel coordinates (u, v) with weights (B, P), S
    = `size`.

    Each point is shared among the four nearest pixel centres (a tent of one pixel). Differentiable
    in points and weights; points outside the picture add nothing.
    """
    batch = weights.shape[:-1]
    density = _Splat.apply(
        points.reshape(-1, *points.shape[-2:]), weights.reshape(-1, weights.shape[-1]), size
    )
    return density.reshape(*batch, size, size)


def splat_words(
    maps: Tensor, words: tuple[Tensor, Tensor], to: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """The density (B, S, S) of `attractor_points` under the frame `to`, S = `size`, and their
    excess (B,).

    Their weights are those of `area_weights`. The excess is the mean distance, in pixels along the
    axes, of the points from the picture: 0 if all are inside. Maps are (B, n, 2, 3) with exactly
    one batch dimension; words are (K, L) or (B, K, L). Differentiable.
    """
    points, shares = attractor_points(maps, area_weights(maps), words, to)
    excess = ((points - points.detach().clamp(0, size - 1)).abs().sum(1) * shares).sum(-1)
    return splat(points, shares, size), excess


class AddressTree(NamedTuple):
    """How points come from each other: point p is the image of point parents[p] under map
    letters[p].

    Parents come before their children, generation by generation. The first generation are fixed
    points, whose parents mean nothing.
    """

    letters: Tensor  # (P,)
    parents: Tensor  # (P,)
    sizes: list[int]  # points in each generation


def tree_points(maps: Tensor, tree: AddressTree) -> Tensor:
    """The points (2, P) of a tree under maps (n, 2, 3); differentiable in the maps, through all
    generations.

    They move as points of the attractor do: the implicit function theorem for x_w = f_w(x_w), one
    letter at a time.
    """
    first = tree.sizes[0]
    generations = [fixed_points(maps).index_select(0, tree.letters[:first])]
    for size in tree.sizes[1:]:
        letters, parents = (part[first : first + size] for part in tree[:2])
        # counted from the first of the generation before
        born = parents - (first - len(generations[-1]))
        # the gradient of an index in brackets is summed by one thread for each map on a GPU
        parent = generations[-1].index_select(0, born)[:, None]
        generations.append(apply(maps.index_select(0, letters), parent).squeeze(1))
        first += size
    return torch.cat(generations).T


def splat_tree(maps: Tensor, tree: AddressTree, to: Tensor, weight: float, size: int) -> Tensor:
    """The density (S, S), S = `size`, of a tree's points, each of weight `weight`, seen through
    `to` (2, 3)."""
    points = tree_points(maps, tree)
    return splat(to[:, :2] @ points + to[:, 2:], points.new_full((points.shape[1],), weight), size)


def gaussian(sigma: float) -> list[float]:
    """Half a Gaussian of `sigma` pixels, from its middle on; it ends after four sigmas, and the
    whole sums to one."""
    sigma = max(sigma, 1e-3)
    taps = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(math.ceil(4 * sigma) + 1)]
    whole = 2 * sum(taps) - taps[0]
    return [tap / whole for tap in taps]


def blur_matrix(size: int, sigma: float, like: Tensor) -> Tensor:
    """The banded matrix G (S, S) of a Gaussian of `sigma` pixels; G @ picture @ G blurs a picture
    with it."""
    taps = gaussian(sigma)
    at = torch.arange(size, dtype=like.dtype, device=like.device)
    away = (at[:, None] - at).abs()
    return (taps[0] * torch.exp(-0.5 * (away / max(sigma, 1e-3)) ** 2)).masked_fill(
        away >= len(taps), 0
    )


def blur(pictures: Tensor, sigma: float | Tensor) -> Tensor:
    """Pictures (B, S, S), zero all around, under a Gaussian of `sigma` pixels or its matrix."""
    known = isinstance(sigma, Tensor)
    spread = sigma if known else blur_matrix(pictures.shape[-1], sigma, pictures)
    return spread @ pictures @ spread


def pen_discs(radius: Tensor, reach: int) -> Tensor:
    """The discs (B, 2 R + 1, 2 R + 1), R = `reach`, that pens of radius (B,) pixels draw about a
    point of mass one.

    A disc is K(d) = clamp(r + 1/2 − d, 0, 1), cut off after R pixels.
    """
    at = torch.arange(-reach, reach + 1, dtype=radius.dtype, device=radius.device)
    away = torch.hypot(at[:, None], at)
    discs = (radius[:, None, None] + 0.5 - away).clamp(0, 1).masked_fill(away > reach, 0)
    return discs / discs.sum((1, 2), keepdim=True)


def convolve(pictures: Tensor, discs: Tensor) -> Tensor:
    """Each picture (B, S, S), zero all around, with its own disc (B, 2 R + 1, 2 R + 1)."""
    reach = discs.shape[-1] // 2
    return F.conv2d(pictures[None], discs[:, None], padding=reach, groups=len(discs))[0]


def coverage(density: Tensor, alpha: Tensor | float) -> Tensor:
    """C = 1 − exp(−α ρ), in [0, 1): a pixel is on where C ≥ 1/2."""
    return -torch.expm1(-alpha * density)


def picture_loss(
    density: Tensor, sigma: float | Tensor, alpha: Tensor | float, target: Tensor, levels: int
) -> Tensor:
    """Losses (B,) of densities (B, S, S): squared error of coverage, summed over a pyramid.

    The densities are blurred by a `gaussian` of sigma, and their coverage, with one alpha or one
    for each (B, 1, 1), is compared with the target (S, S) and, averaged over 2 × 2 pixels again and
    again, at up to `levels` coarser sizes.
    """
    error = coverage(blur(density, sigma), alpha) - target
    loss = error.square().mean((1, 2))
    for _ in range(levels):
        if error.shape[-1] < 8:
            break
        error = F.avg_pool2d(error, 2)
        loss = loss + error.square().mean((1, 2))
    return loss


class LossSettings(NamedTuple):
    """How densities (B, S, S) are drawn, and what they are compared with."""

    target: Tensor  # (S, S)
    away: Tensor  # (S, S); what a stray point adds to the loss, for its whole mass
    sigma: float | Tensor  # of the blur, in pixels, or its `blur_matrix` (S, S)
    alphas: Tensor  # (B,)
    levels: int  # of the pyramid above the picture itself
    discs: Tensor | None = None  # (B, 2 R + 1, 2 R + 1) of the pens


def look_loss(density: Tensor, look: LossSettings) -> Tensor:
    """Losses (B,) of densities (B, S, S): that of their pictures, and what stray points add."""
    if look.discs is not None:
        density = convolve(density, look.discs)
    stray = (density * look.away).sum((1, 2))
    return stray + picture_loss(
        density, look.sigma, look.alphas[:, None, None], look.target, look.levels
    )


def word_loss(
    maps: Tensor, words: tuple[Tensor, Tensor], to: Tensor, look: LossSettings, pull: float
) -> Tensor:
    """Losses (B,) of the systems (B, n, 2, 3) that `splat_words` draws, and `pull` times their
    excess."""
    density, excess = splat_words(maps, words, to, look.target.shape[-1])
    return look_loss(density, look) + pull * excess


def tree_loss(
    maps: Tensor, trees: Sequence[AddressTree], to: Tensor, weight: float, look: LossSettings
) -> Tensor:
    """Losses (B,) of the systems (B, n, 2, 3) that `splat_tree` draws, each with its own tree."""
    size, pairs = look.target.shape[-1], zip(maps, trees, strict=True)
    return look_loss(torch.stack([splat_tree(*pair, to, weight, size) for pair in pairs]), look)
