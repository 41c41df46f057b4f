/* Which pixels of a view hold a point of the attractor, or of the pen that follows it. */

const LARGEST_CHART = 2e6; // cells of the whole attractor that are grown for one picture
const ZOOM_CHART = 1e6; // cells of the chart that the words of a zoom are drawn with

/** A system of maps, and what is found out about its attractor once. */
class System {
  constructor(maps, weights = null) {
    this.maps = maps;
    this.weights = weights ?? areaWeights(maps);
    this.box = bounds(maps);
    this.charts = new Map();
  }

  /** A chart of the whole attractor with about so many cells, kept for the next picture. */
  *chart(cells, addressed) {
    const name = `${cells} ${addressed}`, [left, right, bottom, top] = this.box;
    if (!this.charts.has(name)) {
      const cell = Math.sqrt((right - left) * (top - bottom) / cells);
      const chart = yield* new Chart(this.maps, this.box, cell, addressed).grown();
      chart.sound();
      this.charts.set(name, chart);
    }
    return this.charts.get(name);
  }

  /** The two points of the attractor that are furthest apart. */
  diameter() {
    const [left, right, bottom, top] = this.box;
    const chart = new Chart(this.maps, this.box, Math.max(right - left, top - bottom) / 512);
    finish(chart.grown());
    const outermost = [];
    for (let angle = 0; angle < 2 * Math.PI; angle += Math.PI / 60) {
      const c = Math.cos(angle), s = Math.sin(angle);
      let best = 0, most = -Infinity;
      for (let k = 0; k < chart.count; k++) {
        const along = c * chart.xs[k] + s * chart.ys[k];
        if (along > most) [best, most] = [k, along];
      }
      outermost.push(apply(chart.toWorld, chart.xs[best], chart.ys[best]));
    }
    let ends = [outermost[0], outermost[0]], longest = -1;
    for (const p of outermost) {
      for (const q of outermost) {
        const length = Math.hypot(p[0] - q[0], p[1] - q[1]);
        if (length > longest) [ends, longest] = [[p, q], length];
      }
    }
    return ends;
  }
}

/** The keys of a view's pixels, row by row: 0 where there is nothing, else as `Chart.keys`. */
function* occupied(system, view, colour) {
  const addressed = colour === "address";
  const { width, height, pixel } = view, [left, right, bottom, top] = system.box;
  const keys = new Uint16Array(width * height);
  if ((right - left) * (top - bottom) / pixel ** 2 <= LARGEST_CHART) {
    const corner = [view.left, view.top];
    const chart = yield* new Chart(system.maps, system.box, pixel, addressed, corner).grown();
    const x = Math.round((view.left - chart.left) / pixel);
    const y = Math.round((chart.top - view.top) / pixel);
    const from = Math.max(x, 0), to = Math.min(x + width, chart.columns);
    for (let row = Math.max(0, -y); row < Math.min(height, chart.rows - y) && from < to; row++) {
      const start = (row + y) * chart.columns;
      keys.set(chart.keys.subarray(start + from, start + to), row * width + from - x);
    }
    return keys;
  }
  const chart = yield* system.chart(Math.min(ZOOM_CHART, 2 * width * height), addressed);
  yield* cover(system, chart, view, keys, colour);
  return keys;
}

/**
 * The coverage of a view's pixels, with `samples` a side of each, in [0, 1]: those at most `stroke`
 * world units from the attractor.
 */
function* coverage(system, view, stroke, samples) {
  const { width, height } = view, radius = stroke / view.pixel * samples;
  const margin = (Math.ceil(radius / samples) + 1) * samples;
  const fine = view.at(1 / samples, margin);
  let keys = yield* occupied(system, fine, "none");
  if (radius >= 1) keys = nearest(keys, fine.width, fine.height, radius).found;
  const values = new Float32Array(width * height);
  for (let row = 0; row < height * samples; row++) {
    const from = (row + margin) * fine.width + margin, to = (row / samples | 0) * width;
    for (let column = 0; column < width * samples; column++) {
      values[to + (column / samples | 0)] += Math.min(1, keys[from + column]) / samples ** 2;
    }
  }
  return values;
}
