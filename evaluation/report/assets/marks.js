// Marks, lines and bars of runs as small drawings, for tables and legends.

const OUTLINES = {
  circle: ['circle', { cx: 8, cy: 8, r: 5.5 }],
  square: ['rect', { x: 3, y: 3, width: 10, height: 10 }],
  diamond: ['path', { d: 'M8 1.5 14.5 8 8 14.5 1.5 8Z' }],
  'triangle-up': ['path', { d: 'M8 2 14.5 13.5H1.5Z' }],
  pentagon: ['path', { d: 'M8 1.5 14.6 6.3 12 14H4L1.4 6.3Z' }],
};
// Strokes over a bar of 24x12, like Plotly's patterns.
const STROKES = {
  '': '',
  '-': 'M0 3H24M0 9H24',
  '|': 'M4 0V12M12 0V12M20 0V12',
  '.': 'M3 3h2M11 3h2M19 3h2M7 9h2M15 9h2',
  '+': 'M0 3H24M0 9H24M4 0V12M12 0V12M20 0V12',
  '/': 'M0 8 8 0M2 12 14 0M10 12 22 0M18 12 24 6',
  '\\': 'M0 4 8 12M2 0 14 12M10 0 22 12M18 0 24 6',
  x: 'M0 8 8 0M2 12 14 0M10 12 22 0M18 12 24 6M0 4 8 12M2 0 14 12M10 0 22 12M18 0 24 6',
};

// Mark of a run in plots.
function markOf(run) {
  const { color, symbol, line } = markerOf(run);
  const [name, facts] = OUTLINES[symbol];
  const number = numberText(run);
  const text = { x: 8, y: 11, 'text-anchor': 'middle', 'font-size': number.length > 1 ? 7.5 : 8.5, fill: inkOn(run) };
  return drawing(
    { viewBox: '0 0 16 16', class: 'mark' },
    [name, { ...facts, fill: color, stroke: line.color, 'stroke-width': 1.8 }],
    ...(number ? [['text', text, number]] : []),
  );
}

function lineSample(run) {
  const dash = dashOf(run);
  return drawing({ viewBox: '0 0 44 12', class: 'sample' }, [
    'path',
    { d: 'M0 6H44', stroke: colorOf(run), 'stroke-width': 2, 'stroke-dasharray': dash === 'solid' ? 'none' : dash },
  ]);
}

function barSample(run) {
  const { line, pattern } = barOf(run);
  return drawing(
    { viewBox: '0 0 24 12', class: 'sample bar' },
    ['rect', { x: 0.5, y: 0.5, width: 23, height: 11, fill: pattern.bgcolor, stroke: line.color }],
    ['path', { d: STROKES[pattern.shape], stroke: pattern.fgcolor, 'stroke-width': 1.6 }],
  );
}

// Legend of runs: their marks, and samples of their lines or bars.
function runKey(runs, sampleOf) {
  return element('ul', { class: 'key' }, runs.map((run) =>
    element('li', {}, markOf(run), sampleOf(run), run.label)));
}
