/* The .ifs code, in which a whole system is one number; docs/FORMAT.md says it to the bit. */

const FINEST = 65536; // steps of the finest lattice
const MOST_CODED = 255; // maps
const LARGEST = 0.99; // singular value of a map in a file
const MAX_MAPS = 1000;
const USUAL = [-1, 1, -1, 1]; // the window that needs no bits

/** The number of lattice points with |A| + |B| < m. */
function beforeRing(m, steps, similar) {
  if (m === 0n) return 0n;
  const c = 2n * steps + 1n, pairs = m * (m - 1n) / 2n;
  const squares = m * (m - 1n) * (2n * m - 1n) / 6n;
  if (similar) return c * c + 4n * c * c * pairs - 32n * c * squares + 64n * pairs * pairs;
  return c + 4n * c * pairs - 16n * squares;
}

/** How many maps the lattice has. */
function latticePoints(steps, similar) {
  const points = beforeRing(steps / 2n + 1n, steps, similar);
  return similar ? 2n * points : points * points;
}

/** The number of a lattice point (A, B, T). */
function rankPoint([a, b, t], steps) {
  const m = (a < 0n ? -a : a) + (b < 0n ? -b : b), height = steps - 2n * m;
  const around = a > 0n && b >= 0n ? b : b > 0n ? m - a : a < 0n ? 2n * m - b : 3n * m + a;
  return beforeRing(m, steps, false) + around * (2n * height + 1n) + t + height;
}

/** The lattice point (A, B, T), or (A, B, T, U), of a number. */
function unrankPoint(number, steps, similar) {
  const m = last(steps / 2n, (ring) => beforeRing(ring, steps, similar) <= number);
  const height = steps - 2n * m, shifts = [];
  let around = number - beforeRing(m, steps, similar);
  for (let k = 0; k < (similar ? 2 : 1); k++) {
    shifts.unshift(around % (2n * height + 1n) - height);
    around /= 2n * height + 1n;
  }
  const quarter = m ? around / m : 0n, along = m ? around % m : 0n;
  const rest = m - along;
  const corners = [[rest, along], [-along, rest], [-rest, -along], [along, -rest]];
  return [...corners[quarter], ...shifts];
}

/** The largest whole number from 0 to `most` for which something still holds. */
function last(most, holds) {
  let low = 0n, high = most;
  while (low < high) {
    const middle = (low + high + 1n) / 2n;
    if (holds(middle)) low = middle;
    else high = middle - 1n;
  }
  return low;
}

/** How many ways there are to choose k of n things. */
function choices(n, k) {
  let product = 1n;
  for (let i = 0n; i < k; i++) product = product * (n - i) / (i + 1n);
  return product;
}

const multisets = (steps, n, similar) => (
  choices(latticePoints(steps, similar) + BigInt(n) - 1n, BigInt(n)));

/** The rank of a multiset of whole numbers among all of so many. */
function rankMultiset(numbers) {
  const sorted = [...numbers].sort((one, other) => (one < other ? -1 : one > other ? 1 : 0));
  return sorted.reduce((sum, number, i) => (
    sum + choices(number + BigInt(i), BigInt(i) + 1n)), 0n);
}

/** The sorted multiset of n whole numbers that has this rank. */
function unrankMultiset(rank, n) {
  const numbers = [];
  for (let i = BigInt(n); i > 0n; i--) {
    let factorial = 1n;
    for (let k = 2n; k <= i; k++) factorial *= k;
    const most = root(rank * factorial, i), least = most > i ? most - i : 0n;
    const number = least + last(most - least, (k) => choices(least + k + i - 1n, i) <= rank);
    numbers.unshift(number);
    rank -= choices(number + i - 1n, i);
  }
  return numbers;
}

/** The whole part of a root, by Newton's method from above. */
function root(value, degree) {
  if (value === 0n) return 0n;
  let guess = 1n << BigInt(Math.ceil(value.toString(2).length / Number(degree)));
  for (;;) {
    const better = ((degree - 1n) * guess + value / guess ** (degree - 1n)) / degree;
    if (better >= guess) return guess;
    guess = better;
  }
}

/** CRC-8 with the polynomial x^8 + x^2 + x + 1. */
function checksum(bytes) {
  let rest = 0;
  for (const byte of bytes) {
    rest ^= byte;
    for (let k = 0; k < 8; k++) rest = rest << 1 ^ (rest & 0x80 ? 0x107 : 0);
  }
  return rest;
}

/** The stroke of an 8-bit code, in world units, in a window of this side. */
function strokeOf(code, side) {
  const exponent = code >> 4, mantissa = code & 15;
  const units = exponent === 0 ? mantissa : (16 + mantissa) * 2 ** (exponent - 1);
  return units * side / 2 ** 20;
}

/** Half the sides and the centre of a box, given in eighths of half a window, in the world. */
function boxInWorld([left, right, bottom, top], window, spread) {
  const side = window[1] - window[0], unit = side / 16 * 2 ** spread;
  return {
    half: [(right - left) * unit / 2, (top - bottom) * unit / 2],
    centre: [window[0] + side / 2 + (left + right) * unit / 2,
      window[2] + side / 2 + (bottom + top) * unit / 2],
  };
}

/** The rows (a, b, t) of maps in the frame in which a box is [-1, 1] × [-1, 1]. */
function rowsInBox(maps, { half, centre }) {
  return maps.map(([a, b, x, c, d, y]) => [
    [a, b * half[1] / half[0], (a * centre[0] + b * centre[1] + x - centre[0]) / half[0]],
    [c * half[0] / half[1], d, (c * centre[0] + d * centre[1] + y - centre[1]) / half[1]],
  ]);
}

/** The box, spread and gain of the finest lattice for some maps. Throws Error if there is none. */
function bestFrame(maps, window) {
  let best = null;
  for (let spread = 0; spread < 16; spread++) {
    for (let half = 1; half <= 10; half++) {
      const box = [-half, half, -half, half];
      const frame = boxInWorld(box, window, spread), rows = rowsInBox(maps, frame);
      const sums = rows.flat().map(([a, b, t]) => Math.abs(a) + Math.abs(b) + Math.abs(t));
      const gain = Math.max(0, Math.ceil(4 * Math.max(...sums) - 4 - 1e-9));
      const coarse = (4 + gain) * frame.half[0];
      if (gain <= 7 && (!best || coarse < best.coarse)) best = { box, spread, gain, rows, coarse };
    }
    if (best) return best;
  }
  throw new Error("these maps lead too far away for a link");
}

/** The bytes of a .ifs file. Throws Error for a system that it cannot hold. */
function pack({ maps, window, stroke, size }) {
  const n = maps.length, side = window[1] - window[0], usualWindow = same(window, USUAL);
  if (n > MOST_CODED) throw new Error(`a link holds up to ${MOST_CODED} maps, not ${n}`);
  const within = maps.map((map) => {
    const part = Math.min(1, (LARGEST - 1e-4) / Math.max(stretches(map)[0], 1e-9));
    return map.map((value, k) => (k % 3 < 2 ? value * part : value));
  });
  const { box, spread, gain, rows } = bestFrame(within, window);
  let pen = 0;
  for (let code = 1; code < 256 && stroke > 0; code++) {
    const off = (k) => Math.abs(strokeOf(k, side) - stroke);
    if (off(code) < off(pen) || pen === 0) pen = code;
  }
  const digits = (value, count) => value.toString(2).padStart(count, "0");
  const usual = usualWindow && spread === 0 && gain === 0;
  let bits = `0010${+(pen > 0)}${+!usual}`;
  if (!usual) {
    bits += +!usualWindow;
    if (!usualWindow) {
      const floats = new DataView(new ArrayBuffer(12));
      [window[0], window[2], side].forEach((value, k) => floats.setFloat32(4 * k, value));
      for (let k = 0; k < 12; k++) bits += digits(floats.getUint8(k), 8);
    }
    bits += "1".repeat(spread) + "0" + digits(gain, 3);
  }
  if (pen) bits += digits(pen, 8);
  const power = Math.max(0, Math.round(Math.log2(size / 8)));
  bits += size === 8 << power && power < 15 ? digits(power, 4)
    : `1111${digits(Math.min(size, 4096) - 1, 12)}`;
  const beyond = (n + 7).toString(2);
  bits += "0".repeat(beyond.length - 4) + beyond;
  bits += [box[0] + 10, 10 - box[1], box[2] + 10, 10 - box[3]].map((x) => digits(x, 4)).join("");

  const steps = BigInt(FINEST), unit = FINEST / (1 + gain / 4);
  const points = beforeRing(steps / 2n + 1n, steps, false);
  const body = rankMultiset(rows.map((pair) => {
    const [first, second] = pair.map(([a, b, t]) => {
      const A = Math.round(a * unit / 2), B = Math.round(b * unit / 2);
      const most = Math.max(0, FINEST - 2 * Math.abs(A) - 2 * Math.abs(B));
      const T = Math.max(-most, Math.min(most, Math.round(t * unit)));
      return rankPoint([A, B, T].map(BigInt), steps);
    });
    return first * points + second;
  }));
  const length = Math.ceil((bits.length + multisets(steps, n, false).toString(2).length) / 8);
  const filled = bits + body.toString(2).padStart(8 * length - bits.length, "0");
  const bytes = filled.match(/.{8}/g).map((byte) => parseInt(byte, 2));
  return new Uint8Array([...bytes, checksum(bytes)]);
}

const same = (one, other) => one.every((value, k) => value === other[k]);

/** The system that the bytes of a .ifs file hold. Throws Error, which says what is wrong. */
function unpack(bytes) {
  if (bytes.length < 5 || bytes.length > 65536) throw new Error("it was cut");
  if (bytes[0] >> 5 !== 1) throw new Error("it has another version");
  if (checksum(bytes)) throw new Error("it was cut or changed: its checksum does not fit");
  const bits = [...bytes.slice(0, -1)].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  let at = 3;
  const read = (count) => {
    if (at + count > bits.length) throw new Error("it ends too early");
    at += count;
    return count ? parseInt(bits.slice(at - count, at), 2) : 0;
  };
  const run = (digit) => {
    const start = at;
    while (at - start < 16 && bits[at] === digit) at++;
    return at - start;
  };
  const similar = read(1) === 1, hasStroke = read(1), unusual = read(1);
  let window = USUAL, spread = 0, gain = 0;
  if (unusual) {
    if (read(1)) {
      const floats = new DataView(new ArrayBuffer(12));
      for (let k = 0; k < 12; k++) floats.setUint8(k, read(8));
      const [x, y, side] = [0, 4, 8].map((k) => floats.getFloat32(k));
      if (!([x, y, side].every((value) => Math.abs(value) <= 1e6) && side >= 1e-6)) {
        throw new Error("its window makes no sense");
      }
      window = [x, x + side, y, y + side];
    }
    spread = run("1") + read(1);
    gain = read(3);
  }
  const pen = hasStroke ? read(8) : 0, power = read(4);
  const size = power === 15 ? read(12) + 1 : 8 << power;
  const n = read(4 + run("0")) - 7;
  const box = [read(4) - 10, 10 - read(4), read(4) - 10, 10 - read(4)];
  const sound = n >= 1 && n <= MOST_CODED && size <= 4096 && spread <= 15 && pen >= hasStroke
    && box[1] > box[0] && box[3] > box[2];
  if (!sound || (similar && box[1] - box[0] !== box[3] - box[2])) {
    throw new Error("its header makes no sense");
  }
  const body = bits.length > at ? BigInt(`0b${bits.slice(at)}`) : 0n;
  const space = 1n << BigInt(bits.length - at);
  const steps = 1n + last(BigInt(FINEST - 1), (k) => multisets(k + 1n, n, similar) <= space);
  if (body >= multisets(steps, n, similar)) throw new Error("its maps make no sense");
  const frame = boxInWorld(box, window, spread), g = (1 + gain / 4) / Number(steps);
  const points = beforeRing(steps / 2n + 1n, steps, false);
  const maps = unrankMultiset(body, n).map((number) => {
    const rows = similar ? similarRows(number, steps) : [
      unrankPoint(number / points, steps, false), unrankPoint(number % points, steps, false),
    ];
    return rows.flatMap((row, k) => {
      const [a, b, t] = row.map(Number), { half, centre } = frame;
      const u = 2 * g * a * half[k] / half[0], v = 2 * g * b * half[k] / half[1];
      return [u, v, g * t * half[k] + centre[k] - u * centre[0] - v * centre[1]];
    });
  });
  return { maps, window, stroke: strokeOf(pen, window[1] - window[0]), size };
}

/** The rows of a similarity that has this number. */
function similarRows(number, steps) {
  const [a, b, t, u] = unrankPoint(number / 2n, steps, true);
  return number % 2n ? [[a, b, t], [b, -a, u]] : [[a, -b, t], [b, a, u]];
}

/** Bytes as the text of a link, and back. */
function toText(bytes) {
  const text = btoa(String.fromCharCode(...bytes));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function fromText(text) {
  if (!/^[\w-]+$/.test(text)) throw new Error("it holds other letters than such links do");
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
  } catch {
    throw new Error("it was cut");
  }
}

/** What is wrong with a system from elsewhere, or null. */
function faultOf({ maps, window, stroke, size }) {
  const numbers = [...maps.flat(), ...window, stroke, size];
  if (!numbers.every(Number.isFinite)) return "it holds numbers that are none";
  if (maps.length < 1 || maps.length > MAX_MAPS) return `it has ${maps.length} maps`;
  if (maps.flat().some((value) => Math.abs(value) > 1e3)) return "its maps lead far away";
  if (maps.some((map) => stretches(map)[0] > LARGEST + 2e-4)) return "its maps do not shrink";
  const side = window[1] - window[0];
  if (!(side >= 1e-6 && stroke >= 0 && stroke <= side)) return "its window or pen makes no sense";
  return null;
}
