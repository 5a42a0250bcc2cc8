// Accuracy against FLOPs, parameters or measured time, with the Pareto front.

const cost = { axis: 'flops', metric: new Map() };

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
  const controls = element('div', { class: 'controls' }, select, costChoice());
  if (!points.length) {
    return [controls, element('p', { text: 'No visible run has both figures.' })];
  }
  const front = paretoFront(points);
  const names = front.map((point) => point.run.label).join(', ');
  const summary = `${metricLabel(metric)} against ${axisLabel} of ${points.length} runs. On the Pareto front: ${names}.`;
  return [
    controls,
    chart(() => costFigure(group, metric, axisLabel, of, points, front), summary, 440),
    element('p', { class: 'reading', text: `On the front, cheapest first: ${names}.` }),
  ];
}

function costFigure(group, metric, axisLabel, of, points, front) {
  const digits = GROUPS.get(group).digits;
  const traces = [
    {
      mode: 'lines', x: front.map((p) => p.cost), y: front.map((p) => p.value), hoverinfo: 'skip',
      line: { color: themeColor('--faint'), width: 1.5, shape: 'hv' }, name: 'Pareto front',
    },
  ];
  for (const mixer of new Set(points.map((point) => point.run.mixer))) {
    const own = points.filter((point) => point.run.mixer === mixer);
    traces.push(mixerTrace(mixer, own, metric, digits));
  }
  const published = publishedPoints(group, metric, of);
  if (published.length) traces.push(publishedTrace(published, metric, of, digits));
  traces.push(...keyTraces(points));
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

function publishedPoints(group, metric, of) {
  const mixers = new Set(visibleRuns().map((run) => run.mixer));
  return DATA.published
    .filter((each) => each.group === group && metric in each.metrics && of(each) !== null)
    .filter((each) => each.architecture !== 'unified' || mixers.has(each.mixer));
}

function publishedTrace(points, metric, of, digits) {
  const color = (each) => DATA.colors[each.mixer] ?? themeColor('--faint');
  return {
    mode: 'markers',
    type: 'scatter',
    name: 'published',
    x: points.map(of),
    y: points.map((each) => each.metrics[metric]),
    hovertext: points.map(
      (each) => `${label(each.model)}, published, ${each.architecture}<br>${fixed(each.metrics[metric], digits)}<br>${shortLabel(each.source, 60)}`,
    ),
    hoverinfo: 'text',
    marker: {
      size: 12,
      symbol: points.map((each) => `${shapeOf(each.scale)}-open`),
      color: points.map(color),
      line: { width: 1.5 },
    },
  };
}

// Legend of shapes and fills, if they differ.
function keyTraces(points) {
  const gray = themeColor('--faint');
  const key = (name, marker) => ({
    mode: 'markers', x: [null], y: [null], name, marker: { size: 11, line: { color: gray, width: 2 }, ...marker },
  });
  const mixers = [...new Set(points.map((point) => point.run.mixer))];
  const scales = [...new Set(points.map((point) => point.run.scale))].filter(Boolean);
  const starts = [...new Set(points.map((point) => point.run.start))].filter(Boolean);
  return [
    ...mixers.map((mixer) => key(label(mixer ?? 'baseline'), { color: mixerColor(mixer), symbol: 'circle', line: { width: 0 } })),
    ...(scales.length > 1 ? scales.map((scale) => key(label(scale), { color: gray, symbol: shapeOf(scale) })) : []),
    ...(starts.length > 1
      ? starts.map((start) =>
          key(label(start), { symbol: 'circle', color: start === 'scratch' ? 'rgba(128,128,128,0.25)' : gray }))
      : []),
  ];
}
