"""The attractor tile by tile.

A picture is a square tile that is split into quarters, down to single pixels where it must be. Each tile has its own
few words, whose images of the attractor may meet it: those of the tile that it is a quarter of, replaced by their
children until they are small enough. Where images overlap there are more of them than can be kept; then those stay
which the middle of the tile lies deepest in, or is closest to, as the inverse of a word tells on a chart of the whole
attractor. A tile is ready when all its pixels are drawn, or no word was left out. So the cost is that of the pixels
near the edge, and of a few words for each tile within, however many words there are.

In a picture in colours, which show the highest address that a point of a pixel has, words of high addresses stay too,
and a tile is ready when all its pixels have colours that no word that was left out exceeds.

Letters in shapes: n maps, K words, T tiles, H × W pixels of the picture. Words are maps into the frame of the
picture, in which the pixel (row, column) is where row <= y < row + 1 and column <= x < column + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diff_ifs.backend import kernels
from diff_ifs.draw.chart import Chart, as_arrays, cells_in, enumerate_runs, signed_depth, slab_interval
from ifs_model import apply, compose, singular_values

TILE = 16  # a side of the tiles that are drawn at first
BEAMS = 4, 16, 64  # words that are kept for a tile; the next number is for those that are not ready with one
WIDEST = 2048  # words that are kept for the picture
ALLOWED = 1 << 29  # words that a picture may look at before tiles that are not ready are left as they are
SHARE = 1 << 26  # words that tiles refined at once may look at before those that are too large are taken
AT_ONCE = 1 << 11  # tiles that are refined between two looks at memory
ALIKE = 2.0**-6  # pixels that images of words that count as the same are apart, at most: more than by rounding


@dataclass(frozen=True)
class Tiles:
    """Tiles of one size, as corners (T, 2) of pixels (x, y), and the words that each has, one tile after the other.

    dues: 0, or if others were left out, the colour that a pixel must have for them not to matter (T,); counts: how many
    there are (T,); maps: (K, 2, 3); lengths: their letters (K,); digits: what they do to addresses (K, 2).
    """

    corners: Tensor
    dues: Tensor
    counts: Tensor
    maps: Tensor
    lengths: Tensor
    digits: Tensor

    def __getitem__(self, which: Tensor) -> "Tiles":
        """The tiles of an index (Q,), with all their words."""
        counts, firsts = self.counts[which], (self.counts.cumsum(0) - self.counts)[which]
        number = torch.arange(int(counts.sum()), device=counts.device) - (counts.cumsum(0) - counts).repeat_interleave(
            counts
        )
        words = firsts.repeat_interleave(counts) + number
        return Tiles(
            self.corners[which], self.dues[which], counts, self.maps[words], self.lengths[words], self.digits[words]
        )

    def quarters(self, half: int, height: int, width: int) -> "Tiles":
        """The quarters of all tiles, of side `half`, as far as they lie in the picture; each has the words of all."""
        four = self[torch.arange(len(self.corners), device=self.counts.device).repeat_interleave(4)]
        steps = torch.tensor([[0, 0], [half, 0], [0, half], [half, half]], device=self.counts.device)
        corners = four.corners + steps.repeat(len(self.corners), 1)
        here = (corners < torch.tensor([width, height], device=corners.device)).all(1).nonzero().squeeze(1)
        return Tiles(corners, four.dues, four.counts, four.maps, four.lengths, four.digits)[here]


@dataclass
class TileRenderer:
    """What draws a picture: maps (n, 2, 3), their digits (n, 2), and their chart, all in the picture's pixels.

    fine: how many pixels the cells of the chart may measure where they are drawn; recursion: the longest words;
    allowed: how many words a picture may look at before tiles that are not ready are left as they are; looked_at: how
    many were looked at in the last one.
    """

    maps: Tensor
    letters: Tensor
    chart: Chart
    fine: float
    recursion: int
    allowed: int = ALLOWED
    looked_at: int = 0

    def draw(
        self,
        picture: Tensor,
        left: int,
        top: int,
        colours: int,
        progress: Callable[[int], object],
        beams: tuple[int, ...] = BEAMS,
    ) -> None:
        """Set the pixels (H, W) of a picture, whose first one is (left, top), that hold a point of the attractor.

        Of a picture in colours, to the highest colour 1 … that a point has there, which is its address times `colours`.
        Tiles whose pixels are all set are left as they are. With the first of BEAMS alone, tiles that need more words
        are not finished.
        """
        size, (height, width), self.looked_at = TILE, picture.shape, 0
        while size < max(height, width):
            size *= 2
        like = {"dtype": torch.long, "device": picture.device}
        into = self.maps.new_tensor([[[1.0, 0.0, 0.5 - left], [0.0, 1.0, 0.5 - top]]])
        digits, one = self.maps.new_tensor([[1.0, 0.0]]), torch.ones(1, **like)
        whole = Tiles(torch.zeros(1, 2, **like), one - 1, one, into, one - 1, digits)
        whole = self.refined(whole, size, WIDEST, colours)
        rows = torch.stack([(band == 0).any(0) for band in picture.split(TILE)])  # little at once: it may be large
        open_tiles = torch.stack([column.any(1) for column in rows.split(TILE, dim=1)], dim=1)
        for beam in beams:
            open_tiles = self._descend(whole, size, beam, open_tiles, picture, colours, progress)

    def _descend(
        self,
        whole: Tiles,
        size: int,
        beam: int,
        wanted: Tensor,
        picture: Tensor,
        colours: int,
        progress: Callable[[int], object],
    ) -> Tensor:
        """Draw those of the TILE × TILE tiles that are wanted, with `beam` words for each; returns which are not ready.

        With the last of BEAMS, tiles that are not ready are split until they are single pixels.
        """
        last, unready, left_over = beam == BEAMS[-1], torch.zeros_like(wanted), [(whole, size, WIDEST)]
        while left_over:
            tiles, size, most = left_over.pop()
            if beam > BEAMS[0] and self.looked_at > self.allowed:
                break
            if size <= TILE:
                few = BEAMS[0] if last and size > 1 and not colours else beam
                found = self.refined(tiles, size, few, colours, drawn=True)
                least = self.traced(found, size, picture, colours)
                progress(len(least) * size**2)
                tiles = tiles[(least < found.dues).nonzero().squeeze(1)]
                if not last:
                    column, row = tiles.corners.T // TILE
                    unready[row, column] = True
            if size == 1 or (size == TILE and not last):
                continue
            size, most = size // 2, max(beam, most // 4)
            tiles = tiles.quarters(size, *picture.shape)
            if size >= TILE:
                pooled = torch.nn.functional.max_pool2d(wanted[None].float(), size // TILE, ceil_mode=True)[0] > 0
                column, row = tiles.corners.T // size
                tiles = tiles[pooled[row, column].nonzero().squeeze(1)]
            tiles = self.refined(tiles, size, most, colours)
            some = tiles.counts > 0
            if not last:
                some |= tiles.dues > 0
            parts = some.nonzero().squeeze(1).split(AT_ONCE)
            left_over += [(tiles[part], size, most) for part in parts if len(part)]
        return unready

    def refined(self, tiles: Tiles, size: int, beam: int, colours: int, drawn: bool = False) -> Tiles:
        """The same tiles with at most `beam` words each, as `best` has them, none of which is too large for its tile.

        Words whose images miss a tile are dropped, and words of `recursion` letters have no children. Words that are
        to be `drawn` are as fine as pixels need, and have one colour. Others are split only while they are too thick
        for their tiles: of many slivers those would be kept that the middle lies deepest in, all in one line. In
        colours, where words of high addresses stay wherever they lie, all that are too long are split, down to slivers
        as thin as the tile.
        """
        limit, thin, width = self.fine / self.chart.cell * size, size / self.chart.span, 1.0
        if drawn:
            limit, thin, width = self.fine / self.chart.cell, -1.0, 0.5 / max(colours, 0.5)
        elif not colours:
            thin = limit
        allowed = SHARE // max(len(tiles.corners), 1)  # for each tile
        if (loops := kernels(tiles.maps)) is not None:
            arrays = as_arrays(tiles.corners, tiles.counts, tiles.maps, tiles.lengths, tiles.digits)
            arrays += as_arrays(self.maps, self.letters, *self.chart.of_depth)
            *found, looked_at = loops.refine(*arrays, size, limit, thin, width, beam, colours, self.recursion, allowed)
            self.looked_at += looked_at
            counts, *words, dues = map(torch.from_numpy, found)
            return Tiles(tiles.corners, torch.maximum(tiles.dues, dues), counts, *words)
        owner = torch.arange(len(tiles.corners), device=tiles.counts.device).repeat_interleave(tiles.counts)
        maps, lengths, digits = tiles.maps, tiles.lengths, tiles.digits
        dues, looked_at = tiles.dues.clone(), tiles.counts.clone()
        same = torch.eye(2, 3, dtype=torch.float64, device=owner.device)[None]
        steps, shifts = torch.cat([self.maps, same]), torch.cat([self.letters, self.letters.new_tensor([[1.0, 0.0]])])
        while True:
            scores = signed_depth(maps, tiles.corners[owner] + size / 2, size / 2, *self.chart.of_depth)
            meets = (scores > -torch.inf).nonzero().squeeze(1)
            chosen = meets[
                select_words(
                    owner[meets],
                    scores[meets],
                    maps[meets],
                    digits[meets],
                    beam,
                    colours,
                    2.0 * size,
                    dues,
                    self.chart.frame,
                )
            ]
            owner, maps, lengths, digits = owner[chosen], maps[chosen], lengths[chosen], digits[chosen]
            large, small = singular_values(maps).unbind(1)
            coarse = ((large > limit) & (small > thin)) | (digits[:, 0] > width)
            coarse &= (lengths < self.recursion) & (looked_at[owner] <= allowed)
            if not coarse.any():
                break
            looked_at += torch.bincount(owner[coarse], minlength=len(looked_at)) * len(self.maps)
            parent, letter = (
                torch.cat(parts) for parts in zip(*enumerate_runs(torch.where(coarse, len(self.maps), 1)), strict=True)
            )
            letter = torch.where(coarse[parent], letter, len(self.maps))
            owner, lengths = owner[parent], lengths[parent] + (letter < len(self.maps))
            shift = torch.addcmul(digits[parent, 1], digits[parent, 0], shifts[letter, 1])
            maps, digits = (
                compose(maps[parent], steps[letter]),
                torch.stack([digits[parent, 0] * shifts[letter, 0], shift], 1),
            )
        self.looked_at += int(looked_at.sum())
        counts = torch.bincount(owner, minlength=len(tiles.corners))
        return Tiles(tiles.corners, dues, counts, maps, lengths, digits)

    def traced(self, tiles: Tiles, size: int, picture: Tensor, colours: int) -> Tensor:
        """Draw the words of tiles of one size in a picture; returns the least that a pixel of each tile has (T,)."""
        height, width = picture.shape
        chart = self.chart
        if (loops := kernels(tiles.maps)) is not None:
            arrays = as_arrays(tiles.corners, tiles.counts, tiles.maps, tiles.lengths, tiles.digits)
            arrays += as_arrays(chart.frame, chart.shapes, chart.index, chart.points, chart.levels)
            least = loops.trace(*arrays, size, self.fine, self.recursion, colours, picture.numpy())
            return torch.from_numpy(least)
        owner = torch.arange(len(tiles.corners), device=tiles.counts.device).repeat_interleave(tiles.counts)
        spare = self.fine / chart.cell / singular_values(tiles.maps)[:, 0].clamp(min=1e-300)
        coarser = spare.log2().floor().clamp(0, len(chart.shapes) - 1)
        offset, rows, columns = chart.shapes[coarser.long()].unbind(1)
        linear, corner = tiles.maps[:, :, :2], chart.frame[4:6]
        cells = linear * (chart.cell * coarser.exp2())[:, None, None]  # maps from cells
        shift = tiles.maps[:, :, 2] + linear @ corner
        low = tiles.corners[owner].double()
        edges = torch.stack([low, torch.minimum(low + size, low.new_tensor([width, height]))], dim=2)  # (K, 2, 2)
        first, last = slab_interval(edges - shift[..., None], cells[..., 1], cells[..., 0], columns[:, None])
        turned = torch.stack([-cells[:, 1, 0], cells[:, 0, 0]], dim=1)
        area = cells.det()
        middle = (turned * (edges.mean(2) - shift)).sum(1) / area
        reach = ((turned.abs() * (edges[..., 1] - edges[..., 0])).sum(1) / 2 / area).abs()
        flat = ~(area.abs() > 1e-9 * linear.square().sum((1, 2)) * (chart.cell * coarser.exp2()).square())
        first = torch.where(flat, first, torch.maximum(first, middle - reach)).clamp(min=0)
        last = torch.where(flat, last, torch.minimum(last, middle + reach))
        for word, row in enumerate_runs(cells_in(first, last, rows)):
            row = row + first[word].long()
            along = edges[word] - (shift[word] + cells[word, :, 1] * row[:, None])[..., None]
            start, end = slab_interval(along, cells[word, :, 0], cells[word, :, 1], 1)
            start = start.clamp(min=0)
            for line, column in enumerate_runs(cells_in(start, end, columns[word])):
                k = word[line]
                point = chart.index[offset[k] + row[line] * columns[k] + start[line].long() + column].long()
                there = point >= 0
                there &= chart.levels[point] <= self.recursion - tiles.lengths[k]
                point, k = point[there], k[there]
                x, y = (tiles.maps[k, :, :2] @ chart.points[:2, point].T[..., None])[..., 0].add(tiles.maps[k, :, 2]).T
                x_in, y_in = ((p >= low) & (p < high) for p, (low, high) in ((x, edges[k, 0].T), (y, edges[k, 1].T)))
                inside = (x_in & y_in).nonzero().squeeze(1)
                pixel = y[inside].long() * width + x[inside].long()
                if colours:
                    k, point = k[inside], point[inside]
                    address = tiles.digits[k, 0] * chart.points[2, point] + tiles.digits[k, 1]
                    picture.view(-1).scatter_reduce_(0, pixel, (address * colours + 1).to(picture.dtype), "amax")
                else:
                    picture.view(-1)[pixel] = True
        steps = torch.arange(size, device=picture.device)
        row, column = tiles.corners[:, 1, None, None] + steps[:, None], tiles.corners[:, 0, None, None] + steps
        pixels = picture[row.clamp(max=height - 1), column.clamp(max=width - 1)].long()
        return pixels.where((row < height) & (column < width), colours + 1).amin((1, 2))


def select_words(
    owner: Tensor,
    scores: Tensor,
    maps: Tensor,
    digits: Tensor,
    beam: int,
    colours: int,
    covers: float,
    dues: Tensor,
    frame: Tensor,
) -> Tensor:
    """The indices (Q,), by owner, of at most `beam` words for each of the tiles that own words (K,), best ones first.

    Of words that are the same only the one of the highest address is kept. In a picture in colours, words come in the
    order of their addresses, the highest first, and the first ones are kept. If there is none among them whose score
    is as high as that of one that surely `covers` the tile, half are the first, and half the best ones. Sets `dues`
    of tiles that lose others, as `Tiles` has them. `frame` is that of the chart.
    """

    def ranked(keys: Tensor, words: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
        """Of some words, in the order of their groups `of` (K,) and then of keys, the indices and the ranks."""
        order = words[keys[words].argsort(descending=True, stable=True)]
        order = order[of[order].argsort(stable=True)]
        counts = torch.bincount(of[order], minlength=len(dues))
        firsts = (counts.cumsum(0) - counts)[of[order]]
        return order, torch.arange(len(order), device=order.device) - firsts

    heights = digits.sum(1)
    order, _ = ranked(scores, torch.arange(len(owner), device=owner.device), owner)
    one, next_one = order[:-1], order[1:]
    alike = (owner[one] == owner[next_one]) & (scores[one] - scores[next_one] <= ALIKE)
    apart = maps[one] - maps[next_one]
    moved = apply(apart, frame[None, :2])[:, 0].abs() + apart[:, :, :2].abs() @ frame[2:4]
    alike &= (moved <= ALIKE).all(1)
    group = torch.empty_like(owner)
    group[order] = torch.cat([order[:1] < 0, ~alike]).cumsum(0)
    order, rank = ranked(heights, order, group)
    order = order[rank == 0]
    total = torch.bincount(owner[order], minlength=len(dues))
    rank = torch.arange(len(order), device=order.device) - (total.cumsum(0) - total)[owner[order]]
    if not colours:
        dues.clamp_(min=(total > beam).long())
        return order[rank < beam]
    ranks = torch.empty_like(owner)
    ranks[order] = rank
    order, rank = ranked(heights, order, owner)
    first = torch.where(scores[order] >= covers, rank, len(owner))
    needed = total.scatter_reduce(0, owner[order], first + 1, "amin")
    deep = torch.where(needed > beam, beam // 2, 0)[owner[order]]
    kept = ranks[order] < deep
    others = (~kept).cumsum(0)
    before = torch.zeros_like(dues).scatter_reduce(0, owner[order], others - (~kept).long(), "amin", include_self=False)
    kept |= others - before[owner[order]] <= beam - deep
    lost = order[~kept]
    dues.scatter_reduce_(0, owner[lost], (heights[lost] * colours).ceil().long(), "amax")
    return order[kept]
