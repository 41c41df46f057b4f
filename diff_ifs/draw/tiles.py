"""The attractor tile by tile.

A picture is a square tile that is split into quarters, down to single pixels where it must be. Each
tile has its own few words, whose images of the attractor may meet it: those of the tile that it is
a quarter of, replaced by their children until they are small enough. Where images overlap there are
more of them than can be kept; then those stay which the middle of the tile lies deepest in, or is
closest to, as the inverse of a word tells on a chart of the whole attractor. A tile is ready when
all its pixels are drawn, or no word was left out. So the cost is that of the pixels near the edge,
and of a few words for each tile within, however many words there are.

In a picture in colours, which show the highest address that a point of a pixel has, words of high
addresses stay too, and a tile is ready when all its pixels have colours that no word that was left
out exceeds.

Letters in shapes: n maps, K words, T tiles, H × W pixels of the picture. Words are maps into the
frame of the picture, in which the pixel (row, column) is where row <= y < row + 1 and column <= x <
column + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diff_ifs.backend import arrays, load_kernels
from diff_ifs.draw.chart import Chart

TILE = 16  # a side of the tiles that are drawn at first
# words that are kept for a tile; the next number is for those that are not ready with one
BEAMS = 4, 16, 64


@dataclass(frozen=True)
class Tiles:
    """Tiles of one size, as corners (T, 2) of pixels (x, y), and the words that each has, one tile
    after the other.

    dues: 0, or if others were left out, the colour that a pixel must have for them not to matter
    (T,); counts: how many there are (T,); maps: (K, 2, 3); lengths: their letters (K,); digits:
    what they do to addresses (K, 2).
    """

    corners: Tensor
    dues: Tensor
    counts: Tensor
    maps: Tensor
    lengths: Tensor
    digits: Tensor

    @property
    def arrays(self) -> tuple[tuple, tuple]:
        """Tiles and words as compiled loops take them."""
        return tuple(arrays(self.corners, self.counts)), tuple(
            arrays(self.maps, self.lengths, self.digits)
        )

    def __getitem__(self, which: Tensor) -> "Tiles":
        """The tiles of an index (Q,), with all their words."""
        counts, firsts = self.counts[which], (self.counts.cumsum(0) - self.counts)[which]
        before = (counts.cumsum(0) - counts).repeat_interleave(counts)
        words = firsts.repeat_interleave(counts) + torch.arange(int(counts.sum())) - before
        kept = self.maps[words], self.lengths[words], self.digits[words]
        return Tiles(self.corners[which], self.dues[which], counts, *kept)

    def quarters(self, half: int, height: int, width: int) -> "Tiles":
        """The quarters of all tiles in the picture, of side `half`; each has the words of all."""
        four = self[torch.arange(len(self.corners)).repeat_interleave(4)]
        steps = torch.tensor([[0, 0], [half, 0], [0, half], [half, half]])
        corners = four.corners + steps.repeat(len(self.corners), 1)
        here = (corners < torch.tensor([width, height])).all(1).nonzero().squeeze(1)
        return Tiles(corners, four.dues, four.counts, four.maps, four.lengths, four.digits)[here]


@dataclass
class TileRenderer:
    """What draws a picture: maps (n, 2, 3), their digits (n, 2), and their chart, all in the
    picture's pixels.

    fine: how many pixels the cells of the chart may measure where they are drawn; recursion: the
    longest words; allowed: how many words a picture may look at before tiles that are not ready are
    left as they are; looked_at: how many were looked at in the last one.
    """

    maps: Tensor
    digits: Tensor
    chart: Chart
    fine: float
    recursion: int
    allowed: int = 1 << 29
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
        """Set the pixels (H, W) of a picture, whose first one is (left, top), that hold a point of
        the attractor.

        Of a picture in colours, to the highest colour 1 … that a point has there, which is its
        address times `colours`. Tiles whose pixels are all set are left as they are. With the first
        of BEAMS alone, tiles that need more words are not finished.
        """
        # words kept for the picture
        size, widest, (height, width), self.looked_at = TILE, 2048, picture.shape, 0
        while size < max(height, width):
            size *= 2
        into = self.maps.new_tensor([[[1.0, 0.0, 0.5 - left], [0.0, 1.0, 0.5 - top]]])
        one, zero = torch.ones(1, dtype=torch.long), torch.zeros(1, dtype=torch.long)
        whole = Tiles(zero.expand(1, 2), zero, one, into, zero, self.maps.new_tensor([[1.0, 0.0]]))
        whole = self.subdivide(whole, size, widest, colours)
        # little at once: it may be large
        rows = torch.stack([(band == 0).any(0) for band in picture.split(TILE)])
        open_tiles = torch.stack([column.any(1) for column in rows.split(TILE, dim=1)], dim=1)
        for beam in beams:
            open_tiles = self._descend(
                (whole, size, widest), beam, open_tiles, picture, colours, progress
            )

    def _descend(
        self,
        whole: tuple[Tiles, int, int],
        beam: int,
        wanted: Tensor,
        picture: Tensor,
        colours: int,
        progress: Callable[[int], object],
    ) -> Tensor:
        """Draw those of the TILE × TILE tiles that are wanted, with `beam` words for each; returns
        which are not ready.

        whole: the picture as a tile, its size, and how many words it has at most. With the last of
        BEAMS, tiles that are not ready are split until they are single pixels.
        """
        last, unready, left_over = beam == BEAMS[-1], torch.zeros_like(wanted), [whole]
        while left_over:
            tiles, size, most = left_over.pop()
            if beam > BEAMS[0] and self.looked_at > self.allowed:
                break
            if size <= TILE:
                few = BEAMS[0] if last and size > 1 and not colours else beam
                found = self.subdivide(tiles, size, few, colours, drawn=True)
                least = self.draw_tiles(found, size, picture, colours)
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
                pooled = (
                    torch.nn.functional.max_pool2d(
                        wanted[None].float(), size // TILE, ceil_mode=True
                    )[0]
                    > 0
                )
                column, row = tiles.corners.T // size
                tiles = tiles[pooled[row, column].nonzero().squeeze(1)]
            tiles = self.subdivide(tiles, size, most, colours)
            some = tiles.counts > 0
            if not last:
                some |= tiles.dues > 0
            parts = some.nonzero().squeeze(1).split(1 << 11)  # tiles between two looks at memory
            left_over += [(tiles[part], size, most) for part in parts if len(part)]
        return unready

    def subdivide(
        self, tiles: Tiles, size: int, beam: int, colours: int, drawn: bool = False
    ) -> Tiles:
        """The same tiles with at most `beam` words each, the best ones, none of which is too large
        for its tile.

        Words whose images miss a tile are dropped, and words of `recursion` letters have no
        children. Words that are to be `drawn` are as fine as pixels need, and have one colour.
        Others are split only while they are too thick for their tiles: of many slivers those would
        be kept that the middle lies deepest in, all in one line. In colours, where words of high
        addresses stay wherever they lie, all that are too long are split, down to slivers as thin
        as the tile.
        """
        limit, thin, width = self.fine / self.chart.cell * size, size / self.chart.span, 1.0
        if drawn:
            limit, thin, width = self.fine / self.chart.cell, -1.0, 0.5 / max(colours, 0.5)
        elif not colours:
            thin = limit
        # words that a tile may look at before large ones are taken
        allowed = (1 << 26) // max(len(tiles.corners), 1)
        until = limit, thin, width, self.recursion, allowed
        alphabet = tuple(arrays(self.maps, self.digits))
        found = load_kernels().subdivide(
            *tiles.arrays, alphabet, self.chart.of_depth, size, beam, colours, until
        )
        *words, dues, looked_at = found
        self.looked_at += looked_at
        counts, *words = map(torch.from_numpy, words)
        return Tiles(
            tiles.corners, torch.maximum(tiles.dues, torch.from_numpy(dues)), counts, *words
        )

    def draw_tiles(self, tiles: Tiles, size: int, picture: Tensor, colours: int) -> Tensor:
        """Draw the words of tiles of one size in a picture; returns the least that a pixel of each
        tile has (T,).
        """
        until = self.fine, self.recursion
        into = size, colours, picture.numpy()
        return torch.from_numpy(
            load_kernels().draw_tiles(*tiles.arrays, self.chart.of_points, until, *into)
        )
