"""Loops of a chaos game with a memory, in which what comes next hangs on what came last: growth,
and the game itself.

Letters in shapes: m letters, P points, Q new ones, C cells.
"""

from diff_ifs.kernels.jit import exact


@exact
def play(maps, chances, letter: int, x: float, y: float, dice, points, letters):
    """Play one game from (x, y), just produced by a letter: fills points (2, P) and their letters
    (P,).

    `chances` (m, m): the cumulated probabilities of what follows each letter; dice (P,): random
    numbers from 0 to 1.
    """
    for p in range(len(dice)):
        row, low, high = chances[letter], 0, len(maps) - 1
        while low < high:  # the first letter whose cumulated chance exceeds the dice
            middle = (low + high) // 2
            if row[middle] > dice[p]:
                high = middle
            else:
                low = middle + 1
        letter = low
        a, b, e = maps[letter, 0, 0], maps[letter, 0, 1], maps[letter, 0, 2]
        c, d, f = maps[letter, 1, 0], maps[letter, 1, 1], maps[letter, 1, 2]
        x, y = a * x + b * y + e, c * x + d * y + f
        points[0, p], points[1, p], letters[p] = x, y, letter


@exact
def iterate_by_letter(maps, follows, points, letters, free, columns: int, new, new_letters):
    """The images of points (2, P) under all maps that may follow their letters, as far as they are
    the first of their letter in a cell, of free (m, C): (2, Q).

    Fills new (2, ...) and new_letters; says how many there are.
    """
    found, rows = 0, free.shape[1] // columns
    for k in range(len(maps)):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(points.shape[1]):
            if not follows[letters[p], k]:
                continue
            x = a * points[0, p] + b * points[1, p] + e
            y = c * points[0, p] + d * points[1, p] + f
            column = int(min(x, columns - 1.0)) if x > 0 else 0
            row = int(min(y, rows - 1.0)) if y > 0 else 0
            cell = row * columns + column
            if free[k, cell]:
                free[k, cell] = False
                new[0, found], new[1, found], new_letters[found] = x, y, k
                found += 1
    return found
