/* The frames: each map as the image of the window, with handles to pull it by. */

const SVG = "http://www.w3.org/2000/svg";
const REACH = 16; // radius in pixels within which a handle is hit

class Frames {
  constructor(state, stage) {
    Object.assign(this, { state, stage, svg: find("frames"), frames: [], handles: null });
    stage.listeners.push(() => this.place());
  }

  /** The corners, middle and handles of a map's frame, in the world. */
  shape(map) {
    const [xmin, xmax, ymin, ymax] = this.state.window;
    const x = (xmin + xmax) / 2, y = (ymin + ymax) / 2, half = (xmax - xmin) / 2;
    const at = (u, v) => apply(map, x + u * half, y + v * half);
    return { half, middle: at(0, 0), corners: [at(-1, -1), at(1, -1), at(1, 1), at(-1, 1)],
      right: at(1, 0), top: at(0, 1) };
  }

  /** Make the elements anew: after maps came, went or were chosen. */
  build() {
    const { state, svg } = this, shown = state.tab === "draw";
    svg.replaceChildren();
    this.frames = [];
    this.handles = null;
    if (!shown) return;
    const order = state.maps.map((_, k) => k) // the chosen one on top
      .sort((j, k) => (j === state.chosen) - (k === state.chosen));
    for (const k of order) {
      const frame = this._element("polygon", k === state.chosen ? "frame chosen" : "frame");
      frame.dataset.map = k;
      frame.addEventListener("pointerdown", (event) => this._pull(event, k, "move"));
      const label = this._element("text", "");
      label.textContent = k + 1;
      this.frames.push({ k, frame, label });
    }
    if (state.chosen !== null) {
      this.handles = { stem: this._element("line", "stem") };
      for (const name of ["corner0", "corner1", "corner2", "corner3", "right", "top", "knob"]) {
        const kind = name.replace(/\d/, "");
        const halo = this._element("circle", "halo");
        const dot = this._element(kind === "corner" ? "rect" : "circle",
          kind === "knob" || kind === "corner" ? "handle" : "handle side");
        halo.setAttribute("r", REACH);
        dot.dataset.handle = halo.dataset.handle = name;
        for (const part of [halo, dot]) {
          part.addEventListener("pointerdown", (event) => this._pull(event, state.chosen, kind));
        }
        this.handles[name] = { halo, dot };
      }
    }
    this.place();
  }

  _element(tag, name) {
    const element = document.createElementNS(SVG, tag);
    if (name) element.setAttribute("class", name);
    this.svg.append(element);
    return element;
  }

  /** Move the elements to where the maps are. */
  place() {
    const { stage, state } = this, spot = (at) => stage.toStage(...at);
    if (!stage.width) return; // it is not there yet, and will call again
    for (const { k, frame, label } of this.frames) {
      const shape = this.shape(state.maps[k]);
      frame.setAttribute("points", shape.corners.map(spot).map((at) => at.join(",")).join(" "));
      const [x, y] = spot(shape.middle);
      label.setAttribute("x", x);
      label.setAttribute("y", y);
    }
    if (!this.handles) return;
    const shape = this.shape(state.maps[state.chosen]);
    const put = (name, [x, y]) => {
      const { halo, dot } = this.handles[name], square = dot.tagName === "rect";
      for (const part of [halo, dot]) {
        part.setAttribute(part.tagName === "rect" ? "x" : "cx", square && part === dot ? x - 5 : x);
        part.setAttribute(part.tagName === "rect" ? "y" : "cy", square && part === dot ? y - 5 : y);
      }
      if (square) {
        dot.setAttribute("width", 10);
        dot.setAttribute("height", 10);
      } else {
        dot.setAttribute("r", 6);
      }
    };
    shape.corners.forEach((corner, k) => put(`corner${k}`, spot(corner)));
    put("right", spot(shape.right));
    put("top", spot(shape.top));
    const middle = spot(shape.middle), top = spot(shape.top);
    const length = Math.hypot(top[0] - middle[0], top[1] - middle[1]);
    const away = length > 1 ? [0, 1].map((k) => (top[k] - middle[k]) / length) : [0, -1];
    const knob = [top[0] + 30 * away[0], top[1] + 30 * away[1]];
    put("knob", knob);
    const { stem } = this.handles;
    [["x1", top[0]], ["y1", top[1]], ["x2", knob[0]], ["y2", knob[1]]].forEach(([name, value]) => (
      stem.setAttribute(name, value)));
  }

  /** Begin to pull a map by a handle. */
  _pull(event, k, kind) {
    event.stopPropagation();
    event.preventDefault();
    const { state, stage } = this;
    if (state.chosen !== k) {
      state.choose(k);
      return;
    }
    const element = event.currentTarget, before = state.maps[k];
    const start = stage.toWorld(event.clientX, event.clientY), shape = this.shape(before);
    element.setPointerCapture(event.pointerId);
    const move = (moved) => {
      const now = stage.toWorld(moved.clientX, moved.clientY);
      state.change(k, shrinking(before, pulled(before, kind, shape, start, now, moved.shiftKey),
        state.say));
    };
    const end = () => {
      element.removeEventListener("pointermove", move);
      element.removeEventListener("pointerup", end);
      element.removeEventListener("pointercancel", end);
      state.commit();
    };
    element.addEventListener("pointermove", move);
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
  }
}

/** The map with another linear part that leaves a point's image where it was. */
function about(map, [a, b, c, d], middle) {
  const back = inverse(map), p = back && apply(back, ...middle); // the point
  if (!p) return [a, b, map[2], c, d, map[5]];
  return [a, b, middle[0] - a * p[0] - b * p[1], c, d, middle[1] - c * p[0] - d * p[1]];
}

/** A map after a handle was pulled from `start` to `now`. */
function pulled(map, kind, { middle, half }, start, now, straight) {
  const [a, b, x, c, d, y] = map;
  if (kind === "move") {
    return [a, b, x + now[0] - start[0], c, d, y + now[1] - start[1]];
  }
  const from = [start[0] - middle[0], start[1] - middle[1]];
  const to = [now[0] - middle[0], now[1] - middle[1]];
  if (kind === "corner") {
    const part = Math.max(0.01, Math.hypot(...to) / Math.max(Math.hypot(...from), 1e-12));
    return about(map, [a * part, b * part, c * part, d * part], middle);
  }
  if (kind === "knob") {
    const turn = Math.atan2(to[1], to[0]) - Math.atan2(from[1], from[0]);
    return about(map, turned(map, turn), middle);
  }
  const column = kind === "right" ? [a, c] : [b, d], length = Math.hypot(...column);
  let next = [column[0] + (to[0] - from[0]) / half, column[1] + (to[1] - from[1]) / half];
  if (straight && length > 0) {
    const along = Math.max(0.01, (next[0] * column[0] + next[1] * column[1]) / length ** 2);
    next = [column[0] * along, column[1] * along];
  }
  return about(map, kind === "right" ? [next[0], b, next[1], d] : [a, next[0], c, next[1]], middle);
}

/** The linear part of a map, turned counter-clockwise by an angle. */
function turned([a, b, , c, d], angle) {
  const cos = Math.cos(angle), sin = Math.sin(angle);
  return [cos * a - sin * c, cos * b - sin * d, sin * a + cos * c, sin * b + cos * d];
}

/** The last map on the way from one to another that still shrinks the world enough. */
function shrinking(before, after, say) {
  let next = after;
  if (stretches(after)[0] > LARGEST) {
    say(`A map must shrink the world: it stops at ${LARGEST}.`);
    let low = 0, high = 1;
    const between = (part) => before.map((value, k) => value + part * (after[k] - value));
    for (let look = 0; look < 40; look++) {
      const middle = (low + high) / 2;
      if (stretches(between(middle))[0] > LARGEST) high = middle;
      else low = middle;
    }
    next = between(low);
  }
  const far = [2, 5].some((k) => Math.abs(next[k]) > 100);
  if (far) say("That is too far away.");
  return far ? before : next;
}
