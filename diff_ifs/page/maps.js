/* Affine maps of the plane, [a, b, x, c, d, y]: (X, Y) -> (a X + b Y + x, c X + d Y + y). */

const IDENTITY = [1, 0, 0, 0, 1, 0];
const FLATTEST = 0.02; // a flatter map weighs as if its singular values had this ratio

/** The map f after g. */
function compose(f, g) {
  return [
    f[0] * g[0] + f[1] * g[3], f[0] * g[1] + f[1] * g[4], f[0] * g[2] + f[1] * g[5] + f[2],
    f[3] * g[0] + f[4] * g[3], f[3] * g[1] + f[4] * g[4], f[3] * g[2] + f[4] * g[5] + f[5],
  ];
}

/** The image [X, Y] of a point. */
function apply(f, x, y) {
  return [f[0] * x + f[1] * y + f[2], f[3] * x + f[4] * y + f[5]];
}

/** The inverse of a map, or null where it has none. */
function inverse(f) {
  const [a, b, x, c, d, y] = f, det = a * d - b * c;
  if (!(Math.abs(det) > 0)) return null;
  return [d / det, -b / det, (b * y - d * x) / det, -c / det, a / det, (c * x - a * y) / det];
}

/** By how much a map stretches the plane at most, and at least: its singular values. */
function stretches([a, b, , c, d]) {
  const turn = Math.hypot(a + d, c - b) / 2, flip = Math.hypot(a - d, c + b) / 2;
  return [turn + flip, Math.abs(turn - flip)];
}

/** The probabilities of maps, in proportion to their areas, which spread points evenly. */
function areaWeights(maps) {
  const areas = maps.map((map) => {
    const [large, small] = stretches(map);
    return large * Math.max(small, FLATTEST * large) + 1e-9;
  });
  const total = areas.reduce((sum, area) => sum + area, 0);
  return areas.map((area) => area / total);
}

/** The point that a contraction leaves where it is. */
function fixedPoint([a, b, x, c, d, y]) {
  const det = (1 - a) * (1 - d) - b * c;
  return [((1 - d) * x + b * y) / det, (c * x + (1 - a) * y) / det];
}
