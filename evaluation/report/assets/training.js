// Losses, learning rate and metrics over iterations.

const training = { logged: new Map(), evaluated: new Map() };

function trainingContent(group) {
  const seen = new Set();
  const logged = runsOf(group, comparedRuns())
    .filter((run) => run.curves !== null && !seen.has(run.curves) && seen.add(run.curves));
  const [runs, note] = drawnRuns(logged);
  if (!runs.length) return element('p', { text: 'No training log was found for the selected runs.' });
  return [
    note,
    runKey(runs, lineSample),
    element(
      'div',
      { class: 'pair' },
      curvesOf(group, runs, 'training', training.logged, 'loss', 'Logged during training'),
      curvesOf(group, runs, 'evaluation', training.evaluated, primaryMetric(group), 'Evaluations'),
    ),
  ];
}

function curvesOf(group, runs, kind, remembered, preferred, title) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(DATA.curves[run.curves][kind])))].sort();
  if (!names.length) return null;
  const wanted = remembered.get(group) ?? preferred;
  const name = names.includes(wanted) ? wanted : names[0];
  const select = choice(title, names.map((value) => ({ value, label: metricLabel(value) })), name, (value) => {
    remembered.set(group, value);
    redraw('training');
  });
  const summary = `${metricLabel(name)} over iterations for ${runs.map((run) => run.label).join(', ')}`;
  return element('div', {}, select, chart(() => curvesFigure(runs, kind, name), summary, 320));
}

function curvesFigure(runs, kind, name) {
  const traces = runs
    .map((run) => ({ run, curve: DATA.curves[run.curves][kind][name] }))
    .filter(({ curve }) => curve)
    .map(({ run, curve }) => ({
      type: 'scatter',
      mode: curve.x.length > 30 ? 'lines' : 'lines+markers',
      name: shortLabel(run.label),
      x: curve.x,
      y: curve.y,
      hovertext: curve.x.map((x, i) => `${label(run.label)}<br>${significant(curve.y[i])} at iteration ${x}`),
      hoverinfo: 'text',
      line: { color: colorOf(run), dash: dashOf(run), width: 2 },
      marker: { ...markerOf(run), size: 6 },
    }));
  return {
    traces,
    layout: {
      xaxis: { title: titled('iteration'), rangemode: 'tozero' },
      yaxis: { title: titled(metricLabel(name)) },
      hovermode: 'closest',
      showlegend: false,
    },
  };
}
