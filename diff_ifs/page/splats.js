/* First pictures by the graphics card: a splat for each point of a chart under each word. */

const SPLAT = 1.5; // pixels that a cell of the chart has under a word, at most
const SLOWEST = 0.8; // beyond, a coarse chart lacks the ends of spirals
const MOST_WORDS = 4096;
const FRAME = 16; // milliseconds that a picture may take

const VERTEX = `#version 300 es
in vec3 point; // x, y and address
in vec4 linear; // of a word, into pixels
in vec2 shift;
in vec3 letters; // of a word: its address, its share of all, and its first map
uniform vec2 size;
uniform float splat, shades;
uniform bool whole; // whether whole addresses have colours
flat out float shade;
void main() {
  vec2 at = (vec2(dot(linear.xy, point.xy), dot(linear.zw, point.xy)) + shift) / size;
  float address = letters.x + letters.y * point.z;
  shade = whole ? min(shades - 1.0, address * shades) : mod(letters.z, shades);
  gl_Position = vec4(2.0 * at.x - 1.0, 1.0 - 2.0 * at.y, 1.0 - 2.0 * address, 1.0); // last on top
  gl_PointSize = splat;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D palette;
uniform float splat;
flat in float shade;
out vec4 colour;
void main() {
  if (splat > 3.0 && length(gl_PointCoord - 0.5) > 0.5) discard; // round, as a pen
  colour = texelFetch(palette, ivec2(shade, 0), 0);
}`;

class Splats {
  constructor() {
    this.most = 0; // points of a picture
    this.canvas = new OffscreenCanvas(1, 1);
    const gl = this.gl = this.canvas.getContext("webgl2", { antialias: false });
    if (!gl) return;
    const program = gl.createProgram();
    for (const [type, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL); // the address 0 is as far away as what is cleared
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    this.program = program;
    this.points = this._attributes([["point", 3]], 0);
    this.words = this._attributes([["linear", 4], ["shift", 2], ["letters", 3]], 1);
  }

  /** A buffer of numbers that the vertex shader takes, anew for each vertex or for each word. */
  _attributes(fields, divisor) {
    const { gl, program } = this, buffer = gl.createBuffer();
    const stride = 4 * fields.reduce((sum, [, count]) => sum + count, 0);
    let offset = 0;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    for (const [name, count] of fields) {
      const at = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, count, gl.FLOAT, false, stride, offset);
      gl.vertexAttribDivisor(at, divisor);
      offset += 4 * count;
    }
    return buffer;
  }

  /** See how many points it draws in a frame: none, where the processor alone would be faster. */
  async trial() {
    if (this.tried || !this.gl) return;
    const { gl } = this, view = new View(-1, 1, 1 / 256, 512, 512);
    const halves = [-0.5, 0.5].flatMap((x) => [-0.5, 0.5].map((y) => [0.5, 0, x, 0, 0.5, y]));
    const drawn = finish(this.plan(new System(halves), view, { pen: 0 }, Infinity));
    for (let round = 0; round < 2; round++) { // the first prepares what the second finds there
      const began = performance.now(), { id } = latest;
      this.draw(drawn, view, { palette: [[0, 0, 0]] });
      const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
      gl.flush();
      while (gl.getSyncParameter(fence, gl.SYNC_STATUS) === gl.UNSIGNALED) await breath();
      const took = Math.max(1, performance.now() - began);
      if (latest.id !== id) return; // it shared its time
      if (took < FRAME / 2) this.most = drawn.words.length * drawn.count * FRAME / took;
    }
    this.tried = true;
  }

  /** The words and points of a picture, or null where there are too many. */
  *plan(system, view, { pen }, most = this.most) {
    const [left, right, bottom, top] = system.box;
    if (system.maps.some((map) => stretches(map)[0] > SLOWEST)) return null;
    const cell = Math.max(right - left, top - bottom) / 128, radius = pen / view.pixel;
    const size = Math.max(SPLAT, radius / 2) * view.pixel / cell;
    const met = yield* wordsMeeting(system, view, Math.min(1, size), MOST_WORDS, () => []);
    const words = met.flatMap((word) => (word.first < 0 ? word.longer(system) : [word]));
    const chart = yield* new Chart(system.maps, system.box, cell, true).grown();
    const { count } = chart, splat = Math.max(2, 2 * radius + 1);
    const [, large] = this.gl.getParameter(this.gl.ALIASED_POINT_SIZE_RANGE);
    return splat > large || words.length * count > most ? null : { words, chart, count, splat };
  }

  draw({ words, chart, count, splat }, { width, height, ...place }, { palette, colour }) {
    const { gl, program, canvas } = this, view = new View(place.left, place.top, place.pixel);
    const points = new Float32Array(3 * count), parts = new Float32Array(9 * words.length);
    for (let k = 0; k < count; k++) {
      points.set([chart.xs[k], chart.ys[k], chart.addresses[k]], 3 * k);
    }
    words.forEach(({ map, address, share, first }, k) => {
      const [a, b, x, c, d, y] = compose(view.pixels(map), chart.toWorld);
      parts.set([a, b, c, d, x, y, address, share, first], 9 * k);
    });
    for (const [buffer, numbers] of [[this.points, points], [this.words, parts]]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, numbers, gl.STREAM_DRAW);
    }
    const colours = Uint8Array.from(palette.flatMap((shade) => [...shade, 255]));
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, palette.length, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE,
      colours);
    const at = (name) => gl.getUniformLocation(program, name);
    gl.uniform2f(at("size"), width, height);
    gl.uniform1f(at("splat"), splat);
    gl.uniform1f(at("shades"), palette.length);
    gl.uniform1i(at("whole"), colour === "address");
    [canvas.width, canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.drawArraysInstanced(gl.POINTS, 0, count, words.length);
  }

  /** The first picture of a job, or null where it must be drawn otherwise. */
  *picture(system, view, job) {
    if (!this.most || job.kind !== "occupancy" || this.gl.isContextLost()) return null;
    const drawn = yield* this.plan(system, view, job);
    if (!drawn) return null;
    this.draw(drawn, view, job);
    if (this.gl.isContextLost()) return null;
    const { width, height } = view, bitmap = this.canvas.transferToImageBitmap();
    return { bitmap, width, height, ...view.place };
  }
}
