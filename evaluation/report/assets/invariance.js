// Metrics and consistency of predictions when images are shifted, rotated and scaled.

const invariance = { metric: new Map() };

function invarianceContent(group) {
  const [runs, note] = drawnRuns(analyzed(runsOf(group, comparedRuns()), 'invariance'));
  if (!runs.length) return notAnalyzed(group, 'invariance');
  const found = runs.map((run) => analysisOf(run, 'invariance'));
  const metrics = [...new Set(found.flatMap((each) => each.shown))];
  const transforms = [...new Set(found.flatMap((each) => Object.keys(each.curves)))];
  const remembered = invariance.metric.get(group);
  const consistency = metrics.find((name) => name.includes('consistency')) ?? metrics[0];
  const metric = metrics.includes(remembered) ? remembered : consistency;
  const select = choice('Figure', metrics.map((value) => ({ value, label: value })), metric, (value) => {
    invariance.metric.set(group, value);
    redraw('invariance');
  });
  return [
    select,
    note,
    basisNote(runs, 'invariance'),
    element('div', { class: 'panels' }, transforms.map((transform) =>
      element(
        'div',
        {},
        element('h4', { text: transform }),
        chart(
          () => invarianceFigure(runs, transform, metric),
          `${metric} over ${transform} for ${runs.map((run) => run.label).join(', ')}`,
          280,
        ),
      ))),
    runKey(runs, lineSample),
    element('p', { class: 'reading', text: `${found[0].images} images.` }),
  ];
}

function invarianceFigure(runs, transform, metric) {
  const traces = runs
    .map((run) => ({ run, curve: analysisOf(run, 'invariance').curves[transform] }))
    .filter(({ curve }) => curve?.metrics[metric])
    .map(({ run, curve }) => line(run, curve.strengths, curve.metrics[metric]));
  const unit = analysisOf(runs[0], 'invariance').curves[transform]?.unit ?? '';
  return {
    traces,
    layout: {
      showlegend: false,
      hovermode: 'closest',
      xaxis: { title: titled(unit) },
      yaxis: { title: titled(`${metric} (%)`), rangemode: 'tozero' },
    },
  };
}

// Line of a run in a small plot, explained in the key below the plots.
function line(run, x, y) {
  return {
    type: 'scatter',
    mode: 'lines+markers',
    name: shortLabel(run.label),
    x,
    y,
    hovertext: x.map((at, i) => `${label(run.label)}<br>${fixed(y[i], 1)} at ${significant(at)}`),
    hoverinfo: 'text',
    line: { color: colorOf(run), dash: dashOf(run), width: 2 },
    marker: { ...markerOf(run), size: 7 },
  };
}
