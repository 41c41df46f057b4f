"""The attractor on a grid: images of points that are the first in their cell; bounds; marks; pens
that follow it.

Letters in shapes: n maps, P points, Q their images that are kept, C cells.
"""

import numpy as np

from diff_ifs.kernels.jit import BLOCK, exact, exact_part


def pen_ious(taken, wanted, reach: int):
    """IoUs (reach² + 1,) of wanted pixels (S, S) with those half covered by a pen that follows
    those taken (2 S, 2 S).

    The squared radii of the pens are 0, 1 … reach² sub-pixels, as which pixels that are taken
    count.
    """
    along, near = np.empty(taken.shape, np.int32), np.empty((2, len(taken)), np.int32)
    hits, misses = np.zeros(reach * reach + 2, np.int64), np.zeros(reach * reach + 2, np.int64)
    _pen_ious_loop(taken, wanted, reach, along, near, hits, misses)
    return (hits.cumsum() / np.maximum(hits.sum() + misses.cumsum(), 1))[:-1]


@exact
def _pen_ious_loop(taken, wanted, reach, along, near, hits, misses):
    """Counts pixels by the squared distance from taken ones, in sub-pixels, within which half of
    each lies.
    """
    side, far = len(taken), reach * reach + 1
    for row in range(side):
        gap = reach + 1
        for column in range(side):
            gap = 0 if taken[row, column] else min(gap + 1, reach + 1)
            along[row, column] = gap
        gap = reach + 1
        for column in range(side - 1, -1, -1):
            gap = min(gap + 1, along[row, column])
            along[row, column] = gap * gap
    for row in range(side):
        here = near[row % 2]
        for column in range(side):
            here[column] = far
        for other in range(max(0, row - reach), min(side, row + reach + 1)):
            step = (row - other) * (row - other)
            for column in range(side):
                here[column] = min(here[column], along[other, column] + step)
        if row % 2:
            for column in range(0, side, 2):
                a, b, c, d = (
                    near[0, column],
                    near[0, column + 1],
                    near[1, column],
                    near[1, column + 1],
                )
                half = min(max(min(a, b), min(c, d)), max(a, b), max(c, d))  # the second smallest
                if wanted[row // 2, column // 2]:
                    hits[half] += 1
                else:
                    misses[half] += 1


def iterate(maps, points, vacant, columns: int, outermost):
    """The images (2, Q) of points (2, P) under maps (n, 2, 3) that are the first in vacant cells,
    and origins (Q,).

    Coordinates are in units of cells; `vacant` (C,) holds rows of `columns` cells, and is updated.
    Points outside share the cells of the border. The origin of the image of point p under map k is
    k P + p.

    With `outermost` (C, 8) instead of (0, 8), images count in vacant cells and next to them, and
    only if they lie further out there than all before, in one of eight directions: see
    `draw.growth.Grid.keep_outermost`. It is updated, too.
    """
    most = max(256, 2 * points.shape[1])
    new, origins, k, found = np.empty((2, most)), np.empty(most, np.int64), 0, 0
    cells = vacant, outermost, columns
    room = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.int64)
    while True:
        k, found = _iterate_loop(maps, *points, cells, room, k, (new, origins), found)
        if k == len(maps):
            return new[:, :found].copy(), origins[:found].copy()
        new = np.concatenate([new, np.empty_like(new)], axis=1)
        origins = np.concatenate([origins, np.empty_like(origins)])


def grow(maps, first, vacant, columns: int, levels: int):
    """Points (2, Q), their letters and parents (Q,), and the sizes of the levels, none empty.

    Level 0 are the first points (2, P), which have taken their cells; each other one, of so many at
    most, are the images of the points of the one before that are the first in vacant cells: see
    `iterate`. Parents are places among all points; level 0 has 0 for both.
    """
    count = first.shape[1]
    points = np.concatenate([first, np.empty((2, len(vacant) // 4 + count))], axis=1)
    letters, parents = np.zeros((2, points.shape[1]), np.int64)
    sizes = np.zeros(
        min(levels, len(vacant)) + 2, np.int64
    )  # each level takes a cell, or is the last
    sizes[0], at = count, np.array([1, 0, count, 0, count])
    cells = vacant, np.empty((0, 8), np.uint8), columns
    room = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.int64)
    while not _grow_loop(maps, cells, room, points, letters, parents, sizes, at):
        points, letters, parents = (
            np.concatenate([array, np.empty_like(array)], axis=-1)
            for array in (points, letters, parents)
        )
    found = at[-1]
    return points[:, :found], letters[:found], parents[:found], sizes[sizes > 0]


@exact
def _grow_loop(maps, cells, room, points, letters, parents, sizes, at):
    """Goes on from where it stands, which is a level, the first and the last point before it, a
    map, and how many points there are; whether all is done, or there may be no room.
    """
    level, begin, end, k, found = at
    while level < len(sizes) - 1 and begin < end:
        across, up = points[0][begin:end], points[1][begin:end]
        k, found = _iterate_loop(maps, across, up, cells, room, k, (points, letters), found)
        if k < len(maps):
            break
        letter = 0
        for p in range(end, found):  # origins rise, map by map
            while letters[p] - letter * (end - begin) >= end - begin:
                letter += 1
            parents[p] = begin + letters[p] - letter * (end - begin)
            letters[p] = letter
        sizes[level] = found - end
        level, begin, end, k = level + 1, end, found, 0
    at[0], at[1], at[2], at[3], at[4] = level, begin, end, k, found
    return level == len(sizes) - 1 or begin == end


@exact
def _iterate_loop(maps, xs, ys, cells, room, first, into, found):
    """Goes on from the first map to the next one for which there may be no room, and says where it
    stands.
    """
    vacant, outermost, columns = cells
    count = len(xs)
    for k in range(first, len(maps)):
        if found + count > len(into[1]):
            return k, found
        for begin in range(0, count, BLOCK):
            across, up = xs[begin : begin + BLOCK], ys[begin : begin + BLOCK]
            _find_cells(maps[k], across, up, columns, len(vacant) // columns, room)
            here, origin = len(across), k * count + begin
            if len(outermost):
                found = _occupy_further(room, here, cells, origin, into, found)
            else:
                found = _occupy(room, here, vacant, origin, into, found)
    return len(maps), found


@exact_part
def _find_cells(map_, across, up, columns, rows, room):
    x, y, cells = room
    a, b, e = map_[0, 0], map_[0, 1], map_[0, 2]
    c, d, f = map_[1, 0], map_[1, 1], map_[1, 2]
    for p in range(len(across)):
        x[p] = a * across[p] + b * up[p] + e
        y[p] = c * across[p] + d * up[p] + f
        # Written so that not even NaN leaves the grid.
        column = np.int32(min(x[p], columns - 1.0) if x[p] > 0 else 0.0)
        row = np.int32(min(y[p], rows - 1.0) if y[p] > 0 else 0.0)
        cells[p] = np.int64(row) * columns + column


@exact_part
def _occupy(room, count, vacant, origin, into, found):
    """Take the cells that are still vacant, and note who did; how many are noted by now."""
    (x, y, cells), (new, origins) = room, into
    for p in range(count):
        if vacant[cells[p]]:
            vacant[cells[p]] = False
            new[0, found], new[1, found], origins[found] = x[p], y[p], origin + p
            found += 1
    return found


@exact_part
def _occupy_further(room, count, grid, origin, into, found):
    """Take what is vacant, or lies further out next to it; as `_occupy`."""
    (x, y, cells), (new, origins), (vacant, outermost, columns) = room, into, grid
    for p in range(count):
        cell = cells[p]
        if _at_border(vacant, cell, columns) and _is_further(
            x[p], y[p], outermost[cell], cell, columns
        ):
            vacant[cell] = False
            new[0, found], new[1, found], origins[found] = x[p], y[p], origin + p
            found += 1
    return found


@exact_part
def _at_border(vacant, cell, columns):
    """Whether a cell or one of its eight neighbours is vacant."""
    if cell <= columns or cell + columns + 1 >= len(vacant):
        return True
    for middle in (cell, cell - columns, cell + columns):
        if vacant[middle - 1] or vacant[middle] or vacant[middle + 1]:
            return True
    return False


@exact_part
def _is_further(x, y, outermost, cell, columns):
    steps = 20  # that a point can lie further out in a cell than another
    u, v, further = (
        min(max(x - cell % columns, 0.0), 1.0),
        min(max(y - cell // columns, 0.0), 1.0),
        False,
    )
    for k, way in enumerate((u, v, (u + v) / 2, (u - v + 1) / 2)):
        ahead, back = 1 + int(way * steps), 1 + int((1 - way) * steps)
        if ahead > outermost[2 * k]:
            outermost[2 * k], further = ahead, True
        if back > outermost[2 * k + 1]:
            outermost[2 * k + 1], further = back, True
    return further


def support(images, least, radius: float, enough: float):
    """The support function (D,) of an attractor on a ring of directions, from above: see
    `draw.geometry.bounds`.

    images: what each map adds in each direction, how much it takes of the support in the two
    neighbours of the direction that it comes from, and which the first of these is, (n, D) each;
    least (D,): what it is at least.
    """
    found = np.full(len(least), radius)
    _support_loop(tuple(images), least, enough, found, np.empty_like(found))
    return found


@exact
def _support_loop(images, least, enough, found, tighter):
    (offset, low, high, left), count = images, len(found)
    for _ in range(100_000):
        change = 0.0
        for d in range(count):
            most = least[d]
            for k in range(len(offset)):
                there = left[k, d]
                most = max(
                    most,
                    offset[k, d]
                    + low[k, d] * found[there]
                    + high[k, d] * found[(there + 1) % count],
                )
            tighter[d] = min(found[d], most)
            change = max(change, found[d] - tighter[d])
        if change <= enough:
            return
        for d in range(count):
            found[d] = tighter[d]


@exact
def mark(maps, digits, points, colours, corner, picture):
    """Set the pixels of a picture (H, W) in which the images of points under maps (K, 2, 3) lie.

    Points are (2, P); with `colours`, they are (3, P) with addresses, and a pixel takes the highest
    colour 1 … of an image there, which is its address times `colours`; digits (K, 2) are what maps
    do to addresses. Pixel (row, column) is where row <= y + top < row + 1 and column <= x + left <
    column + 1, with corner (left, top); points outside fall on the picture's border.
    """
    (left, top), last_column, last_row = corner, picture.shape[1] - 1.0, picture.shape[0] - 1.0
    for k in range(maps.shape[0]):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(points.shape[1]):
            x = a * points[0, p] + b * points[1, p] + e + left
            y = c * points[0, p] + d * points[1, p] + f + top
            column = int(min(x, last_column)) if x > 0 else 0
            row = int(min(y, last_row)) if y > 0 else 0
            if colours:
                address = digits[k, 0] * points[2, p] + digits[k, 1]
                picture[row, column] = max(picture[row, column], int(address * colours) + 1)
            else:
                picture[row, column] = 1
