// Style of a run in every plot: color for the mixer, shape for the scale, fill or dash for the start. Runs
// with the same three are numbered; the number selects shade, dash and pattern and is shown in the mark.

const SHAPES = ['circle', 'square', 'diamond', 'triangle-up'];
const OTHER_SHAPE = 'pentagon';
// In pixels, for lines of width 2; lines of runs from scratch are dotted.
const DASHES = {
  full: ['solid', '10px,4px', '10px,3px,2px,3px', '20px,5px'],
  faint: ['2px,3px', '2px,8px', '2px,3px,2px,9px', '2px,3px,2px,3px,2px,9px'],
};
const PATTERNS = { full: ['', '|', '.', '+'], faint: ['/', '\\', 'x', '-'] };
// Share of the background mixed into a color once dashes and patterns are used up.
const SHADES = [0, 0.3, 0.5];
const numbers = new Map();

// Number runs of the same style in the given order, from 0.
function numberRuns(runs) {
  const taken = new Map();
  numbers.clear();
  for (const run of runs) {
    const look = [run.group, mixerColor(run.mixer), shapeOf(run.scale), startOf(run)].join('\n');
    numbers.set(run.key, taken.get(look) ?? 0);
    taken.set(look, numbers.get(run.key) + 1);
  }
}

function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function mixerColor(mixer) {
  return DATA.colors[mixer] ?? themeColor('--baseline');
}

function shapeOf(scale) {
  const index = DATA.scales.indexOf(scale);
  return SHAPES[index] ?? OTHER_SHAPE;
}

function startOf(run) {
  return run.start === 'scratch' ? 'faint' : 'full';
}

function dashOf(run) {
  return DASHES[startOf(run)][numbers.get(run.key) % 4];
}

function colorOf(run) {
  const shade = SHADES[Math.floor(numbers.get(run.key) / 4) % SHADES.length];
  const [color, ground] = [mixerColor(run.mixer), themeColor('--paper')].map(parts);
  return `#${color.map((part, i) => hex(part + shade * (ground[i] - part))).join('')}`;
}

// Number printed in the mark of a run: 2 for the second of its style; empty for the first.
function numberText(run) {
  const number = numbers.get(run.key);
  return number ? String(number + 1) : '';
}

function parts(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
}

function hex(part) {
  return Math.round(part).toString(16).padStart(2, '0');
}

function withOpacity(color, opacity) {
  return `rgba(${parts(color).join()},${opacity})`;
}

// Color of text on a mark.
function inkOn(run) {
  if (startOf(run) === 'faint') return themeColor('--ink');
  const [red, green, blue] = parts(colorOf(run));
  return 0.3 * red + 0.6 * green + 0.1 * blue > 120 ? '#000000' : '#ffffff';
}

// Scratch is faint, other starts are full; the outline shows the mixer in both cases.
function markerOf(run) {
  const color = colorOf(run);
  return {
    color: startOf(run) === 'faint' ? withOpacity(color, 0.3) : color,
    symbol: shapeOf(run.scale),
    size: 11,
    line: { color: mixerColor(run.mixer), width: 1.8 },
  };
}

function barOf(run) {
  const color = colorOf(run);
  const [bgcolor, fgcolor] =
    startOf(run) === 'faint' ? [withOpacity(color, 0.25), color] : [color, themeColor('--paper')];
  const shape = PATTERNS[startOf(run)][numbers.get(run.key) % 4];
  return {
    color,
    line: { color: mixerColor(run.mixer), width: 1 },
    pattern: { shape, size: 6, solidity: 0.35, fgcolor, bgcolor },
  };
}

// Escape text for Plotly, which interprets some markup in labels.
function label(text) {
  return String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

// Shorten a long name for a legend or an axis.
function shortLabel(text, most = 38) {
  const whole = String(text);
  return label(whole.length > most ? `${whole.slice(0, most - 1)}…` : whole);
}
