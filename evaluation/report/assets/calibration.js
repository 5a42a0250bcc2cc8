// Reliability diagrams: outcome over confidence, for the compared runs.

function calibrationContent(group) {
  const isKnown = (run) => Object.keys(run.calibration).length > 0;
  if (!runsOf(group, DATA.runs).some(isKnown)) return null;
  const [runs, note] = drawnRuns(runsOf(group, comparedRuns()).filter(isKnown));
  if (!runs.length) return element('p', { text: 'None of the selected runs has stored confidences.' });
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.calibration)))];
  return [
    note,
    runKey(runs, lineSample),
    element('div', { class: 'panels' }, names.map((name) => reliabilityOf(name, runs))),
    calibrationTable(group, runs, names),
  ];
}

function calibrationLabel(name) {
  return name.replaceAll('_', ' ');
}

function reliabilityOf(name, runs) {
  const own = runs.filter((run) => run.calibration[name]);
  const summary = `Outcome over confidence for ${own.map((run) => run.label).join(', ')}; the errors are in the table below.`;
  return element(
    'div',
    {},
    element('h4', { text: calibrationLabel(name) }),
    chart(() => reliabilityFigure(name, own), summary, 340),
  );
}

function reliabilityFigure(name, runs) {
  const diagonal = {
    type: 'scatter',
    mode: 'lines',
    x: [0, 1],
    y: [0, 1],
    hoverinfo: 'skip',
    line: { color: themeColor('--faint'), dash: 'dot', width: 1.5 },
  };
  const share = { range: [0, 1.02], zeroline: false };
  return {
    traces: [diagonal, ...runs.map((run) => reliabilityLine(run, run.calibration[name].bins))],
    layout: {
      showlegend: false,
      hovermode: 'closest',
      xaxis: { title: titled('confidence'), ...share },
      yaxis: { title: titled(name === 'ECE' ? 'accuracy' : 'overlap with the object'), ...share },
    },
  };
}

// Line of a run; the area of a mark shows the share of predictions in its bin.
function reliabilityLine(run, bins) {
  const drawn = line(run, bins.map((bin) => bin.confidence), bins.map((bin) => bin.outcome));
  const percent = (value) => `${fixed(100 * value, 1)} %`;
  return {
    ...drawn,
    hovertext: bins.map(
      (bin) => `${label(run.label)}<br>${percent(bin.outcome)} at ${percent(bin.confidence)}<br>${percent(bin.share)} of the predictions`,
    ),
    marker: { ...drawn.marker, size: bins.map((bin) => 4 + 16 * Math.sqrt(bin.share)) },
  };
}

function calibrationTable(group, runs, names) {
  const { digits } = GROUPS.get(group);
  const text = (found) => {
    if (!found) return '–';
    const ends = found.low === null ? '' : ` (${fixed(found.low, digits)} to ${fixed(found.high, digits)})`;
    return fixed(found.value, digits) + ends;
  };
  const head = names.map((name) => element('th', { scope: 'col', class: 'number', text: calibrationLabel(name) }));
  const rows = runs.map((run) =>
    element('tr', {}, element('th', { scope: 'row' }, markOf(run), run.label), names.map((name) =>
      element('td', { class: 'number', text: text(run.calibration[name]) }))));
  return element(
    'div',
    { class: 'scrolling', role: 'region', 'aria-label': `Calibration errors, ${group}`, tabindex: '0' },
    element(
      'table',
      {},
      element('thead', {}, element('tr', {}, element('td'), head)),
      element('tbody', {}, rows),
    ),
  );
}
