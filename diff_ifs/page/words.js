/* Words whose images meet a window, in double precision, down to any size. */

/** What is looked at: the world's point at the left top, the size of a pixel, and how many. */
class View {
  constructor(left, top, pixel, width, height) {
    Object.assign(this, { left, top, pixel, width, height });
  }

  /** The same window with pixels of another size, and so many more on every side. */
  at(grain, margin = 0) {
    const pixel = this.pixel * grain;
    return new View(this.left - margin * pixel, this.top + margin * pixel, pixel,
      Math.ceil(this.width / grain) + 2 * margin, Math.ceil(this.height / grain) + 2 * margin);
  }

  /** Where it lies in the world. */
  get place() {
    return { left: this.left, top: this.top, pixel: this.pixel };
  }

  /** A map into the world as one into pixels, y downwards. */
  pixels(map) {
    const p = this.pixel;
    return [map[0] / p, map[1] / p, (map[2] - this.left) / p,
      -map[3] / p, -map[4] / p, (this.top - map[5]) / p];
  }

  /** The pixels [left, right, top, bottom] that hold the image of a box, as real numbers. */
  reach(map, box) {
    const [a, b, x, c, d, y] = this.pixels(map);
    const u = (box[0] + box[1]) / 2, v = (box[2] + box[3]) / 2;
    const w = (box[1] - box[0]) / 2, h = (box[3] - box[2]) / 2;
    const column = a * u + b * v + x, row = c * u + d * v + y;
    const wide = Math.abs(a) * w + Math.abs(b) * h, high = Math.abs(c) * w + Math.abs(d) * h;
    return [column - wide, column + wide, row - high, row + high];
  }

  /** Whether the image of a box may be seen. */
  meets(map, box) {
    const [left, right, top, bottom] = this.reach(map, box);
    return right >= 0 && left < this.width && bottom >= 0 && top < this.height;
  }
}

/** A word: its map, how large and how heavy it is, and its address: a number, and its share. */
class Word {
  constructor(map = IDENTITY, weight = 1, address = 0, share = 1, first = -1) {
    this.map = map;
    this.size = stretches(map)[0];
    this.weight = weight;
    this.address = address;
    this.share = share;
    this.first = first;
  }

  /** The word with one letter more. */
  then(letter, system) {
    const share = this.share / system.maps.length;
    return new Word(compose(this.map, system.maps[letter]), this.weight * system.weights[letter],
      this.address + letter * share, share, this.first < 0 ? letter : this.first);
  }

  /** The words with one letter more. */
  longer(system) {
    return system.maps.map((_, letter) => this.then(letter, system));
  }
}

/** The words whose images meet a view, none larger than `size`: all, or `fewer` if very many. */
function* wordsMeeting(system, view, size, most, fewer = evenlyDrawn) {
  let words = [new Word()], level = 1;
  for (;;) {
    const coarse = words.filter((word) => word.size > level);
    if (!coarse.length) {
      if (level <= size) return words;
      level = Math.max(level / 2, size);
      continue;
    }
    words = words.filter((word) => word.size <= level);
    for (const word of coarse) {
      for (let letter = 0; letter < system.maps.length; letter++) {
        const longer = word.then(letter, system);
        if (view.meets(longer.map, system.box)) words.push(longer);
      }
    }
    if (words.length > most) words = fewer(words, most);
    yield;
  }
}

/** Of many words, some that weigh as much as all do, evenly drawn. */
function evenlyDrawn(words, most) {
  const total = words.reduce((sum, word) => sum + word.weight, 0), step = total / most;
  const drawn = [];
  let passed = 0, next = step / 2;
  for (const word of words) {
    passed += word.weight;
    const before = next;
    while (next < passed) next += step;
    if (next > before) {
      const times = Math.round((next - before) / step);
      drawn.push(new Word(word.map, times * step, word.address, word.share, word.first));
    }
  }
  return drawn;
}
