/* The panel: what is set by buttons, sliders, numbers and keys. */

class Panel {
  constructor(state, stage, watch) {
    Object.assign(this, { state, stage, watch });
    this._look();
    this._draw();
    this._save();
    this._keys();
    for (const tab of document.querySelectorAll("[role=tab]")) {
      tab.addEventListener("click", () => this.open(tab.dataset.tab));
    }
    find("fold").addEventListener("click", () => {
      const folded = find("panel").classList.toggle("folded");
      find("fold").setAttribute("aria-expanded", !folded);
      find("fold").textContent = folded ? "▴" : "▾";
    });
    find("closer").addEventListener("click", () => stage.zoomAt(2));
    find("further").addEventListener("click", () => stage.zoomAt(0.5));
    find("home").addEventListener("click", () => stage.goHome());
    stage.listeners.push(() => {
      const { zoom } = stage;
      find("factor").textContent = zoom < 1e4 ? `${Number(zoom.toPrecision(3))}×`
        : `${zoom.toExponential(1).replace("e+", "·10^")}×`;
    });
  }

  /** Open a tab. */
  open(name) {
    const { state } = this;
    if (name === "watch" && !state.way) return;
    if (state.tab === "watch" && name !== "watch") {
      this.watch.stop();
      state.leaveWatch();
    }
    state.tab = name;
    find("panel").classList.remove("folded");
    for (const tab of document.querySelectorAll("[role=tab]")) {
      tab.setAttribute("aria-selected", tab.dataset.tab === name);
      find(tab.dataset.tab).hidden = tab.dataset.tab !== name;
    }
    if (name === "watch") this.watch.open();
    state.show();
  }

  _look() {
    const { state, stage } = this, { look } = state, menu = find("palette");
    for (const name of ["Ink", ...Object.keys(PALETTES)]) {
      menu.append(new Option(name, name));
    }
    for (const id of ["kind", "colour"]) {
      for (const button of find(id).children) {
        button.setAttribute("role", "radio");
        button.addEventListener("click", () => this.set(id, button.value));
      }
    }
    for (const id of ["palette", "figure"]) {
      find(id).addEventListener("change", () => this.set(id, find(id).value));
    }
    for (const id of ["gamma", "level", "under"]) {
      find(id).addEventListener("input", () => this.set(id, Number(find(id).value)));
    }
    const pen = find("pen");
    pen.addEventListener("input", () => {
      const side = state.window[1] - state.window[0];
      state.stroke = side * 0.1 * Number(pen.value) ** 2;
      state.refresh();
    });
    pen.addEventListener("change", () => state.commit());
    find("light").addEventListener("change", () => {
      state.theme = find("light").checked ? "light" : "dark";
      document.documentElement.dataset.theme = state.theme;
      stage.moved();
    });
    for (const id of ["palette", "figure", "gamma", "level", "under"]) find(id).value = look[id];
    find("light").checked = state.theme === "light";
  }

  set(field, value) {
    const { look } = this.state;
    look[field] = value;
    if (field === "under") this.stage.compose();
    else this.state.refresh();
    this.show();
  }

  /** Let the controls say how things are. */
  show() {
    const { state } = this, { look, maps, chosen } = state, { kind } = look;
    for (const id of ["kind", "colour"]) {
      for (const button of find(id).children) {
        button.setAttribute("aria-checked", button.value === look[id]);
      }
    }
    const hide = (selector, hidden) => document.querySelectorAll(selector).forEach((element) => {
      element.hidden = hidden;
    });
    hide(".needs-target", !state.target);
    hide(".for-density", kind !== "density");
    hide(".for-levels", kind !== "levels");
    hide(".for-pen", kind === "density");
    hide("#colour", kind === "difference");
    hide(".for-colour", kind === "difference" || (look.colour === "none" && kind !== "density"));
    hide('[data-tab="watch"]', !state.way);
    find("level-shown").textContent = look.level;
    const side = state.window[1] - state.window[0];
    if (document.activeElement !== find("pen")) {
      find("pen").value = Math.sqrt(Math.min(1, state.stroke / side / 0.1));
    }
    find("pen-shown").textContent = short(Number(state.stroke.toPrecision(3)));
    find("facts").textContent = `${maps.length} map${maps.length === 1 ? "" : "s"}`
      + (state.iou === null ? "" : ` · IoU ${state.iou}`);
    find("iou").textContent = state.iou === null ? "" : `IoU ${state.iou}`;
    find("undo").disabled = !state.history.canUndo;
    find("redo").disabled = !state.history.canRedo;
    for (const id of ["duplicate", "mirror", "delete"]) find(id).disabled = chosen === null;
    find("delete").disabled ||= maps.length === 1;
    this._showMaps();
    this._showNumbers();
  }

  _showMaps() {
    const { maps, chosen } = this.state, list = find("maps");
    while (list.children.length > maps.length) list.lastChild.remove();
    while (list.children.length < maps.length) {
      const button = document.createElement("button"), k = list.children.length;
      button.textContent = k + 1;
      button.setAttribute("role", "option");
      button.addEventListener("click", () => this.state.choose(k));
      list.append(button);
    }
    [...list.children].forEach((button, k) => button.setAttribute("aria-selected", k === chosen));
  }

  _showNumbers() {
    const { maps, chosen } = this.state, form = find("numbers");
    for (const input of form.elements) {
      input.disabled = chosen === null;
      if (document.activeElement === input && input.dataset.typed) continue;
      if (chosen === null) {
        input.value = "";
        continue;
      }
      const map = maps[chosen], [a, b, , c, d] = map;
      const value = input.name === "scale" ? Math.sqrt(Math.abs(a * d - b * c))
        : input.name === "degrees" ? angleOf(map) * 180 / Math.PI : map[Number(input.name)];
      input.value = Number(value.toFixed(5));
    }
  }

  _draw() {
    const { state } = this, form = find("numbers");
    find("undo").addEventListener("click", () => state.undo());
    find("redo").addEventListener("click", () => state.redo());
    find("add").addEventListener("click", () => state.add());
    find("duplicate").addEventListener("click", () => state.duplicate());
    find("mirror").addEventListener("click", () => state.mirror());
    find("delete").addEventListener("click", () => state.remove());
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", ({ target }) => {
      target.dataset.typed = "yes";
    });
    form.addEventListener("change", ({ target }) => {
      delete target.dataset.typed;
      this._typed(target);
      this.show();
    });
  }

  /** Take a number that was typed, if a map can have it. */
  _typed({ name, value: text }) {
    const { state } = this, map = state.maps[state.chosen], [a, b, , c, d] = map;
    const value = text.trim() === "" ? NaN : Number(text.replace(",", "."));
    const middle = state.frames.shape(map).middle;
    let next = null;
    if (name === "degrees") {
      next = about(map, turned(map, value * Math.PI / 180 - angleOf(map)), middle);
    } else if (name === "scale") {
      const part = value / Math.sqrt(Math.abs(a * d - b * c));
      next = about(map, [a * part, b * part, c * part, d * part], middle);
    } else {
      next = map.map((old, k) => (k === Number(name) ? value : old));
    }
    if (!next.every(Number.isFinite)) state.say("That is not a number that a map can have.");
    else if (stretches(next)[0] > LARGEST) {
      state.say(`A map must shrink the world to ${LARGEST} or less; this one would not.`);
    } else if (Math.max(Math.abs(next[2]), Math.abs(next[5])) > 100) {
      state.say("That is too far away.");
    } else {
      state.change(state.chosen, next);
      state.commit();
    }
  }

  _save() {
    const { state, stage } = this, name = plainName(state.name);
    find("command").textContent = `python train_ifs.py ${/[^\w-]/.test(name) ? `"${name}"` : name}`;
    find("save-setup").addEventListener("click", () => (
      download(`${name}_setup.py`, setupText(state), "text/x-python")));
    find("save-json").addEventListener("click", () => (
      download(`${name}.json`, jsonText(state), "application/json")));
    find("save-svg").addEventListener("click", () => {
      const diameter = new System(state.maps).diameter();
      download(`${name}.svg`, svgText({ ...state, diameter }), "image/svg+xml");
    });
    find("save-png").addEventListener("click", () => {
      const side = Math.round(Number(find("png-side").value));
      if (!(side >= 16 && side <= 8192)) state.say("The side must be from 16 to 8192 pixels.");
      else stage.save(side, `${name}.png`);
    });
    find("make-link").addEventListener("click", () => {
      try {
        const hash = `#${toText(pack(state))}`;
        history.replaceState(null, "", hash);
        find("link").value = location.href;
        find("link").select();
        navigator.clipboard?.writeText(location.href).then(
          () => state.say("The link is in the clipboard."), () => {});
      } catch (error) {
        state.say(`There is no link: ${error.message}.`);
      }
    });
  }

  _keys() {
    const { state, stage } = this;
    document.addEventListener("keydown", (event) => {
      const { key, ctrlKey, metaKey, shiftKey, target } = event;
      if (target.matches("input:not([type=range]):not([type=checkbox]), select")) return;
      const drawing = state.tab === "draw" && state.chosen !== null;
      const arrows = {
        ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
      };
      const done = () => event.preventDefault();
      if ((ctrlKey || metaKey) && key.toLowerCase() === "z") {
        done();
        if (shiftKey) state.redo();
        else state.undo();
      } else if ((ctrlKey || metaKey) && key.toLowerCase() === "y") {
        done();
        state.redo();
      } else if (ctrlKey || metaKey || event.altKey) {
        return;
      } else if (arrows[key] && !target.matches("input, [role=tab]")) {
        done();
        const [x, y] = arrows[key], step = shiftKey ? 8 : 64;
        if (drawing) state.nudge(-x * (shiftKey ? 0.2 : 2), y * (shiftKey ? 0.2 : 2));
        else stage.panBy(x * step, y * step);
      } else if (key === "+" || key === "=") stage.zoomAt(1.5);
      else if (key === "-" || key === "−") stage.zoomAt(1 / 1.5);
      else if (key === "0") stage.goHome();
      else if (key === " " && state.tab === "watch" && !target.matches("button")) {
        done();
        this.watch.toggle();
      } else if (drawing && (key === "Delete" || key === "Backspace")) state.remove();
      else if (drawing && key === "d") state.duplicate();
      else if (drawing && key === "m") state.mirror();
      else if (key === "Escape") state.choose(null);
    });
  }
}

/** The angle, in radians, by which a map turns: that of the rotation nearest to it. */
function angleOf([a, b, , c, d]) {
  return a * d - b * c < 0 ? Math.atan2(c + b, a - d) : Math.atan2(c - b, a + d);
}
