// Accuracy against FLOPs, parameters or measured time, with the Pareto front.

// Published results are shown by family, unless they are switched off.
const cost = { axis: 'flops', metric: new Map(), published: true, hidden: new Set() };
const COST_HEIGHT = 500;

const COSTS = {
  flops: { label: 'FLOPs (G)', of: (run) => (run.flops ? run.flops / 1e9 : null) },
  parameters: { label: 'Parameters (M)', of: (run) => (run.parameters ? run.parameters / 1e6 : null) },
};

function costOf(axis) {
  if (COSTS[axis]) return COSTS[axis];
  const index = axis.slice('speed '.length);
  return {
    label: `Time (ms): ${DATA.speeds[index].condition}`,
    of: (run) => run.speeds?.[index] ?? null,
  };
}

function costChoice() {
  const options = Object.entries(COSTS).map(([value, { label }]) => ({ value, label }));
  DATA.speeds.forEach((speed, index) => {
    options.push({ value: `speed ${index}`, label: `Time (ms): ${speed.condition}` });
  });
  return choice('Cost', options, cost.axis, (value) => {
    cost.axis = value;
    redraw('cost');
  });
}

function costContent(group) {
  const metrics = GROUPS.get(group).metrics;
  const metric = cost.metric.get(group) ?? metrics[0].key;
  const { label: axisLabel, of } = costOf(cost.axis);
  const points = runsOf(group, visibleRuns())
    .map((run) => ({ run, cost: of(run), value: run.metrics[metric] ?? null }))
    .filter((point) => point.cost !== null && point.value !== null);
  const options = metrics.map(({ key, label }) => ({ value: key, label }));
  const select = choice('Figure', options, metric, (value) => {
    cost.metric.set(group, value);
    redraw('cost');
  });
  const field = publishedPoints(group, metric, of);
  const controls = [element('div', { class: 'controls' }, select, costChoice()), publishedControls(field)];
  if (!points.length) {
    return [...controls, element('p', { text: 'No visible run has both figures.' })];
  }
  const front = paretoFront(points);
  const names = front.map((point) => point.run.label).join(', ');
  const summary = `${metricLabel(metric)} against ${axisLabel} of ${points.length} runs. On the Pareto front: ${names}.`;
  return [
    ...controls,
    chart(() => costFigure(group, metric, axisLabel, of, points, front, field), summary, COST_HEIGHT),
    element('p', { class: 'reading', text: `On the front, cheapest first: ${names}.` }),
  ];
}

function costFigure(group, metric, axisLabel, of, points, front, field) {
  const digits = GROUPS.get(group).digits;
  const traces = [
    ...publishedTraces(field, points, metric, of, digits),
    {
      mode: 'lines', x: front.map((p) => p.cost), y: front.map((p) => p.value), hoverinfo: 'skip',
      line: { color: themeColor('--faint'), width: 1.5, shape: 'hv' }, name: 'Pareto front',
    },
  ];
  for (const mixer of new Set(points.map((point) => point.run.mixer))) {
    const own = points.filter((point) => point.run.mixer === mixer);
    traces.push(mixerTrace(mixer, own, metric, digits));
  }
  traces.push(...keyTraces(points, shownFamilies(field).length > 0));
  return {
    traces,
    layout: {
      xaxis: { title: titled(axisLabel) },
      yaxis: { title: titled(`${metricLabel(metric)} (%)`) },
      hovermode: 'closest',
    },
    onclick: (point) => {
      const run = RUNS.get(point.customdata);
      if (run) showDetails(run);
    },
  };
}

function mixerTrace(mixer, points, metric, digits) {
  const runs = points.map((point) => point.run);
  const markers = runs.map(markerOf);
  return {
    mode: 'markers+text',
    type: 'scatter',
    name: label(mixer ?? 'baseline'),
    showlegend: false,
    x: points.map((point) => point.cost),
    y: points.map((point) => point.value),
    text: runs.map(numberText),
    textfont: { size: 9, color: runs.map(inkOn) },
    customdata: runs.map((run) => run.key),
    hovertext: points.map((p) => `${label(p.run.label)}<br>${fixed(p.value, digits)} at ${significant(p.cost)}`),
    hoverinfo: 'text',
    error_y: errorBars(runs, metric, mixer),
    marker: {
      size: 13,
      color: markers.map((marker) => marker.color),
      symbol: markers.map((marker) => marker.symbol),
      line: { color: mixerColor(mixer), width: 2 },
    },
  };
}

// Intervals over images, for results with per-image records.
function errorBars(runs, metric, mixer) {
  const ends = (run, index) => {
    const interval = run.intervals[metric];
    return interval ? Math.abs(interval[index] - run.metrics[metric]) : 0;
  };
  return {
    type: 'data',
    visible: runs.some((run) => metric in run.intervals),
    symmetric: false,
    arrayminus: runs.map((run) => ends(run, 0)),
    array: runs.map((run) => ends(run, 1)),
    color: mixerColor(mixer),
    thickness: 1,
    width: 3,
  };
}

// Published results at a known cost, except those of hidden mixers and scales.
function publishedPoints(group, metric, of) {
  const mixers = new Set(visibleRuns().map((run) => run.mixer));
  return DATA.published
    .filter((each) => each.group === group && metric in each.metrics && of(each) !== null)
    .filter((each) => each.architecture !== 'unified' || mixers.has(each.mixer))
    .filter((each) => !(each.mixer && state.hidden.mixer.has(each.mixer)) && !(each.scale && state.hidden.scale.has(each.scale)));
}

function familiesOf(field) {
  return [...new Set(field.map((each) => each.family))];
}

function shownFamilies(field) {
  return cost.published ? familiesOf(field).filter((family) => !cost.hidden.has(family)) : [];
}

// Switches for all published results and for each family.
function publishedControls(field) {
  if (!field.length) return null;
  const all = tick('published results', cost.published, (ticked) => {
    cost.published = ticked;
    redraw('cost');
  });
  const families = !cost.published ? [] : familiesOf(field).map((family) => {
    const press = () => {
      if (!cost.hidden.delete(family)) cost.hidden.add(family);
      redraw('cost');
    };
    return toggle(family, !cost.hidden.has(family), press);
  });
  return element('div', { class: 'families', role: 'group', 'aria-label': 'Published results' }, all, families);
}

// A trace for each family, and for each mixer of the unified one: hollow marks, joined from the cheapest on.
function publishedTraces(field, points, metric, of, digits) {
  const lines = new Map();
  const shown = new Set(shownFamilies(field));
  for (const each of field.filter(({ family }) => shown.has(family))) {
    const key = each.family === 'unified' ? `unified ${each.mixer}` : each.family;
    if (!lines.has(key)) lines.set(key, []);
    lines.get(key).push({ each, x: of(each), y: each.metrics[metric], name: each.family });
  }
  const members = [...lines.values()].map((line) => line.sort((a, b) => a.x - b.x));
  const ends = members.map((line) => line.at(-1)).filter(({ name }) => name !== 'unified');
  const marks = [...members.flat(), ...points.map((point) => ({ x: point.cost, y: point.value }))];
  // The plot without its axes and legend.
  const size = { width: byId('cost-panels').clientWidth - 70, height: COST_HEIGHT - 130 };
  const places = placesOfNames(ends.sort((a, b) => b.y - a.y), marks, size);
  return members.map((line) => publishedTrace(line, metric, digits, places.get(line.at(-1))));
}

function publishedTrace(line, metric, digits, place) {
  const points = line.map(({ each }) => each);
  const color = DATA.colors[points[0].mixer] ?? themeColor('--faint');
  const { family } = points[0];
  return {
    mode: family === 'unified' ? 'markers' : 'lines+markers+text',
    type: 'scatter',
    name: label(family),
    showlegend: false,
    legendgroup: 'published',
    x: line.map(({ x }) => x),
    y: line.map(({ y }) => y),
    text: line.map((_, index) => (place && index === line.length - 1 ? `\u00a0${label(family)}\u00a0` : '')),
    textposition: place ?? 'middle right',
    textfont: { size: NAME_SIZE, color },
    hovertext: line.map(
      ({ each, x, y }) => `${label(each.model)}, published, ${each.architecture}<br>${fixed(y, digits)} at ${significant(x)}<br>${shortLabel(each.source, 60)}`,
    ),
    hoverinfo: 'text',
    line: { color, width: 1, dash: 'dot' },
    marker: {
      size: 9,
      symbol: points.map((each) => `${shapeOf(each.scale)}-open`),
      color,
      line: { width: 1.3, color },
    },
  };
}

// Legend of shapes and fills, if they differ.
function keyTraces(points, hasPublished) {
  const gray = themeColor('--faint');
  const key = (name, marker) => ({
    mode: 'markers', x: [null], y: [null], name,
    marker: { size: 11, line: { color: gray, width: 2 }, ...marker },
  });
  const mixers = [...new Set(points.map((point) => point.run.mixer))];
  const scales = [...new Set(points.map((point) => point.run.scale))].filter(Boolean);
  const starts = [...new Set(points.map((point) => point.run.start))].filter(Boolean);
  const published = { symbol: 'circle-open', size: 9, color: gray, line: { color: gray, width: 1.3 } };
  return [
    ...(hasPublished ? [{ ...key('published', published), legendgroup: 'published' }] : []),
    ...mixers.map((mixer) => key(label(mixer ?? 'baseline'), { color: mixerColor(mixer), symbol: 'circle', line: { width: 0 } })),
    ...(scales.length > 1 ? scales.map((scale) => key(label(scale), { color: gray, symbol: shapeOf(scale) })) : []),
    ...(starts.length > 1
      ? starts.map((start) =>
          key(label(start), { symbol: 'circle', color: start === 'scratch' ? 'rgba(128,128,128,0.25)' : gray }))
      : []),
  ];
}
