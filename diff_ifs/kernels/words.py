"""Words: the outer and inner words of all points, their weights, and their gradients for the maps.

Letters in shapes: B systems, K outer words, M inner words, L letters of a word, n maps.
"""

import numpy as np

from diff_ifs.kernels.jit import compiled, compiled_part, exact, solved, turn_and_flip


def outer_and_inner_words(maps, first, second, to, floor: float):
    """Outer words (B, K, 2, 3) as maps into the frame `to`, inner words (B, 2, M) as points, and
    the shares of both.

    maps: (B, n, 2, 3); first, second: words (B, K, L) and (B, M, L); floor: that of
    `ifs_model.area_weights`. All numbers are float64.
    """
    systems, outer_words, inner_words = len(maps), first.shape[1], second.shape[1]
    outer, inner = np.empty((systems, outer_words, 2, 3)), np.empty((systems, 2, inner_words))
    shares = np.empty((systems, outer_words)), np.empty((systems, inner_words))
    _outer_and_inner_loop(
        maps, first, second, to, floor, _words_room(first, second, maps), outer, inner, *shares
    )
    return outer, inner, *shares


def outer_and_inner_words_gradient(
    maps, first, second, to, floor: float, outer_g, inner_g, outer_s, inner_s
):
    """Gradient of `outer_and_inner_words` for the maps, from those of what it returns."""
    gradient, room = np.zeros_like(maps), _words_room(first, second, maps)
    _outer_and_inner_gradient_loop(
        maps, first, second, to, floor, room, outer_g, inner_g, outer_s, inner_s, gradient
    )
    return gradient


def _words_room(first, second, maps):
    """Room for the maps and shares of the beginnings of words, the empty one first, and for weights
    and a mean map.
    """
    longest = max(first.shape[2], second.shape[2])
    prefixes = np.empty((longest + 1, 2, 3))
    prefixes[0] = np.eye(2, 3)
    return prefixes, np.ones(longest + 1), np.empty(maps.shape[1]), np.empty((2, 3))


def words_by_weight(weights, rounds: int):
    """Words (B, K, L), as those of `ifs_model.words_by_weight`, for weights (B, n) and that many
    replacements.
    """
    (systems, n), size = weights.shape, 1 + rounds * (weights.shape[1] - 1)
    # A tree of all words so far: what a word is without its last letter, this letter, and how many
    # there are.
    parents, letters, lengths = np.zeros((3, systems, 1 + rounds * n), np.int64)
    heavy, leaves = np.zeros((systems, size), weights.dtype), np.zeros((systems, size), np.int64)
    heavy[:, 0] = 1
    _words_by_weight_loop(weights, rounds, parents, letters, lengths, heavy, leaves)
    words = np.full((systems, size, lengths.max()), n)
    _spell_out(parents, letters, lengths, leaves, words)
    return words


@exact
def _words_by_weight_loop(weights, rounds, parents, letters, lengths, heavy, leaves):
    n = weights.shape[1]
    for b in range(len(weights)):
        for done in range(rounds):
            place, first = 0, 1 + done * (n - 1)
            for k in range(1, first):
                if heavy[b, k] > heavy[b, place]:
                    place = k
            weight, parent = heavy[b, place], leaves[b, place]
            # child 0 takes the place of its parent, the others the next free places
            for letter in range(n):
                child = 1 + done * n + letter
                parents[b, child], letters[b, child], lengths[b, child] = (
                    parent,
                    letter,
                    lengths[b, parent] + 1,
                )
                k = place if letter == 0 else first + letter - 1
                heavy[b, k], leaves[b, k] = weight * weights[b, letter], child


@exact
def _spell_out(parents, letters, lengths, leaves, words):
    for b in range(len(words)):
        for k in range(words.shape[1]):
            node = leaves[b, k]
            for i in range(lengths[b, node] - 1, -1, -1):
                words[b, k, i] = letters[b, node]
                node = parents[b, node]


@compiled_part
def _compose(f, g, composed):
    """f∘g"""
    for i in range(2):
        for j in range(3):
            composed[i, j] = f[i, 0] * g[0, j] + f[i, 1] * g[1, j]
        composed[i, 2] += f[i, 2]


@compiled_part
def _measure(maps, floor, weights, mean):
    """Finds weights (n,) and their mean of the maps (2, 3); returns the centroid and the sum of the
    maps' areas.

    They are what `area_weights` and `centroid` of `ifs_model` say.
    """
    total = 0.0
    for k in range(len(maps)):
        q, r = turn_and_flip(maps[k])
        weights[k] = (q + r) * max(abs(q - r), floor * (q + r)) + 1e-9
        total += weights[k]
    mean[:] = 0
    for k in range(len(maps)):
        weights[k] /= total
        for i in range(2):
            for j in range(3):
                mean[i, j] += weights[k] * maps[k, i, j]
    x, y = solved(mean, mean[0, 2], mean[1, 2])
    return x, y, total


@compiled_part
def _spell(maps, weights, word, prefixes, shares):
    """The maps (L+1, 2, 3) and shares (L+1,) of a word's beginnings, the empty one first; the
    number of its letters.
    """
    for i in range(len(word)):
        if word[i] == len(maps):  # from here on it is padding
            return i
        _compose(prefixes[i], maps[word[i]], prefixes[i + 1])
        shares[i + 1] = shares[i] * weights[word[i]]
    return len(word)


@compiled
def _outer_and_inner_loop(
    maps, first, second, to, floor, room, outer, inner, outer_shares, inner_shares
):
    prefixes, shares, weights, mean = room
    for b in range(len(maps)):
        x, y, _ = _measure(maps[b], floor, weights, mean)
        for k in range(first.shape[1]):
            end = _spell(maps[b], weights, first[b, k], prefixes, shares)
            _compose(to, prefixes[end], outer[b, k])
            outer_shares[b, k] = shares[end]
        for m in range(second.shape[1]):
            end = _spell(maps[b], weights, second[b, m], prefixes, shares)
            for i in range(2):
                inner[b, i, m] = (
                    prefixes[end, i, 0] * x + prefixes[end, i, 1] * y + prefixes[end, i, 2]
                )
            inner_shares[b, m] = shares[end]


@compiled_part
def _spell_gradient(
    maps, weights, word, end, prefixes, shares, by_map, by_share, by_maps, by_weights
):
    """Adds what a word's map and share have to do with its letters; `by_map` (2, 3) is used up."""
    for i in range(end - 1, -1, -1):
        f, g, by_letter = prefixes[i], maps[word[i]], by_maps[word[i]]
        by_weights[word[i]] += by_share * shares[i]
        by_share *= weights[word[i]]
        for j in range(3):
            by_letter[0, j] += f[0, 0] * by_map[0, j] + f[1, 0] * by_map[1, j]
            by_letter[1, j] += f[0, 1] * by_map[0, j] + f[1, 1] * by_map[1, j]
        for row in range(2):
            x, y, e = by_map[row, 0], by_map[row, 1], by_map[row, 2]
            by_map[row, 0] = x * g[0, 0] + y * g[0, 1] + e * g[0, 2]
            by_map[row, 1] = x * g[1, 0] + y * g[1, 1] + e * g[1, 2]


@compiled
def _outer_and_inner_gradient_loop(
    maps, first, second, to, floor, room, outer_g, inner_g, outer_s, inner_s, gradient
):
    prefixes, shares, weights, mean = room
    by_map, by_weights = np.empty((2, 3)), np.empty(len(weights))
    for b in range(len(maps)):
        x, y, total = _measure(maps[b], floor, weights, mean)
        by_x, by_y = 0.0, 0.0
        by_weights[:] = 0
        for k in range(first.shape[1]):
            end = _spell(maps[b], weights, first[b, k], prefixes, shares)
            for j in range(3):
                by_map[0, j] = to[0, 0] * outer_g[b, k, 0, j] + to[1, 0] * outer_g[b, k, 1, j]
                by_map[1, j] = to[0, 1] * outer_g[b, k, 0, j] + to[1, 1] * outer_g[b, k, 1, j]
            _spell_gradient(
                maps[b],
                weights,
                first[b, k],
                end,
                prefixes,
                shares,
                by_map,
                outer_s[b, k],
                gradient[b],
                by_weights,
            )
        for m in range(second.shape[1]):
            end = _spell(maps[b], weights, second[b, m], prefixes, shares)
            for i in range(2):
                by_map[i, 0], by_map[i, 1], by_map[i, 2] = (
                    inner_g[b, i, m] * x,
                    inner_g[b, i, m] * y,
                    inner_g[b, i, m],
                )
                by_x += inner_g[b, i, m] * prefixes[end, i, 0]
                by_y += inner_g[b, i, m] * prefixes[end, i, 1]
            _spell_gradient(
                maps[b],
                weights,
                second[b, m],
                end,
                prefixes,
                shares,
                by_map,
                inner_s[b, m],
                gradient[b],
                by_weights,
            )
        # The centroid (x, y) solves (1 - A) (x, y) = t, with (A, t) the weighted mean of the maps.
        # The gradient (p, q) for t solves the same with A transposed.
        mean[0, 1], mean[1, 0] = mean[1, 0], mean[0, 1]
        p, q = solved(mean, by_x, by_y)
        mean_weight = 0.0
        for k in range(len(maps[b])):
            f, by = maps[b, k], gradient[b, k]
            by_weights[k] += p * (f[0, 0] * x + f[0, 1] * y + f[0, 2]) + q * (
                f[1, 0] * x + f[1, 1] * y + f[1, 2]
            )
            for i in range(2):
                pull = weights[k] * (q if i else p)
                by[i, 0] += pull * x
                by[i, 1] += pull * y
                by[i, 2] += pull
            mean_weight += by_weights[k] * weights[k]
        for k in range(len(maps[b])):
            _area_gradient(maps[b, k], floor, (by_weights[k] - mean_weight) / total, gradient[b, k])


@compiled_part
def _area_gradient(map_, floor, by_area, gradient):
    """Adds the gradient of the area that `_measure` gives to a map."""
    q, r = turn_and_flip(map_)
    large, small = q + r, abs(q - r)
    if small > floor * large:
        by_large, by_small = by_area * small, by_area * large * np.sign(q - r)
    else:
        by_large, by_small = by_area * 2 * floor * large, 0.0
    (a, b), (c, d) = (map_[0, 0], map_[0, 1]), (map_[1, 0], map_[1, 1])
    turn = (by_large + by_small) / (4 * q) if q > 0 else 0.0
    flip = (by_large - by_small) / (4 * r) if r > 0 else 0.0
    gradient[0, 0] += turn * (a + d) + flip * (a - d)
    gradient[1, 1] += turn * (a + d) - flip * (a - d)
    gradient[1, 0] += turn * (c - b) + flip * (c + b)
    gradient[0, 1] += flip * (c + b) - turn * (c - b)
