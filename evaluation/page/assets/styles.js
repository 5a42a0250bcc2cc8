// How a run looks in every plot: its mixer is a colour, its scale a shape, its start a fill or dash.

const SHAPES = ['circle', 'square', 'diamond', 'triangle-up'];
const OTHER_SHAPE = 'pentagon';

function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function mixerColor(mixer) {
  return DATA.colors.mixers[mixer] ?? themeColor('--baseline');
}

function shapeOf(scale) {
  const index = DATA.scales.indexOf(scale);
  return SHAPES[index] ?? OTHER_SHAPE;
}

function dashOf(run) {
  return run.start === 'scratch' ? 'dot' : 'solid';
}

function withOpacity(color, opacity) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},${opacity})`;
}

// Scratch is faint, other starts are full; the line tells the mixer either way.
function markerOf(run) {
  const color = mixerColor(run.mixer);
  return {
    color: run.start === 'scratch' ? withOpacity(color, 0.3) : color,
    symbol: shapeOf(run.scale),
    size: 11,
    line: { color, width: 1.8 },
  };
}

const OUTLINES = {
  circle: ['circle', { cx: 8, cy: 8, r: 5.5 }],
  square: ['rect', { x: 3, y: 3, width: 10, height: 10 }],
  diamond: ['path', { d: 'M8 1.5 14.5 8 8 14.5 1.5 8Z' }],
  'triangle-up': ['path', { d: 'M8 2 14.5 13.5H1.5Z' }],
  pentagon: ['path', { d: 'M8 1.5 14.6 6.3 12 14H4L1.4 6.3Z' }],
};

// The mark of a run in plots, for tables and keys.
function markOf(run) {
  const { color, symbol, line } = markerOf(run);
  const [name, facts] = OUTLINES[symbol];
  return drawing(
    { viewBox: '0 0 16 16', class: 'mark' },
    [name, { ...facts, fill: color, stroke: line.color, 'stroke-width': 1.8 }],
  );
}

// What the marks of some runs are; with lines, those from scratch are dotted.
function runKey(runs) {
  return element('ul', { class: 'key' }, runs.map((run) => element('li', {}, markOf(run), run.label)));
}

function barOf(run) {
  const color = mixerColor(run.mixer);
  const faint = { solidity: 0.35, shape: '/', fgcolor: color, bgcolor: withOpacity(color, 0.25) };
  return { color, line: { color, width: 1 }, pattern: run.start === 'scratch' ? faint : {} };
}

// Plotly reads some markup in labels. With these three escaped it shows the text as it is.
function label(text) {
  return String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

// A name that may be long, for a legend or an axis.
function shortLabel(text, most = 38) {
  const whole = String(text);
  return label(whole.length > most ? `${whole.slice(0, most - 1)}…` : whole);
}
