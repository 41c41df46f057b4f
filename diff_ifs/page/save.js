/* What can be taken along: a setup for train_ifs.py, JSON, SVG, PNG and a link. */

/** A name that is safe for a file and in a comment. */
const plainName = (name) => name.replace(/[^\p{L}\p{N}_ -]/gu, "").trim().slice(0, 60) || "drawn";

/** A number with six digits or so, as Python and JSON read it. */
function short(value) {
  const rounded = Number(value.toPrecision(6));
  return String(Math.abs(rounded) < 1e-9 ? 0 : rounded);
}

/** The same system in the window [-1, 1] × [-1, 1], which setups have. */
function inUsualWindow({ maps, stroke, window: [xmin, xmax, ymin, ymax] }) {
  const half = (xmax - xmin) / 2, x = (xmin + xmax) / 2, y = (ymin + ymax) / 2;
  const out = [half, 0, x, 0, half, y], back = [1 / half, 0, -x / half, 0, 1 / half, -y / half];
  return { maps: maps.map((map) => compose(back, compose(map, out))), stroke: stroke / half };
}

/** A map as a call in Python: similarity(…) where it is one, else affine(…). */
function call(map) {
  const [a, b, x, c, d, y] = map, scale = Math.hypot(a, c);
  const near = (one, other) => Math.abs(one - other) <= 1e-6 * scale;
  const mirror = near(a, -d) && near(b, c) && scale > 0;
  if (!mirror && !(near(a, d) && near(b, -c) && scale > 0)) {
    return `affine(${[a, b, c, d].map(short).join(", ")}, x=${short(x)}, y=${short(y)})`;
  }
  const degrees = short(Math.atan2(c, a) * 180 / Math.PI);
  return `similarity(${short(scale)}${degrees === "0" ? "" : `, degrees=${degrees}`}`
    + `, at=(${short(x)}, ${short(y)})${mirror ? ", mirror=True" : ""})`;
}

/** The text of a NAME_setup.py. */
function setupText(state) {
  const { maps, stroke } = inUsualWindow(state), calls = maps.map(call);
  const used = ["affine", "similarity"]
    .filter((word) => calls.some((text) => text.startsWith(word)));
  return `"""Maps of ${plainName(state.name)}, drawn by hand."""

from diff_ifs import ${["Setup", ...used].join(", ")}

SETUP = Setup(
    maps=[
${calls.map((text) => `        ${text},`).join("\n")}
    ],
    stroke=${short(stroke)},
)
`;
}

/** The text of a .json file, as compress_ifs.py --export json writes it. */
function jsonText({ name, maps, weights, window, stroke, size }) {
  const lines = maps.map(([a, b, x, c, d, y]) => JSON.stringify([[a, b, x], [c, d, y]]));
  const fields = { format: "diff_ifs", version: 1, name: plainName(name), n: maps.length,
    weights: weights ?? areaWeights(maps), window, stroke, size };
  const rest = Object.entries(fields).map(([key, value]) => `  "${key}": ${JSON.stringify(value)}`);
  return `{\n${rest.join(",\n")},\n  "maps": [\n    ${lines.join(",\n    ")}\n  ]\n}\n`;
}

/**
 * The text of a .svg file. Without a pen, each level is made of copies of the level before, down to
 * the window's square; with one, the pen follows the images of the longest diameter.
 */
function svgText({ name, maps, window, stroke, look, theme, diameter }) {
  const [xmin, xmax, ymin, ymax] = window, side = xmax - xmin, n = maps.length;
  const number = (value) => String(Number(value.toPrecision(7)));
  const depthFor = (most) => {
    let depth = 1;
    while (n > 1 && depth < 14 && n ** (depth + 1) <= most) depth++;
    return depth;
  };
  const colours = look.colour === "map" && PALETTES[look.palette]
    ? coloursOf(look.palette, n) : maps.map(() => INK[theme]);
  const uses = (level, paint) => maps.map(([a, b, x, c, d, y], k) => (
    `<use href="#level${level}" transform="matrix(${[a, c, b, d, x, y].map(number).join(" ")})"`
    + `${paint ? ` fill="rgb(${colours[k].join(" ")})"` : ""}/>`)).join("\n");
  const lines = (map, depth) => (depth === 0
    ? diameter.map((end, k) => `${"ML"[k]}${apply(map, ...end).map(number).join(" ")}`).join("")
    : maps.map((next) => lines(compose(map, next), depth - 1)).join(""));
  let defs = "", drawing = "";
  if (stroke > 0) {
    const depth = depthFor(8000) - 1;
    drawing = maps.map((map, k) => (
      `<path stroke="rgb(${colours[k].join(" ")})" d="${lines(map, depth)}"/>`)).join("\n");
    drawing = `<g fill="none" stroke-width="${number(2 * stroke)}" stroke-linecap="round">
${drawing}
</g>`;
  } else {
    const depth = depthFor(30000);
    defs = `<rect id="level0" x="${xmin}" y="${ymin}" width="${side}" height="${side}"/>`;
    for (let level = 1; level < depth; level++) {
      defs += `\n<g id="level${level}">\n${uses(level - 1, false)}\n</g>`;
    }
    drawing = uses(depth - 1, true);
  }
  const ground = theme === "light" ? "rgb(250 249 245)" : "rgb(10 12 20)";
  return `<svg xmlns="http://www.w3.org/2000/svg" width="1024" height="1024"
  viewBox="${xmin} ${number(-ymax)} ${side} ${side}">
<title>${plainName(name)}</title>
<defs>
${defs}
</defs>
<rect x="${xmin}" y="${number(-ymax)}" width="${side}" height="${side}" fill="${ground}"/>
<g transform="scale(1 -1)">
${drawing}
</g>
</svg>
`;
}

/** Let the browser save something as a file. */
function download(filename, content, type) {
  const anchor = document.createElement("a");
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  anchor.href = URL.createObjectURL(blob);
  anchor.download = filename;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
}
