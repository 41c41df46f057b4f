/* The stage: what part of the world is seen, and the pictures of it that the painter sends. */

const CLOSEST = 2e9; // times nearer than the whole picture
const find = (id) => document.getElementById(id);

class Stage {
  constructor(state, painter) {
    Object.assign(this, { state, painter, asked: 0, waiting: false, wanted: false });
    this.quick = 3; // pixels a side that the first picture of a job takes for one
    this.atHome = true;
    this.element = find("stage");
    this.canvas = find("picture");
    this.pen = this.canvas.getContext("2d");
    this.layer = document.createElement("canvas"); // the last picture, and where it lies
    this.layerView = null;
    this.under = null; // the target, in one colour
    this.listeners = [];
    this.pointers = new Map();
    painter.addEventListener("message", ({ data }) => data.id && this._receive(data));
    new ResizeObserver(() => this.resize()).observe(this.element);
    new ResizeObserver(() => this.centre && this.atHome && this.goHome()).observe(find("panel"));
    this._listen();
  }

  /** Fit the canvas to the screen's own pixels. */
  resize() {
    const { clientWidth, clientHeight } = this.element;
    this.ratio = Math.min(window.devicePixelRatio || 1, 3);
    this.width = this.canvas.width = Math.max(1, Math.round(clientWidth * this.ratio));
    this.height = this.canvas.height = Math.max(1, Math.round(clientHeight * this.ratio));
    if (this.atHome) this.goHome();
    else this.moved();
  }

  /** The part of the stage, in its pixels, that no panel hides: left, top, width, height. */
  get free() {
    const panel = find("panel").getBoundingClientRect(), gap = 16;
    const { clientWidth: width, clientHeight: height } = this.element;
    const narrow = panel.width > width * 0.6, top = narrow ? 56 : gap;
    const folded = find("panel").classList.contains("folded");
    const right = narrow || folded ? width - gap : panel.left - gap;
    const bottom = narrow ? panel.top - gap : height - gap;
    const r = this.ratio;
    return [gap * r, top * r, Math.max(50, right - gap) * r, Math.max(50, bottom - top) * r];
  }

  /** Pixels of one unit of the world when the whole picture is seen. */
  get homeScale() {
    const [xmin, xmax] = this.state.window, [, , width, height] = this.free;
    return Math.min(width, height) / (xmax - xmin);
  }

  get zoom() {
    return this.scale / this.homeScale;
  }

  /** Show the whole picture, in the free part of the stage. */
  goHome() {
    const [xmin, xmax, ymin, ymax] = this.state.window, [left, top, width, height] = this.free;
    this.atHome = true;
    this.scale = this.homeScale;
    this.centre = [
      (xmin + xmax) / 2 - (left + width / 2 - this.width / 2) / this.scale,
      (ymin + ymax) / 2 + (top + height / 2 - this.height / 2) / this.scale,
    ];
    this.moved();
  }

  /** The point of the world under a point of the stage, in CSS pixels, and the other way. */
  toWorld(x, y) {
    return [this.centre[0] + (x * this.ratio - this.width / 2) / this.scale,
      this.centre[1] - (y * this.ratio - this.height / 2) / this.scale];
  }

  toStage(x, y) {
    return [((x - this.centre[0]) * this.scale + this.width / 2) / this.ratio,
      ((this.centre[1] - y) * this.scale + this.height / 2) / this.ratio];
  }

  /** Zoom by a factor, so that what is under a point of the stage stays there. */
  zoomAt(factor, x = this._middle[0], y = this._middle[1]) {
    const [u, v] = this.toWorld(x, y), home = this.homeScale;
    this.atHome = false;
    this.scale = Math.min(Math.max(this.scale * factor, home / 20), home * CLOSEST);
    const [s, t] = this.toWorld(x, y);
    this.centre = [this.centre[0] + u - s, this.centre[1] + v - t].map((value) => (
      Math.min(Math.max(value, -1e4), 1e4)));
    this.moved();
  }

  get _middle() {
    const [left, top, width, height] = this.free;
    return [(left + width / 2) / this.ratio, (top + height / 2) / this.ratio];
  }

  panBy(x, y) {
    this.atHome = false;
    this.centre = [this.centre[0] - x * this.ratio / this.scale,
      this.centre[1] + y * this.ratio / this.scale];
    this.moved();
  }

  /** After the view has changed: show what there is, and ask for more. */
  moved() {
    this.compose();
    this.listeners.forEach((listener) => listener());
    this.ask();
  }

  get view() {
    const pixel = 1 / this.scale;
    return [this.centre[0] - this.width / 2 * pixel, this.centre[1] + this.height / 2 * pixel,
      pixel, this.width, this.height];
  }

  /** Ask for a picture of what is there now, as soon as the painter has shown the last one. */
  ask() {
    this.wanted = true;
    if (this.waiting || this.planned || !this.width) return;
    this.planned = true;
    requestAnimationFrame(() => {
      this.planned = false;
      this.wanted = false;
      this.waiting = true;
      this.askedAt = performance.now();
      document.body.dataset.drawn = "";
      this.painter.postMessage({ ...this.job(), id: ++this.asked, quick: this.quick });
    });
  }

  /** What the painter is to draw. */
  job() {
    const { maps, weights, stroke, version, window: home, look, theme } = this.state;
    const plain = look.palette === "Ink" || look.colour === "none";
    const ink = INK[theme], count = look.colour === "map" ? maps.length : 256;
    const tones = look.kind === "density" && look.palette !== "Ink" && look.colour === "none";
    return {
      ...look, maps, weights, version, stroke, window: home, ink, view: this.view,
      pen: stroke * Math.min(1, this.homeScale / this.scale),
      colour: plain ? "none" : look.colour,
      palette: plain ? [ink] : coloursOf(look.palette, count),
      tones: tones ? coloursOf(look.palette, 256) : null,
    };
  }

  _receive(data) {
    if (data.id !== this.asked) return;
    if (data.iou !== undefined) {
      this.state.heard(data.iou, data.rough);
      return;
    }
    const { pixels, bitmap, width, height } = data;
    if (data.id !== this._shown) { // the first picture of a job
      const took = performance.now() - this.askedAt;
      document.body.dataset.milliseconds = took.toFixed(1);
      const { quick } = this, finer = took * (quick / (quick - 1)) ** 2; // how long that would take
      if (pixels) this.quick = took > 45 ? Math.min(quick + 1, 8) : finer < 40 ? quick - 1 : quick;
    }
    this._shown = data.id;
    this.layer.width = width;
    this.layer.height = height;
    const layer = this.layer.getContext("2d");
    if (bitmap) layer.drawImage(bitmap, 0, 0);
    else layer.putImageData(new ImageData(pixels, width, height), 0, 0);
    bitmap?.close();
    this.layerView = [data.left, data.top, data.pixel];
    this.compose();
    this.waiting = false;
    document.body.dataset.drawn = data.last ? "last" : "first";
    if (data.last) document.body.dataset.refined = (performance.now() - this.askedAt).toFixed(1);
    if (data.level !== undefined) this.state.levelShown(data.level);
    if (this.wanted) this.ask();
  }

  /** Put the ground, the target and the last picture together. */
  compose() {
    const { pen, state } = this;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const place = (left, top, pixel) => pen.setTransform(
      pixel * this.scale, 0, 0, pixel * this.scale,
      (left - this.centre[0]) * this.scale + this.width / 2,
      (this.centre[1] - top) * this.scale + this.height / 2);
    const { under } = state.look;
    if (this.under && under > 0 && state.look.kind !== "difference") {
      const { canvas, window: [xmin, xmax, , ymax] } = this.under;
      pen.globalAlpha = under;
      place(xmin, ymax, (xmax - xmin) / canvas.width);
      pen.drawImage(canvas, 0, 0);
      pen.globalAlpha = 1;
    }
    if (this.layerView) {
      place(...this.layerView);
      pen.drawImage(this.layer, 0, 0);
    }
  }

  /** Save a square picture of what is seen, of any size, drawn by a painter of its own. */
  save(side, filename) {
    const [left, top, width, height] = this.free, seen = Math.min(width, height);
    const corner = this.toWorld((left + (width - seen) / 2) / this.ratio,
      (top + (height - seen) / 2) / this.ratio);
    const painter = startPainter(), { state } = this;
    if (state.target) painter.postMessage({ target: state.target });
    painter.onmessage = ({ data }) => {
      if (!data.last) return;
      const canvas = document.createElement("canvas"), layer = document.createElement("canvas");
      canvas.width = canvas.height = layer.width = layer.height = side;
      layer.getContext("2d").putImageData(new ImageData(data.pixels, side, side), 0, 0);
      const pen = canvas.getContext("2d");
      pen.fillStyle = getComputedStyle(document.body).backgroundColor;
      pen.fillRect(0, 0, side, side);
      pen.drawImage(layer, 0, 0);
      canvas.toBlob((blob) => {
        if (blob) download(filename, blob);
        else state.say("This browser cannot make so large a picture.");
      });
      painter.terminate();
    };
    state.say(`Drawing ${side} × ${side} pixels …`);
    const view = [...corner, seen / this.scale / side, side, side];
    painter.postMessage({ ...this.job(), view, id: 1, quick: 1 });
  }

  /** Mouse, pen, touch and wheel. */
  _listen() {
    const { element, pointers } = this;
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 24 : 1;
      this.zoomAt(Math.exp(-event.deltaY * lines * 0.0018), event.clientX, event.clientY);
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => {
      element.focus({ preventScroll: true });
      element.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    element.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY];
      if (pointers.size === 1) {
        this.panBy(now[0] - before[0], now[1] - before[1]);
      } else if (pointers.size === 2) {
        const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
        const apart = (at) => Math.max(10, Math.hypot(at[0] - other[0], at[1] - other[1]));
        this.zoomAt(apart(now) / apart(before), (before[0] + other[0]) / 2,
          (before[1] + other[1]) / 2);
        this.panBy((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      }
      pointers.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, (event) => pointers.delete(event.pointerId));
    }
    element.addEventListener("dblclick", (event) => this.zoomAt(2, event.clientX, event.clientY));
  }
}
