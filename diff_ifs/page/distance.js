/* Exact Euclidean distances on a grid, for pens and for how deep a point lies inside. */

/**
 * How far the nearest cell with a key is from each, in cells, up to `reach`, and that key.
 * Columns first, then in each row the lower envelope of parabolas (Felzenszwalb, Huttenlocher).
 */
function nearest(keys, width, height, reach) {
  const cells = width * height, rows = new Int32Array(cells);
  const distances = new Float32Array(cells).fill(Infinity), found = new Uint16Array(cells);
  const far = -1e6;
  for (let i = 0; i < cells; i++) { // the last row above that has a key, then the nearer below
    rows[i] = keys[i] ? (i / width) | 0 : i < width ? far : rows[i - width];
  }
  for (let y = height - 2; y >= 0; y--) {
    for (let x = 0, i = y * width; x < width; x++, i++) {
      if (Math.abs(rows[i + width] - y) < Math.abs(y - rows[i])) rows[i] = rows[i + width];
    }
  }
  const at = new Int32Array(width), heights = new Float64Array(width);
  const starts = new Float64Array(width + 1);
  for (let y = 0, row = 0; y < height; y++, row += width) {
    let top = -1;
    for (let x = 0; x < width; x++) {
      const high = y - rows[row + x];
      if (Math.abs(high) > reach) continue;
      const value = high * high + x * x;
      let start = -Infinity;
      while (top >= 0) {
        start = (value - heights[top]) / (2 * (x - at[top]));
        if (start > starts[top]) break;
        top--;
        start = -Infinity;
      }
      at[++top] = x;
      heights[top] = value;
      starts[top] = start;
    }
    if (top < 0) continue;
    starts[top + 1] = Infinity;
    for (let x = 0, k = 0; x < width; x++) {
      while (starts[k + 1] < x) k++;
      const away = Math.sqrt(Math.max(0, heights[k] - 2 * x * at[k] + x * x));
      if (away > reach) continue;
      distances[row + x] = away;
      found[row + x] = keys[rows[row + at[k]] * width + at[k]];
    }
  }
  return { distances, found };
}
