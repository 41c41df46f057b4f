/*
 * Zooms. The pixels of a view are looked up on a chart of the whole attractor, through the
 * inverses of the words that matter to them: a tile that lies deep inside the image of a word is
 * full, one far from all of them is empty, and any other is split, down to pixels.
 */

const THINNEST = 0.5; // pixels that the whole chart has under a word, at least
const SURE = 12; // cells beyond which no hole is expected that is smaller than a cell
const LONG = 10; // cells beyond which the shorter side of a pixel's image is no detail
const SMALLEST = 4; // pixels a side of the tiles that are not split
const RESOLVED = 3; // cells of the chart a side that a tile has, at least, under a word
const CROWD = 2500; // words of the whole view that are looked at, and of the smallest tiles:
const LEAST_CROWD = 60;

class Cover {
  constructor(system, chart, view, colour) {
    Object.assign(this, { chart, view, colour });
    this.maps = system.maps;
    this.letters = this._children(this._image(IDENTITY, -1, 0, 1)); // the words of one
  }

  /** The image of the attractor under a word, as the view sees it. */
  _image(map, first, address, share) {
    const { view, chart } = this, thin = THINNEST / chart.columns;
    const pixels = thickened(compose(view.pixels(map), chart.toWorld), thin);
    const whole = this.colour === "address";
    const [large, small] = stretches(pixels);
    return {
      map, first, address, share, children: null, score: 0,
      back: inverse(pixels), // from pixels to cells of the chart
      grain: large, // pixels that a cell has, at most
      reach: 1 / small, // cells that a pixel has, at most
      key: whole ? 1 + Math.floor(65534 * address) : this.colour === "map" ? first + 1 : 1,
      even: !whole || share < 1 / 512, // whether all of it has this key
    };
  }

  /** The words with one letter more, the last map first. */
  _children(image) {
    if (!image.children) {
      const share = image.share / this.maps.length;
      image.children = this.maps.map((map, letter) => this._image(compose(image.map, map),
        image.first < 0 ? letter : image.first, image.address + letter * share, share)).reverse();
    }
    return image.children;
  }

  /** Of some words, those that meet a tile, down to the first that holds all of it. */
  meeting(images, x, y, size) {
    const u = x + size / 2, v = y + size / 2, radius = size * Math.SQRT1_2, kept = [];
    for (let k = 0; k < images.length; k++) {
      const image = images[k], { back } = image;
      const depth = this.chart.depth(back[0] * u + back[1] * v + back[2],
        back[3] * u + back[4] * v + back[5]);
      const reach = image.reach * radius + 1;
      if (depth < -reach) continue;
      image.score = depth / image.reach;
      kept.push(image);
      if (depth >= Math.max(reach, SURE)) return { images: kept, full: true };
    }
    return { images: kept, full: false };
  }

  /** The words that matter to a tile, fine enough to resolve so many pixels, in order. */
  refined(images, x, y, size, pixels, most) {
    let found = this.meeting(images, x, y, size);
    for (;;) {
      let coarsest = 0;
      for (const { grain } of found.images) coarsest = Math.max(coarsest, grain);
      if (coarsest * RESOLVED <= pixels) return found;
      if (found.full && (found.images.length === 1 || alike(found.images))) return found;
      const limit = Math.max(coarsest / 2, pixels / RESOLVED);
      found = this.meeting(found.images.flatMap((image) => (
        image.grain > limit ? this._children(image) : [image])), x, y, size);
      if (found.images.length > most) {
        const scores = found.images.map((image) => image.score).sort((one, other) => other - one);
        found.images = found.images.filter((image) => image.score >= scores[most]);
      }
    }
  }

  /** The key of a pixel, under the first word that has a point there. */
  keyAt(images, column, row) {
    const { chart } = this, u = column + 0.5, v = row + 0.5;
    for (let k = 0; k < images.length; k++) {
      const image = images[k], { back } = image;
      const x = back[0] * u + back[1] * v + back[2], y = back[3] * u + back[4] * v + back[5];
      const depth = chart.depth(x, y);
      if (depth < -image.reach * Math.SQRT1_2 - 1) continue;
      const key = depth > 0 ? this._keyOf(image, x, y) : this._search(image, x, y);
      if (key) return key;
    }
    return 0;
  }

  /** Set the keys of a tile that lies inside the image of one word. */
  fill(keys, image, x, y, size) {
    const { width, height } = this.view, { back } = image, right = Math.min(x + size, width);
    for (let row = y; row < Math.min(y + size, height); row++) {
      if (image.even) {
        keys.fill(image.key, row * width + x, row * width + right);
        continue;
      }
      for (let column = x; column < right; column++) {
        const u = column + 0.5, v = row + 0.5;
        keys[row * width + column] = this._keyOf(image,
          back[0] * u + back[1] * v + back[2], back[3] * u + back[4] * v + back[5]);
      }
    }
  }

  _keyOf(image, x, y) {
    if (image.even) return image.key;
    const key = this.chart.keys[(y | 0) * this.chart.columns + (x | 0)];
    return image.key + Math.floor((key - 1) * image.share);
  }

  /** Look for a point in the image of a pixel on the chart, a parallelogram about (x, y). */
  _search(image, x, y) {
    const { chart } = this, { back } = image;
    let [a, b, , c, d] = back;
    if (Math.hypot(a, c) < Math.hypot(b, d)) [a, c, b, d] = [b, d, a, c];
    if (Math.hypot(b, d) > LONG) { // a sliver: turn the pixel, so that one side is short
      const turn = Math.atan2(2 * (a * b + c * d), a * a + c * c - b * b - d * d) / 2;
      const s = Math.sin(turn), t = Math.cos(turn);
      [a, c, b, d] = [t * a + s * b, t * c + s * d, t * b - s * a, t * d - s * c];
    }
    const across = steps(a, c), down = steps(b, d), step = Math.hypot(a, c) / across;
    for (let j = 0; j < down; j++) {
      const t = (j + 0.5) / down - 0.5;
      for (let k = 0; k < across;) {
        const s = (k + 0.5) / across - 0.5, u = x + a * s + b * t, v = y + c * s + d * t;
        const depth = chart.depth(u, v);
        if (depth > 0) return this._keyOf(image, u, v);
        k += Math.max(1, Math.floor((-depth - 1) / step)); // nothing is nearer than that
      }
    }
    return 0;
  }
}

/** In how many steps of about a cell one goes along (x, y), at most. */
const steps = (x, y) => Math.min(Math.ceil(Math.hypot(x, y)), 300);

/** Whether all words have one key, and the same. */
const alike = (images) => images.every(({ key, even }) => even && key === images[0].key);

/** A map that can be inverted: one with a smaller singular value is made thicker. */
function thickened(map, least) {
  const [large, small] = stretches(map), [a, b, x, c, d, y] = map;
  if (small >= least) return map;
  if (large === 0) return [least, 0, x, 0, least, y];
  const part = (a * d < b * c ? -least : least) / large;
  return [a + part * d, b - part * c, x, c - part * b, d + part * a, y];
}

/** Set the keys of a view's pixels. */
function* cover(system, chart, view, keys, colour) {
  const { width, height } = view, all = new Cover(system, chart, view, colour);
  let side = SMALLEST;
  while (side < Math.max(width, height)) side *= 2;
  const tiles = [{ x: 0, y: 0, size: side, images: all.letters }];
  for (let done = 0; tiles.length; done++) {
    const { x, y, size, images } = tiles.pop();
    const most = Math.max(LEAST_CROWD, Math.round(CROWD * size / side));
    const found = all.refined(images, x, y, size, size > SMALLEST ? size : 1, most);
    if (found.images.length) {
      if (found.full && (found.images.length === 1 || alike(found.images))) {
        all.fill(keys, found.images[0], x, y, size);
      } else if (size > SMALLEST) {
        const half = size / 2;
        for (const [u, v] of [[x, y], [x + half, y], [x, y + half], [x + half, y + half]]) {
          if (u < width && v < height) tiles.push({ x: u, y: v, size: half, images: found.images });
        }
      } else {
        for (let row = y; row < Math.min(y + size, height); row++) {
          for (let column = x; column < Math.min(x + size, width); column++) {
            keys[row * width + column] = all.keyAt(found.images, column, row);
          }
        }
      }
    }
    if (done % 500 === 499) yield;
  }
}
