/* The painter: a worker that is told what to show, and answers with pictures, finer and finer. */

const DIFFERENCE = { both: [244, 244, 240], missing: [56, 132, 255], extra: [255, 122, 26] };
const FEW_SAMPLES = 2e7; // pixels of a picture beyond which each has one sample
const BREATH = 12; // milliseconds of work after which it looks whether something newer is asked for

let latest = null, target = null, systemOf = { version: null }, splats = null;

/** Begin to listen to the page. */
function listen() {
  self.onmessage = ({ data }) => {
    if (data.target) target = data.target;
    else if (data.measure) measure(data);
    else run(latest = data);
  };
}

/** Let messages come in, which a timer would do only after some milliseconds. */
function breath() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}

/** Do a job step by step, unless a newer one comes. */
async function run(job) {
  const steps = paint(job);
  let began = performance.now();
  for (;;) {
    const { value, done } = steps.next();
    if (done) {
      splats ??= new Splats();
      splats.trial();
      return;
    }
    const owned = [value?.pixels?.buffer, value?.bitmap].filter(Boolean);
    if (value) self.postMessage({ id: job.id, ...value }, owned);
    if (value || performance.now() - began > BREATH) {
      await breath();
      if (job !== latest) return;
      began = performance.now();
    }
  }
}

/** The IoU of systems with the target: those of a fit's way, one after the other. */
async function measure({ measure: systems }) {
  for (let k = 0; k < systems.length; k++) {
    const iou = finish(score(new System(systems[k].maps), systems[k].stroke, 3));
    self.postMessage({ measured: k, iou });
    await breath();
  }
}

/** What a generator returns in the end. */
function finish(steps) {
  for (;;) {
    const { value, done } = steps.next();
    if (done) return value;
  }
}

/** The pictures of a job, each finer than the one before, and what is measured on the way. */
function* paint(job) {
  if (systemOf.version !== job.version) {
    systemOf = { version: job.version, system: new System(job.maps, job.weights) };
  }
  const { system } = systemOf, view = new View(...job.view);
  if (job.kind === "levels") {
    yield yield* levelPicture(system, view, job);
  } else if (job.kind === "density") {
    yield yield* densityPicture(system, view.at(job.quick), job, 400, 1000);
    yield yield* densityPicture(system, view, job, 2000, 2000);
    yield { ...yield* densityPicture(system, view, job, 5000, 5000), last: true };
  } else {
    yield (splats && (yield* splats.picture(system, view, job)))
      || (yield* occupancyPicture(system, view.at(job.quick), job, 1));
    // without a pause, so that it is seen while one drags
    if (target) yield { iou: finish(score(system, job.stroke, job.stroke > 0 ? 2 : 1)), rough: true };
    if (job.quick > 1) yield yield* occupancyPicture(system, view, job, 1);
    const samples = view.width * view.height > FEW_SAMPLES ? 1 : 2;
    yield { ...yield* occupancyPicture(system, view, job, samples), last: true };
  }
  // as a fit is judged
  if (target) yield { iou: yield* score(system, job.stroke, job.stroke > 0 ? 6 : 3) };
}

/** The IoU of an attractor with the target, with so many samples a side of each of its pixels. */
function* score(system, stroke, samples) {
  const { size, window, values } = target, pixel = (window[1] - window[0]) / size;
  const view = new View(window[0], window[3], pixel, size, size);
  const covered = yield* coverage(system, view, stroke, size > 512 ? 1 : samples);
  let both = 0, either = 0;
  for (let k = 0; k < values.length; k++) {
    const mine = covered[k] >= 0.5, its = values[k] >= 127.5;
    both += mine && its;
    either += mine || its;
  }
  return either ? both / either : 1;
}

/** Which colour of a job's palette an address has, or else its first map. */
function colouring({ colour, palette: { length } }) {
  return colour === "address"
    ? (address) => Math.min(length - 1, address * length | 0) : (_, first) => first % length;
}

/** The colours of all keys, as three bytes each. */
function coloursOfKeys(job, n) {
  const bytes = new Uint8Array(3 * 65536), colour = colouring(job);
  const count = job.colour === "address" ? 65535 : n;
  for (let key = 0; key < count; key++) {
    bytes.set(job.palette[colour(key / 65534, key)], 3 * (key + 1));
  }
  return bytes;
}

/** The brightness of the target at a point of the world, between its pixels. */
function targetAt(x, y) {
  const { size, window, values } = target, pixel = (window[1] - window[0]) / size;
  const u = (x - window[0]) / pixel - 0.5, v = (window[3] - y) / pixel - 0.5;
  const left = Math.floor(u), top = Math.floor(v), s = u - left, t = v - top;
  const value = (column, row) => (column >= 0 && row >= 0 && column < size && row < size
    ? values[row * size + column] : 0);
  return (1 - t) * ((1 - s) * value(left, top) + s * value(left + 1, top))
    + t * ((1 - s) * value(left, top + 1) + s * value(left + 1, top + 1));
}

/** A picture of the attractor, or of its difference from the target. */
function* occupancyPicture(system, view, job, samples) {
  const { width, height } = view, radius = job.pen / view.pixel * samples;
  const margin = (Math.ceil(radius / samples) + 1) * samples, fine = view.at(1 / samples, margin);
  let keys = yield* occupied(system, fine, job.colour);
  if (radius >= 1) {
    keys = nearest(keys, fine.width, fine.height, radius).found;
    yield;
  }
  const colours = coloursOfKeys(job, system.maps.length), differs = job.kind === "difference";
  const pixels = new Uint8ClampedArray(4 * width * height), sum = [0, 0, 0];
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++, to += 4) {
      let covered = 0;
      sum[0] = sum[1] = sum[2] = 0;
      for (let part = 0; part < samples * samples; part++) {
        const u = column * samples + part % samples, v = row * samples + (part / samples | 0);
        const place = (v + margin) * fine.width + u + margin, key = keys[place];
        let here = key ? 1 : 0;
        if (differs) {
          const its = targetAt(view.left + (u + 0.5) / samples * view.pixel,
            view.top - (v + 0.5) / samples * view.pixel) >= 127.5;
          const shade = here ? (its ? "both" : "extra") : its ? "missing" : null;
          here = shade ? 1 : 0;
          if (here) for (let k = 0; k < 3; k++) sum[k] += DIFFERENCE[shade][k];
        } else if (here) {
          for (let k = 0; k < 3; k++) sum[k] += colours[3 * key + k];
        }
        covered += here;
      }
      if (covered) {
        for (let k = 0; k < 3; k++) pixels[to + k] = sum[k] / covered;
        pixels[to + 3] = 255 * covered / samples ** 2;
      }
    }
    if (row % 100 === 99) yield;
  }
  return { pixels, width, height, ...view.place };
}

/** A picture of the measure. */
function* densityPicture(system, view, job, words, points) {
  const coloured = job.colour !== "none", { width, height } = view;
  const sums = yield* density(system, view, words, points, coloured ? job : null);
  const channels = coloured ? 4 : 1, tone = logTone(sums, channels);
  const pixels = new Uint8ClampedArray(4 * width * height);
  for (let k = 0; k < width * height; k++) {
    const mass = sums[channels * k];
    if (!mass) continue;
    const value = tone(mass) ** (1 / job.gamma);
    const shade = job.tones ? job.tones[Math.round(value * (job.tones.length - 1))] : job.ink;
    for (let j = 0; j < 3; j++) {
      pixels[4 * k + j] = coloured ? sums[4 * k + 1 + j] / mass : shade[j];
    }
    pixels[4 * k + 3] = 255 * (job.tones ? Math.min(1, 4 * value) : value);
  }
  return { pixels, width, height, ...view.place };
}

/** A picture of one level of the construction. */
function* levelPicture(system, view, job) {
  const { width, height } = view, canvas = new OffscreenCanvas(width, height);
  const picture = job.figure === "picture" && target ? target : null;
  const level = yield* drawLevel(canvas, system, view, { ...job, picture, index: colouring(job) });
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return { pixels: data, width, height, ...view.place, level, last: true };
}
