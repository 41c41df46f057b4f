/* The page: one system, what is done to it, and how it is undone. */

/** States of a system that one can go back to. */
class Past {
  constructor(first) {
    this.states = [first];
    this.at = 0;
  }

  get canUndo() { return this.at > 0; }
  get canRedo() { return this.at < this.states.length - 1; }

  push(state) {
    if (JSON.stringify(state) === JSON.stringify(this.states[this.at])) return;
    this.states.splice(++this.at, Infinity, state);
  }

  go(by) {
    this.at = Math.min(Math.max(this.at + by, 0), this.states.length - 1);
    return this.states[this.at];
  }
}

class Page {
  constructor(data, painter) {
    const { name, maps, weights, window: home, stroke, size, way } = data;
    Object.assign(this, { name, maps, weights, window: home, stroke, size, way, target: null });
    this.iou = null;
    this.tab = "look";
    this.chosen = null;
    this.version = 0;
    this.theme = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
    document.documentElement.dataset.theme = this.theme;
    this.look = { kind: "occupancy", colour: "map", palette: "Sunset", gamma: 1,
      figure: "segment", level: 3, under: 0 };
    this.say = this.say.bind(this);
    this.history = new Past(this._snapshot());
    find("name").textContent = name;
    this.stage = new Stage(this, painter);
    this.frames = new Frames(this, this.stage);
    this.watch = new Watch(this, painter);
    this.panel = new Panel(this, this.stage, this.watch);
    this.painter = painter;
    this.show();
  }

  _snapshot() {
    return { maps: this.maps, weights: this.weights, stroke: this.stroke };
  }

  /** Say something for a few seconds. */
  say(words) {
    const message = find("message");
    message.textContent = words;
    message.classList.add("shown");
    clearTimeout(this.hush);
    this.hush = setTimeout(() => message.classList.remove("shown"), 4500);
  }

  /** Show everything anew, with new elements where maps may have come or gone. */
  show() {
    this.frames.build();
    this.panel.show();
  }

  /** Ask for a picture of what has changed. */
  refresh() {
    this.stage.ask();
    this.show();
  }

  heard(iou, rough) {
    this.iou = iou.toFixed(rough ? 3 : 4);
    this.panel.show();
  }

  levelShown(level) {
    if (level < this.look.level) this.say(`Level ${level} is drawn: the next has too many pieces.`);
  }

  choose(k) {
    this.chosen = k;
    this.show();
  }

  /** Change one map, as one drags. */
  change(k, map) {
    this._set(this.maps.map((old, j) => (j === k ? map : old)), this.weights);
    this.frames.place();
    this.panel.show();
    this.stage.ask();
  }

  /** Take other maps, whose weights are by area if none are given. */
  _set(maps, weights = null) {
    this.maps = maps;
    this.weights = weights;
    this.version++;
  }

  /** Note what is there now, so that one can come back to it. */
  commit() {
    this.history.push(this._snapshot());
    this.panel.show();
  }

  _take({ maps, weights, stroke }) {
    this._set(maps, weights);
    this.stroke = stroke;
    if (this.chosen !== null) this.chosen = Math.min(this.chosen, maps.length - 1);
    this.refresh();
  }

  undo() {
    if (this.tab !== "watch") this._take(this.history.go(-1));
  }

  redo() {
    if (this.tab !== "watch") this._take(this.history.go(1));
  }

  /** Put a new map after the others, and choose it. */
  _append(map) {
    if (this.maps.length >= MAX_MAPS) {
      this.say(`${MAX_MAPS} maps are the most.`);
      return;
    }
    this._set([...this.maps, map]);
    this.chosen = this.maps.length - 1;
    this.refresh();
    this.commit();
  }

  add() {
    const [xmin, xmax, ymin, ymax] = this.window;
    this._append([0.4, 0, 0.3 * (xmin + xmax), 0, 0.4, 0.3 * (ymin + ymax)]);
  }

  duplicate() {
    const [a, b, x, c, d, y] = this.maps[this.chosen];
    const aside = (this.window[1] - this.window[0]) / 20;
    this._append([a, b, x + aside, c, d, y - aside]);
  }

  mirror() {
    const map = this.maps[this.chosen], [a, b, , c, d] = map;
    const { middle } = this.frames.shape(map);
    this.change(this.chosen, about(map, [-a, b, -c, d], middle));
    this.commit();
  }

  remove() {
    if (this.maps.length === 1) return;
    this._set(this.maps.filter((_, k) => k !== this.chosen));
    this.chosen = null;
    this.refresh();
    this.commit();
  }

  /** Move the chosen map by so many pixels. */
  nudge(x, y) {
    const map = [...this.maps[this.chosen]], { scale, ratio } = this.stage;
    map[2] += x * ratio / scale;
    map[5] += y * ratio / scale;
    this.change(this.chosen, map);
    this.commit();
  }

  /** Show another system without taking it over. */
  showStep({ maps, stroke }) {
    this.kept ??= this._snapshot();
    this.chosen = null;
    this._take({ maps, stroke });
  }

  leaveWatch() {
    if (this.kept) this._take(this.kept);
    this.kept = null;
  }

  /** Take over the system of a link. */
  follow(hash) {
    if (hash.length < 2) return;
    try {
      const system = unpack(fromText(hash.slice(1)));
      const fault = faultOf(system);
      if (fault) throw new Error(fault);
      Object.assign(this, { window: system.window, size: system.size, chosen: null });
      this._take(system);
      this.history.push(this._snapshot());
      this.show();
      if (this.stage.centre) this.stage.goHome();
    } catch (error) {
      this.say(`The link cannot be read: ${error.message}. The page shows its own maps.`);
    }
  }
}

/** The target as the painter needs it, and as it lies under the picture. */
async function readTarget(source, window) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const size = image.width, canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  const picture = pen.getImageData(0, 0, size, size), values = new Uint8Array(size * size);
  for (let k = 0; k < values.length; k++) {
    values[k] = picture.data[4 * k];
    picture.data.set([56, 132, 255, values[k]], 4 * k);
  }
  pen.putImageData(picture, 0, 0);
  return { target: { size, window, values }, under: canvas };
}

/** Start a worker, which runs the page's own script. */
function startPainter() {
  const text = find("script").textContent;
  return new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
}

async function start() {
  const data = JSON.parse(find("data").textContent), painter = startPainter();
  const page = new Page(data, painter);
  painter.addEventListener("error", () => page.say("Drawing failed: load the page again."));
  if (data.target) {
    const { target, under } = await readTarget(data.target, data.window);
    painter.postMessage({ target });
    page.target = target;
    page.stage.under = { canvas: under, window: data.window };
  }
  page.follow(location.hash);
  window.addEventListener("hashchange", () => page.follow(location.hash));
  page.refresh();
  if (data.reload) keepCurrent(page);
}

/** Load the page again and again while a fit writes it, until one draws; what is seen is kept. */
function keepCurrent(page) {
  const name = `seen ${location.pathname}`;
  try {
    const seen = JSON.parse(sessionStorage.getItem(name));
    if (seen) {
      Object.assign(page.look, seen.look);
      if (!seen.at.atHome) {
        Object.assign(page.stage, seen.at);
        page.stage.moved();
      }
      page.panel.open(seen.tab);
    }
  } catch {
    // a browser that keeps nothing shows the whole picture again
  }
  setInterval(() => {
    if (document.visibilityState !== "visible" || page.history.canUndo) return;
    const { look, tab, stage: { scale, centre, atHome } } = page;
    try {
      sessionStorage.setItem(name, JSON.stringify({ look, tab, at: { scale, centre, atHome } }));
    } catch {
      // as above
    }
    location.reload();
  }, 3000);
}

if (typeof document === "undefined") listen(); // this is the painter
else start();
