// Data of the page, and formatting of numbers.

const DATA = JSON.parse(byId('data').textContent);
const RUNS = new Map(DATA.runs.map((run) => [run.key, run]));
const GROUPS = new Map(DATA.groups.map((group) => [group.title, group]));
const MINUS = '−';

function metricLabel(metric) {
  return DATA.labels[metric] ?? metric;
}

// Round like the tables (evaluation/utils/formats.py): the shortest decimal of the number, ties away from
// zero. toFixed and toPrecision round the binary number instead.
function rounded(value, digits) {
  const [mantissa, power] = Math.abs(value).toExponential().split('e');
  const [whole, part = ''] = mantissa.split('.');
  const shift = Number(power) - part.length + digits;
  let number = BigInt(whole + part);
  if (shift >= 0) number *= 10n ** BigInt(shift);
  else number = (2n * number + 10n ** BigInt(-shift)) / (2n * 10n ** BigInt(-shift));
  if (digits < 0) number *= 10n ** BigInt(-digits);
  const after = Math.max(digits, 0);
  const text = number.toString().padStart(after + 1, '0');
  const point = text.length - after;
  return (value < 0 && number ? MINUS : '') + (after ? `${text.slice(0, point)}.${text.slice(point)}` : text);
}

function fixed(value, digits) {
  return value === null || value === undefined ? '–' : rounded(value, digits);
}

// Three significant digits, without trailing zeros.
function significant(value) {
  if (value === null || value === undefined) return '–';
  const text = rounded(value, 2 - Number(value.toExponential().split('e')[1]));
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

function runsOf(group, runs) {
  return runs.filter((run) => run.group === group);
}

// Analysis of the given kind for a run's weights; null if there is none.
function analysisOf(run, kind) {
  const index = run.analyses[kind];
  return index === undefined ? null : DATA.analyses[index];
}

// Runs with an analysis of the given kind, one run per analysis: several evaluations may share weights.
function analyzed(runs, kind) {
  const seen = new Set();
  return runs.filter((run) => {
    const index = run.analyses[kind];
    if (index === undefined || seen.has(index)) return false;
    seen.add(index);
    return true;
  });
}

// Placeholder if none of the compared runs has an analysis.
function notAnalyzed(group, kind) {
  const others = analyzed(runsOf(group, visibleRuns()), kind);
  const text = others.length
    ? 'None of the selected runs was analyzed. '
    : `No visible run of ${group} was analyzed; run tools/analyze_${kind}.py.`;
  const tickThem = element('button', {
    type: 'button',
    text: others.length === 1 ? 'Compare the analyzed run' : `Compare the ${others.length} analyzed runs`,
    onclick: () => choose([...comparedRuns().filter((run) => run.group !== group), ...others]),
  });
  return element('p', {}, text, others.length ? tickThem : null);
}

// Warning if the compared analyses use different images or settings.
function basisNote(runs, kind) {
  const bases = new Set(runs.map((run) => analysisOf(run, kind).basis));
  if (bases.size < 2) return null;
  return element('p', {
    class: 'problem',
    text: 'These analyses use different images or settings; compare them with care.',
  });
}
