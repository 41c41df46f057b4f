"""Tiles of a picture: the words that meet each, and which of their pixels these occupy.

Letters in shapes: n maps, T tiles, K words, C cells of the chart.
"""

import math

import numpy as np

from diff_ifs.kernels.jit import by_tile, exact, exact_part, stretch

# pixels that images of words that count as the same are apart, at most: more than by rounding
ALIKE = 2.0**-6


@exact_part
def signed_depth(w, x, y, half, chart):
    """How deep, in pixels, a spot (x, y) lies in the image of the attractor under a map, or minus
    how far away.

    What the inverse of the map takes the spot to is looked up on a chart, of which `chart` is what
    `draw.chart.Chart` says that depths need. Minus infinity where the image surely misses the
    square that reaches from the spot `half` in all four directions: as a box has it, in the
    directions of the square and of the box; of an image so thin that its inverse says little, in
    those of its axes; and as the chart has it.
    """
    frame, shapes, depths, nearest, extents = chart
    a, b, c, d = w[0, 0], w[0, 1], w[1, 0], w[1, 1]
    wide, high, cell, span = frame[2], frame[3], frame[6], frame[7]
    off_x, off_y = (
        x - (a * frame[0] + b * frame[1] + w[0, 2]),
        y - (c * frame[0] + d * frame[1] + w[1, 2]),
    )
    if (
        abs(off_x) > abs(a) * wide + abs(b) * high + half
        or abs(off_y) > abs(c) * wide + abs(d) * high + half
    ):
        return -np.inf
    q, r = stretch(w)
    large, small = q + r, abs(q - r)
    inside, u, v = False, 0.0, 0.0
    if small > large / 8:  # others are so thin that their axes tell more than an inverse
        area = a * d - b * c
        u, v = (d * off_x - b * off_y) / area, (a * off_y - c * off_x) / area
        beyond_u, beyond_v = (
            half * (abs(d) + abs(b)) / abs(area),
            half * (abs(a) + abs(c)) / abs(area),
        )
        if abs(u) > wide + beyond_u or abs(v) > high + beyond_v:
            return -np.inf
        inside = abs(u) <= wide and abs(v) <= high
    if not inside:
        turn = math.atan2(2 * (a * b + c * d), a * a + c * c - b * b - d * d) / 2
        p, s = math.cos(turn), math.sin(turn)
        image_x, image_y = a * p + b * s, c * p + d * s
        square = max(image_x * image_x + image_y * image_y, 1e-300)
        length = math.sqrt(square)
        normal_x, normal_y = -image_y / length, image_x / length
        along, across = image_x * off_x + image_y * off_y, normal_x * off_x + normal_y * off_y
        margin = half * (abs(image_x) + abs(image_y))
        way = int((turn / math.pi + 0.5) * len(extents)) % len(extents)
        if along - margin > extents[way, 1] * square or along + margin < extents[way, 0] * square:
            return -np.inf
        if abs(across) > half * (abs(normal_x) + abs(normal_y)) + (wide + high) * small:
            return -np.inf
        along = min(max(along / square, -span), span)
        across = min(max(across / max(small, 1e-300), -span), span)
        if a * d < b * c:
            across = -across
        u, v = p * along - s * across, s * along + p * across
    u, v = u + frame[0], v + frame[1]
    rows, columns = shapes[0, 1], shapes[0, 2]
    column = min(max(int((u - frame[4]) / cell), 0), columns - 1)
    row = min(max(int((v - frame[5]) / cell), 0), rows - 1)
    place = row * columns + column
    if depths[place] > 0:
        return depths[place] * small
    close_u, close_v = nearest[place, 0], nearest[place, 1]
    away = math.sqrt((close_u - u) ** 2 + (close_v - v) ** 2)
    if inside and (away - 3 * cell) * small > math.sqrt(2.0) * half:
        return -np.inf
    x, y = x - (a * close_u + b * close_v + w[0, 2]), y - (c * close_u + d * close_v + w[1, 2])
    return -math.sqrt(x * x + y * y)


@exact_part
def sort_keys(keys, count, order, room):
    """Fill `order` with the indices of `count` keys, the least first, and ties as they come; by
    merging in `room`.
    """
    for k in range(count):
        order[k] = k
    width = 1
    while width < count:
        for low in range(0, count, 2 * width):
            middle, high = min(low + width, count), min(low + 2 * width, count)
            i, j = low, middle
            for k in range(low, high):
                if i < middle and (j >= high or keys[order[i]] <= keys[order[j]]):
                    room[k] = order[i]
                    i += 1
                else:
                    room[k] = order[j]
                    j += 1
        for k in range(count):
            order[k] = room[k]
        width *= 2


@exact_part
def select_words(keys, heights, words, count, beam, colours, covers, frame, rooms):
    """Choose at most `beam` of the `count` words of a tile, the best ones first; returns how many,
    and what is due.

    Keys are minus their scores, heights minus their addresses. Of words that are the same only the
    one of the highest address is kept. In a picture in colours, words come in the order of their
    addresses, the highest first, and the first ones are kept. If there is none among them whose
    score is as high as that of one that surely `covers` the tile, half are the first, and half the
    best ones. What is due is the highest colour of those that are left out, or without colours 1.
    Fills the first of `rooms`, four arrays of indices, and sorts in the others.
    """
    chosen, order, room, ranks = rooms
    different = high = kept = 0
    sort_keys(keys, count, order, room)
    for k in range(count):
        now, before = order[k], order[k - 1]
        alike = k > 0 and keys[now] - keys[before] <= ALIKE
        if alike:
            for i in range(2):
                a, b = (
                    words[before, i, 0] - words[now, i, 0],
                    words[before, i, 1] - words[now, i, 1],
                )
                shift = a * frame[0] + b * frame[1] + (words[before, i, 2] - words[now, i, 2])
                alike &= abs(shift) + abs(a) * frame[2] + abs(b) * frame[3] <= ALIKE
        if not alike:
            chosen[different] = now
            different += 1
        elif heights[now] < heights[chosen[different - 1]]:
            chosen[different - 1] = now
    if colours == 0:
        return min(different, beam), int(different > beam)
    for k in range(count):
        ranks[k] = count
    for k in range(different):
        ranks[chosen[k]] = k
    sort_keys(heights, count, order, room)
    needed = different
    for k in range(count):
        if ranks[order[k]] < count:
            chosen[kept] = order[k]
            kept += 1
            if -keys[order[k]] >= covers:
                needed = min(needed, kept)
    deep = beam // 2 if needed > beam else 0
    kept = due = 0
    for k in range(different):
        now = chosen[k]
        if ranks[now] < deep or high < beam - deep:
            high += ranks[now] >= deep
            chosen[kept] = now
            kept += 1
        elif due == 0:
            due = math.ceil(-heights[now] * colours)
    return kept, due


def subdivide(tiles, words, alphabet, chart, size: int, beam: int, colours: int, until):
    """`draw.tiles.TileRenderer.subdivide`: counts (T,), words (K, 2, 3), lengths, digits, dues
    (T,), and a number.

    tiles: corners (T, 2) and counts (T,) of their words; words: maps (K, 2, 3), lengths (K,) and
    digits (K, 2); alphabet: maps (n, 2, 3) and digits (n, 2); chart: as `signed_depth` takes it;
    until: limit, thin, width, recursion and how many words each tile may look at. The number is how
    many all did.
    """

    def work(corners, counts, *words):
        tiles = len(corners)
        room = max(beam * len(alphabet[0]), int(counts.max(initial=0)))
        found, kept, out = (
            (np.empty((size, 2, 3)), np.empty(size, np.int64), np.empty((size, 2)))
            for size in (room, beam, tiles * beam)
        )
        results, keys = tuple(np.zeros((2, tiles), np.int64)), tuple(np.empty((3, room)))
        rooms = found, kept, out, keys, tuple(np.empty((4, room), np.int64))
        end, looked_at = _subdivide_loop(
            (corners, counts), words, alphabet, chart, size, beam, colours, until, rooms, results
        )
        return results[0], *(array[:end] for array in out), results[1], looked_at

    *found, looked_at = by_tile(work, *tiles, *words)
    return *map(np.concatenate, found), sum(looked_at)


@exact
def _subdivide_loop(tiles, tile_words, alphabet, chart, size, beam, colours, until, rooms, results):
    """Fills rooms[2] with words; returns how many there are, and how many were looked at. results:
    counts, dues.
    """
    (corners, counts), (words, lengths, digits), (maps, map_digits) = tiles, tile_words, alphabet
    limit, thin, width, recursion, allowed = until
    found_words, kept_words, out_words, (keys, heights, kept_keys), indices = rooms
    (found, found_lengths, found_digits), (kept, kept_lengths, kept_digits) = (
        found_words,
        kept_words,
    )
    out, out_lengths, out_digits = out_words
    (out_counts, dues), chosen = results, indices[0]
    half, first, end, all_looked_at = size / 2, 0, 0, 0
    # what it is passed to would be compiled once for a plain 0, and once for other numbers
    none = np.int64(0)
    for i in range(len(corners)):
        x, y, count = corners[i, 0] + half, corners[i, 1] + half, none
        for k in range(first, first + counts[i]):
            score = signed_depth(words[k], x, y, half, chart)
            if score > -np.inf:
                _copy(words, lengths, digits, k, found, found_lengths, found_digits, count)
                keys[count], heights[count] = -score, -(digits[k, 0] + digits[k, 1])
                count += 1
        first, looked_at = first + counts[i], counts[i]
        while True:
            number, more = select_words(
                keys, heights, found, count, beam, colours, 2.0 * size, chart[0], indices
            )
            dues[i] = max(dues[i], more)
            coarse = 0
            for k in range(number):
                _copy(
                    found,
                    found_lengths,
                    found_digits,
                    chosen[k],
                    kept,
                    kept_lengths,
                    kept_digits,
                    k,
                )
                kept_keys[k] = keys[chosen[k]]
                q, r = stretch(kept[k])
                large = q + r > limit and abs(q - r) > thin
                coarse += (large or kept_digits[k, 0] > width) and kept_lengths[k] < recursion
            if coarse == 0 or looked_at > allowed:
                break
            looked_at, count = looked_at + coarse * len(maps), none
            for k in range(number):
                q, r = stretch(kept[k])
                large = q + r > limit and abs(q - r) > thin
                if not (large or kept_digits[k, 0] > width) or kept_lengths[k] >= recursion:
                    _copy(
                        kept,
                        kept_lengths,
                        kept_digits,
                        k,
                        found,
                        found_lengths,
                        found_digits,
                        count,
                    )
                    keys[count], heights[count] = (
                        kept_keys[k],
                        -(kept_digits[k, 0] + kept_digits[k, 1]),
                    )
                    count += 1
                    continue
                for j in range(len(maps)):
                    child = found[count]
                    for row in range(2):
                        a, b = kept[k, row, 0], kept[k, row, 1]
                        for column in range(3):
                            child[row, column] = a * maps[j, 0, column] + b * maps[j, 1, column]
                        child[row, 2] += kept[k, row, 2]
                    score = signed_depth(child, x, y, half, chart)
                    if score > -np.inf:
                        found_lengths[count] = kept_lengths[k] + 1
                        found_digits[count, 0] = kept_digits[k, 0] * map_digits[j, 0]
                        found_digits[count, 1] = (
                            kept_digits[k, 1] + kept_digits[k, 0] * map_digits[j, 1]
                        )
                        keys[count], heights[count] = (
                            -score,
                            -(found_digits[count, 0] + found_digits[count, 1]),
                        )
                        count += 1
        for k in range(number):
            _copy(kept, kept_lengths, kept_digits, k, out, out_lengths, out_digits, end + k)
        out_counts[i], end, all_looked_at = number, end + number, all_looked_at + looked_at
    return end, all_looked_at


@exact_part
def _copy(words, lengths, digits, k, to_words, to_lengths, to_digits, at):
    """Copy one word."""
    for i in range(2):
        for j in range(3):
            to_words[at, i, j] = words[k, i, j]
        to_digits[at, i] = digits[k, i]
    to_lengths[at] = lengths[k]


def draw_tiles(tiles, words, chart, until, size: int, colours: int, picture):
    """`draw.tiles.TileRenderer.draw_tiles`: draw the words of tiles in a picture (H, W); the least
    in each tile (T,).

    tiles and words: as for `subdivide`; chart: frame, shapes, index, points and levels; until: fine
    and recursion. For each pixel, the cells of the chart are looked up that a word may take into
    it, until one has a point that it does. Words of a picture in colours come in the order of their
    addresses, the highest first.
    """

    def work(corners, counts, *words):
        return [_draw_tiles_loop((corners, counts), words, chart, until, size, colours, picture)]

    return np.concatenate(*by_tile(work, *tiles, *words))


@exact
def _draw_tiles_loop(tiles, tile_words, chart, until, size, colours, picture):
    (corners, counts), (words, lengths, digits) = tiles, tile_words
    (frame, shapes, index, points, levels), (fine, recursion) = chart, until
    least, end = np.empty(len(corners), np.int64), 0
    for i in range(len(corners)):
        left, top = corners[i, 0], corners[i, 1]
        right, bottom = min(left + size, picture.shape[1]), min(top + size, picture.shape[0])
        empty = 0
        for y in range(top, bottom):
            for x in range(left, right):
                empty += picture[y, x] == 0
        first, end = end, end + counts[i]
        for k in range(first, end):
            if empty == 0 and colours == 0:
                break
            a, b, c, d = words[k, 0, 0], words[k, 0, 1], words[k, 1, 0], words[k, 1, 1]
            q, r = stretch(words[k])
            coarser, large = 0, (q + r) * frame[6]
            while coarser < len(shapes) - 1 and large * (2 << coarser) <= fine:
                coarser += 1
            scale, deepest = frame[6] * (1 << coarser), recursion - lengths[k]
            offset, rows, columns = shapes[coarser, 0], shapes[coarser, 1], shapes[coarser, 2]
            e, f = (
                a * frame[4] + b * frame[5] + words[k, 0, 2],
                c * frame[4] + d * frame[5] + words[k, 1, 2],
            )
            to_x, to_y = (a * scale, b * scale), (c * scale, d * scale)  # from cells
            area = to_x[0] * to_y[1] - to_x[1] * to_y[0]
            flat = not abs(area) > 1e-9 * ((q + r) * scale) ** 2
            per_x, per_y = (0.0, 0.0) if flat else (-to_y[0] / area, to_x[0] / area)
            reach = (abs(per_x) + abs(per_y)) / 2
            highest = max(1, math.ceil((digits[k, 0] + digits[k, 1]) * colours))
            for y in range(top, bottom):
                for x in range(left, right):
                    if picture[y, x] >= highest:
                        continue
                    low, high = 0.0, float(rows)
                    if not flat:
                        v = per_x * (x + 0.5 - e) + per_y * (y + 0.5 - f)
                        low, high = max(low, v - reach), min(high, v + reach)
                    # a row of pixels may take in rows of cells that are not near
                    if flat or reach > columns / 64:
                        low, high = slab_interval(x - e, to_x[1], to_x[0] * columns, low, high)
                        low, high = slab_interval(y - f, to_y[1], to_y[0] * columns, low, high)
                    if not low <= high:
                        continue
                    colour = picture[y, x]
                    for row in range(int(low), min(int(high), rows - 1) + 1):
                        start, stop = slab_interval(
                            x - e - to_x[1] * row, to_x[0], to_x[1], 0.0, float(columns)
                        )
                        start, stop = slab_interval(
                            y - f - to_y[1] * row, to_y[0], to_y[1], start, stop
                        )
                        if not start <= stop:
                            continue
                        for column in range(int(start), min(int(stop), columns - 1) + 1):
                            p = index[offset + row * columns + column]
                            if p < 0 or levels[p] > deepest:
                                continue
                            u = a * points[0, p] + b * points[1, p] + words[k, 0, 2]
                            v = c * points[0, p] + d * points[1, p] + words[k, 1, 2]
                            if x <= u < x + 1 and y <= v < y + 1:
                                address = (
                                    digits[k, 1] + digits[k, 0] * points[2, p]
                                    if colours > 0
                                    else 0.0
                                )
                                colour = max(colour, int(address * colours) + 1)
                                if colour >= highest:
                                    break
                        if colour >= highest:
                            break
                    empty -= picture[y, x] == 0 and colour > 0
                    picture[y, x] = colour
        least[i] = colours + 1
        for y in range(top, bottom):
            for x in range(left, right):
                least[i] = min(least[i], picture[y, x])
    return least


@exact_part
def slab_interval(edge, slope, other, first, last):
    """Narrow an interval first … last to where slope u + other v, 0 <= v <= 1, can lie between edge
    and edge + 1.
    """
    low, high = edge - max(other, 0.0), edge + 1 - min(other, 0.0)
    if slope > 1e-12:
        return max(first, low / slope), min(last, high / slope)
    if slope < -1e-12:
        return max(first, high / slope), min(last, low / slope)
    return first, last if low <= 0 <= high else first - 1.0
