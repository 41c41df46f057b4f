/* Levels of the construction: the images of a figure under all words of so many letters. */

const MOST_PIECES = 60000;

/** A square [left, right, bottom, top] that holds a box and all its images under all words. */
function invariantBox(maps, box) {
  const x = (box[0] + box[1]) / 2, y = (box[2] + box[3]) / 2;
  let radius = Math.hypot(box[1] - box[0], box[3] - box[2]) / 2;
  for (const map of maps) {
    const [u, v] = apply(map, x, y);
    radius = Math.max(radius, Math.hypot(u - x, v - y) / Math.max(1 - stretches(map)[0], 1e-3));
  }
  return [x - radius, x + radius, y - radius, y + radius];
}

/** The words of so many letters that may be seen, with one for each pixel of those too small. */
function* wordsOfLength(system, view, box, length) {
  let words = [new Word()];
  const side = box[1] - box[0];
  for (let level = 0; level < length; level++) {
    const next = [], small = new Set();
    for (const word of words) {
      for (let letter = 0; letter < system.maps.length; letter++) {
        const longer = word.then(letter, system);
        const [left, right, top, bottom] = view.reach(longer.map, box);
        if (right < 0 || left >= view.width || bottom < 0 || top >= view.height) continue;
        if (longer.size * side < view.pixel / 2) {
          const place = Math.floor(2 * top) * 8 * view.width + Math.floor(2 * left);
          if (small.has(place)) continue;
          small.add(place);
        }
        next.push(longer);
      }
      if (next.length > MOST_PIECES) return { words, level };
    }
    words = next;
    yield;
  }
  return { words, level: length };
}

/** Draw one level on a canvas; returns the level that was drawn, lower where there are too many. */
function* drawLevel(canvas, system, view, job) {
  const { figure, level, window, picture, stroke, index, palette } = job;
  const pen = canvas.getContext("2d"), p = view.pixel;
  const [xmin, xmax, ymin, ymax] = window;
  const segment = figure === "segment" ? system.diameter() : null;
  const all = [0, 2].flatMap((k) => [
    Math.min(system.box[k], window[k]), Math.max(system.box[k + 1], window[k + 1]),
  ]);
  const drawn = yield* wordsOfLength(system, view, invariantBox(system.maps, all), level);
  const groups = new Map();
  for (const word of drawn.words) {
    const shade = `rgb(${palette[index(word.address, Math.max(word.first, 0))].join(" ")})`;
    if (!groups.has(shade)) groups.set(shade, []);
    groups.get(shade).push(word);
  }
  pen.lineWidth = Math.max(1.3, 2 * stroke / p);
  pen.lineCap = "round";
  for (const [shade, words] of groups) {
    pen.fillStyle = pen.strokeStyle = shade;
    for (let from = 0; from < words.length; from += 2000) {
      pen.beginPath();
      const own = picture && tinted(picture, shade);
      for (const word of words.slice(from, from + 2000)) {
        const map = view.pixels(word.map);
        if (segment) {
          pen.moveTo(...apply(map, ...segment[0]));
          pen.lineTo(...apply(map, ...segment[1]));
        } else if (picture) {
          const step = (xmax - xmin) / picture.size;
          const to = compose(map, [step, 0, xmin, 0, -step, ymax]);
          pen.setTransform(to[0], to[3], to[1], to[4], to[2], to[5]);
          pen.drawImage(own, 0, 0);
        } else {
          pen.moveTo(...apply(map, xmin, ymin));
          pen.lineTo(...apply(map, xmax, ymin));
          pen.lineTo(...apply(map, xmax, ymax));
          pen.lineTo(...apply(map, xmin, ymax));
          pen.closePath();
        }
      }
      if (segment) pen.stroke();
      else if (!picture) pen.fill("nonzero");
      yield;
    }
  }
  return drawn.level;
}

/** A picture in one colour, as opaque as it is bright. */
function tinted({ size, values }, shade) {
  const canvas = new OffscreenCanvas(size, size), pen = canvas.getContext("2d");
  const data = new Uint8ClampedArray(4 * size * size);
  for (let k = 0; k < values.length; k++) data[4 * k + 3] = values[k];
  pen.putImageData(new ImageData(data, size, size), 0, 0);
  pen.globalCompositeOperation = "source-in";
  pen.fillStyle = shade;
  pen.fillRect(0, 0, size, size);
  return canvas;
}
