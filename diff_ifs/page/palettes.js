/* Colours. A palette is a row of colours [r, g, b]; those with `list` are taken in turn. */

const INK = { dark: [244, 244, 240], light: [24, 26, 36] };
const PALETTES = {
  Sunset: {
    stops: [[86, 104, 255], [176, 92, 255], [255, 74, 130], [255, 138, 66], [255, 214, 94]],
  },
  Lagoon: {
    stops: [[32, 74, 160], [14, 140, 200], [40, 200, 190], [150, 232, 170], [240, 250, 200]],
  },
  Viridis: {
    stops: [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]],
  },
  Magma: {
    stops: [[59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]],
  },
  Forest: {
    stops: [[24, 82, 60], [56, 128, 68], [130, 168, 70], [212, 196, 110], [250, 236, 190]],
  },
  Ten: {
    list: true,
    stops: [[31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189],
      [140, 86, 75], [227, 119, 194], [127, 127, 127], [188, 189, 34], [23, 190, 207]],
  },
};

/** So many colours, evenly spaced along a palette, or those of a list in turn. */
function coloursOf(name, count) {
  const { stops, list } = PALETTES[name];
  return Array.from({ length: count }, (_, k) => {
    if (list) return stops[k % stops.length];
    const along = count > 1 ? k / (count - 1) * (stops.length - 1) : 0;
    const before = Math.min(Math.floor(along), stops.length - 2), part = along - before;
    return stops[before].map((value, channel) => (
      Math.round(value + part * (stops[before + 1][channel] - value))));
  });
}
