/* How often a point of the attractor is visited: the mass of words of about equal weight. */

/** Split the heaviest of some words, again and again, until there are so many. */
function* split(words, count, longer) {
  for (let round = 0; round < 200 && words.length && words.length < count; round++) {
    words.sort((one, other) => other.weight - one.weight);
    const heaviest = words.splice(0, Math.ceil((count - words.length) / 16));
    for (const word of heaviest) words.push(...longer(word));
    yield;
  }
  return words.sort((one, other) => one.address - other.address); // neighbours together
}

/** Points x, y, weight, address, one after the other, that stand for the measure. */
function* massPoints(system, count) {
  const [mx, my] = centreOfMass(system);
  const words = yield* split([new Word()], count, (word) => word.longer(system));
  return Float64Array.from(words.flatMap((word) => (
    [...apply(word.map, mx, my), word.weight, word.address])));
}

/** The centre of mass: the one point m with m = Σ p_i f_i(m). */
function centreOfMass({ maps, weights }) {
  const mean = [0, 1, 2, 3, 4, 5].map((k) => (
    maps.reduce((sum, map, i) => sum + weights[i] * map[k], 0)));
  return fixedPoint(mean);
}

/**
 * The mass in each pixel of a view, and where a job names colours, those too, times the mass: one
 * or four numbers a pixel. Of about words × points points.
 */
function* density(system, view, words, points, job) {
  const { width, height } = view, channels = job ? 4 : 1;
  const sums = new Float32Array(channels * width * height);
  const [left, right, bottom, top] = system.box;
  const size = view.pixel * Math.max(width, height) / Math.max(right - left, top - bottom);
  let heavy = yield* wordsMeeting(system, view, Math.min(1, size), 4 * words);
  heavy = yield* split(heavy, words, (word) => (
    word.longer(system).filter((longer) => view.meets(longer.map, system.box))));
  const flat = yield* massPoints(system, points);
  for (const word of heavy) {
    deposit(sums, view, flat, word, job);
    yield;
  }
  return sums;
}

/** Add the mass of points under a word to the pixels where they fall, and its colours. */
function deposit(sums, view, points, word, job) {
  const [a, b, x, c, d, y] = view.pixels(word.map), { weight, address, share } = word;
  const { width, height } = view;
  const whole = job?.colour === "address", shades = job?.palette;
  let shade = shades?.[Math.max(word.first, 0) % shades.length];
  for (let k = 0; k < points.length; k += 4) {
    const u = a * points[k] + b * points[k + 1] + x, v = c * points[k] + d * points[k + 1] + y;
    if (!(u >= 0 && v >= 0 && u < width && v < height)) continue;
    const place = (v | 0) * width + (u | 0), amount = weight * points[k + 2];
    if (!shade) {
      sums[place] += amount;
      continue;
    }
    if (whole) {
      const along = (address + share * points[k + 3]) * shades.length | 0;
      shade = shades[Math.min(shades.length - 1, along)];
    }
    sums[4 * place] += amount;
    sums[4 * place + 1] += amount * shade[0];
    sums[4 * place + 2] += amount * shade[1];
    sums[4 * place + 3] += amount * shade[2];
  }
}

/** What shows a mass as a value in [0, 1]: log(1 + m / mean), as a part of its peak. */
function logTone(sums, channels) {
  let total = 0, lit = 0, peak = 0;
  for (let k = 0; k < sums.length; k += channels) {
    const amount = sums[k];
    if (amount > 0) {
      total += amount;
      lit++;
      if (amount > peak) peak = amount;
    }
  }
  const mean = total / lit || 1, full = Math.log1p(peak / mean) || 1;
  return (amount) => Math.log1p(amount / mean) / full;
}
