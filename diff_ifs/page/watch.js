/* The way of a fit, from its first maps to its last, as a film that one can stop anywhere. */

class Watch {
  constructor(state, painter) {
    Object.assign(this, { state, painter, playing: null, ious: [] });
    const { way } = state, step = find("step");
    if (!way) return;
    step.max = way.steps.length - 1;
    step.value = step.max;
    step.addEventListener("input", () => {
      this.stop();
      this.show(Number(step.value));
    });
    find("play").addEventListener("click", () => this.toggle());
    find("curve").addEventListener("click", (event) => {
      const { left, width } = find("curve").getBoundingClientRect();
      this.show(Math.round((event.clientX - left) / width * step.max));
    });
    painter.addEventListener("message", ({ data }) => {
      if (data.measured === undefined) return;
      this.ious[data.measured] = data.iou;
      this.drawCurve();
    });
  }

  get systems() {
    const { maps, strokes } = this.state.way;
    return maps.map((of, k) => ({ maps: of, stroke: strokes[k] }));
  }

  /** Show the maps of one step. */
  show(k) {
    this.at = k;
    find("step").value = k;
    this.state.showStep(this.systems[k]);
    this.drawCurve();
  }

  /** When its tab is opened: the first time, the IoU of each step is measured. */
  open() {
    if (this.state.target && !this.measuring) this.painter.postMessage({ measure: this.systems });
    this.measuring = true;
    this.show(this.at ?? this.state.way.steps.length - 1);
  }

  toggle() {
    if (this.playing) {
      this.stop();
      return;
    }
    const last = this.state.way.steps.length - 1;
    if (this.at >= last) this.at = -1;
    find("play").textContent = "❚❚";
    this.playing = setInterval(() => {
      if (this.at >= last) this.stop();
      else this.show(this.at + 1);
    }, 110);
  }

  stop() {
    clearInterval(this.playing);
    this.playing = null;
    find("play").textContent = "▶";
  }

  drawCurve() {
    const { steps } = this.state.way, last = steps.length - 1, curve = find("curve");
    const across = (k) => 300 * k / Math.max(1, last);
    const points = this.ious.map((iou, k) => `${across(k)},${105 - 100 * iou}`);
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("points", points.filter(Boolean).join(" "));
    const here = document.createElementNS(SVG, "line");
    const x = across(this.at);
    for (const [key, value] of Object.entries({ x1: x, x2: x, y1: 0, y2: 110 })) {
      here.setAttribute(key, value);
    }
    curve.replaceChildren(here, line);
    const iou = this.ious[this.at];
    find("step-shown").textContent = `step ${steps[this.at]}`
      + (iou === undefined ? "" : `, IoU ${iou.toFixed(4)}`);
  }
}
