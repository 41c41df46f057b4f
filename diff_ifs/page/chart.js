/* The attractor on a grid: of all points that fall into one cell, only the first is mapped on. */

const ENOUGH = 16; // points mapped for each cell of an image, and of all of it at least:
const FEWEST = 3000;
const SLOW = 0.2; // area that a map must leave for its images to be closed

/** The attractor of maps, in cells of the world, over a box [left, right, bottom, top]. */
class Chart {
  /** `addressed`: whether whole addresses are wanted; cells are aligned with the point `corner`. */
  constructor(maps, box, cell, addressed = false, corner = [box[0], box[3]]) {
    this.cell = cell;
    this.n = maps.length;
    this.sizes = maps.map((map) => stretches(map)[0]);
    this.left = corner[0] + (Math.floor((box[0] - corner[0]) / cell) - 1) * cell;
    this.top = corner[1] - (Math.floor((corner[1] - box[3]) / cell) - 1) * cell;
    this.columns = Math.max(2, Math.ceil((box[1] - this.left) / cell) + 1);
    this.rows = Math.max(2, Math.ceil((this.top - box[2]) / cell) + 1);
    const cells = this.columns * this.rows;
    this.letters = new Uint16Array(cells); // 1 + the last map that has an image there; 0: none
    this.xs = new Float32Array(cells); // points of the attractor, in cells from the left top
    this.ys = new Float32Array(cells);
    this.places = new Int32Array(cells); // the cell of a point
    this.parents = addressed ? new Int32Array(cells) : null; // of a cell: the point it comes from
    this.count = this.done = 0; // points found, and those whose images are
    // in cells, with y downwards
    const toCells = [1 / cell, 0, -this.left / cell, 0, -1 / cell, this.top / cell];
    this.toWorld = [cell, 0, this.left, 0, -cell, this.top];
    this.maps = maps.map((map) => compose(toCells, compose(map, this.toWorld)));
    this.backs = this.maps.map((map) => (
      Math.abs(map[0] * map[4] - map[1] * map[3]) > SLOW ? inverse(map) : null));
    for (const map of maps) {
      const [x, y] = apply(toCells, ...fixedPoint(map));
      const place = Math.floor(y) * this.columns + Math.floor(x);
      if (this.letters[place] === 0 && x > 0 && y > 0 && x < this.columns && y < this.rows) {
        this._add(x, y, place, maps.indexOf(map));
      }
    }
  }

  _add(x, y, place, letter) {
    this.letters[place] = letter + 1;
    if (this.parents) this.parents[place] = this.count;
    this.places[this.count] = place;
    this.xs[this.count] = x;
    this.ys[this.count++] = y;
  }

  /** Map points more, to about so many images, and say whether any are left. */
  grow(images = Infinity) {
    const { letters, xs, ys, places, parents, columns, rows, backs, wanting } = this;
    const flat = Float64Array.from(this.maps.flat());
    let { count, done } = this, most = Math.ceil(images / wanting.length);
    if (!wanting.length) done = count;
    const mark = (place, k, u, v) => {
      if (letters[place] === 0) {
        xs[count] = u;
        ys[count] = v;
        places[count++] = place;
      }
      letters[place] = k + 1;
      if (parents) parents[place] = done;
    };
    for (; done < count && most > 0; done++, most--) {
      const x = xs[done], y = ys[done];
      for (let i = 0; i < wanting.length; i++) {
        const k = wanting[i], at = 6 * k;
        const u = flat[at] * x + flat[at + 1] * y + flat[at + 2];
        const v = flat[at + 3] * x + flat[at + 4] * y + flat[at + 5];
        if (!(u >= 0 && v >= 0 && u < columns && v < rows)) continue;
        const place = (v | 0) * columns + (u | 0);
        if (letters[place] <= k) mark(place, k, u, v);
        if (!backs[k]) continue;
        // a slow map has hardly more than one point for a cell, and would miss many: mark those
        // too whose middles come from the cell that is mapped on
        const own = places[done], column = own % columns, row = (own - column) / columns;
        const [a, b, e, c, d, f] = backs[k];
        const [x0, y0] = apply(this.maps[k], column + 0.5, row + 0.5);
        const left = Math.floor(x0 - 0.5), top = Math.floor(y0 - 0.5);
        for (let corner = 0; corner < 4; corner++) {
          const p = left + (corner & 1), q = top + (corner >> 1), spot = q * columns + p;
          if (!(p >= 0 && q >= 0 && p < columns && q < rows) || letters[spot] > k) continue;
          const s = a * (p + 0.5) + b * (q + 0.5) + e, t = c * (p + 0.5) + d * (q + 0.5) + f;
          if (Math.floor(s) === column && Math.floor(t) === row) mark(spot, k, u, v);
        }
      }
    }
    this.count = count;
    this.done = done;
    return done < count;
  }

  /** Grow it whole, with a pause now and then. */
  *grown() {
    while (this.grow(200000)) yield;
    return this;
  }

  /** The maps that have not mapped enough points to hit each cell of their images many times. */
  get wanting() {
    const { sizes, done, count } = this;
    return [...sizes.keys()].filter((k) => done < Math.max(FEWEST, ENOUGH * sizes[k] ** 2 * count));
  }

  /** The keys of its cells (0: none): 1 + the last map there, or with addresses 1 + 65534 of it. */
  get keys() {
    if (!this.parents) return this.letters;
    if (!this._keys) {
      this._keys = new Uint16Array(this.letters.length);
      this.addresses.forEach((address, point) => {
        this._keys[this.places[point]] = 1 + 65534 * address;
      });
    }
    return this._keys;
  }

  /** The address of each point, as a fraction in base n, the last map that was used first. */
  get addresses() {
    if (!this._addresses) {
      const { letters, places, parents, count, n } = this;
      const addresses = this._addresses = new Float32Array(count);
      for (let digits = 1; digits < 65536; digits *= Math.max(n, 2)) {
        for (let point = 0; point < count; point++) {
          const place = places[point];
          addresses[point] = (letters[place] - 1 + addresses[parents[place]]) / n;
        }
      }
    }
    return this._addresses;
  }

  /** Measure how deep inside the attractor each cell lies, in cells; below 0 outside. */
  sound() {
    const { letters, columns, rows } = this, far = columns + rows;
    const outside = nearest(letters, columns, rows, far).distances;
    const holes = letters.map((letter) => (letter ? 0 : 1));
    this.depths = nearest(holes, columns, rows, far).distances
      .map((depth, place) => Math.min(depth, far) - outside[place]);
  }

  /** The depth at a point given in cells. */
  depth(x, y) {
    if (x >= 0 && y >= 0 && x < this.columns && y < this.rows) {
      return this.depths[(y | 0) * this.columns + (x | 0)];
    }
    return -Math.max(-x, x - this.columns, -y, y - this.rows, 1);
  }

  /** The box of the points that were found. */
  extent() {
    let left = Infinity, right = -Infinity, top = Infinity, bottom = -Infinity;
    for (let point = 0; point < this.count; point++) {
      left = Math.min(left, this.xs[point]);
      right = Math.max(right, this.xs[point]);
      top = Math.min(top, this.ys[point]);
      bottom = Math.max(bottom, this.ys[point]);
    }
    const { left: x, top: y, cell } = this;
    return [x + left * cell, x + right * cell, y - bottom * cell, y - top * cell];
  }
}

/** A box [left, right, bottom, top] around the attractor of maps, with a little room. */
function bounds(maps) {
  const fixed = maps.map(fixedPoint);
  const middle = [0, 1].map((axis) => fixed.reduce((sum, at) => sum + at[axis], 0) / fixed.length);
  const radii = maps.map((map) => {
    const [x, y] = apply(map, ...middle);
    return Math.hypot(x - middle[0], y - middle[1]) / Math.max(1 - stretches(map)[0], 1e-3);
  });
  const radius = Math.max(...radii, 1e-9);
  let box = [middle[0] - radius, middle[0] + radius, middle[1] - radius, middle[1] + radius];
  for (let look = 0; look < 6; look++) { // each closer than the last
    const side = Math.max(box[1] - box[0], box[3] - box[2]);
    const chart = new Chart(maps, box, side / 128);
    finish(chart.grown());
    const [left, right, bottom, top] = chart.extent();
    const room = 3 * Math.max(right - left, top - bottom) / 128 + 1e-9;
    const next = look === 0 || Math.max(right - left, top - bottom) < side / 2
      ? side / 128 * 3 : room; // what the cells of a look are good for
    box = [left - next, right + next, bottom - next, top + next];
    if (next === room && look > 0) break;
  }
  return box;
}
