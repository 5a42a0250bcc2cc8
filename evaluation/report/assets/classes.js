// Figures of the compared runs by class and by object size, as bars.

const FIRST_CLASSES = 20;
const classes = { metric: new Map(), order: 'spread', all: false };

function classesContent(group) {
  const [runs, note] = drawnRuns(runsOf(group, comparedRuns()));
  if (!runs.length) return element('p', { text: 'Select runs in the table to compare them here.' });
  return [
    note,
    runKey(runs, barSample),
    element('div', { class: 'pair' }, byClass(group, runs), bySize(runs)),
  ];
}

function byClass(group, runs) {
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.perClass)))];
  if (!metrics.length) return element('p', { text: 'These results have no figures by class.' });
  const remembered = classes.metric.get(group);
  const metric = metrics.includes(remembered) ? remembered : metrics[0];
  const names = orderedClasses(runs, metric);
  const shown = classes.all ? names : names.slice(0, FIRST_CLASSES);
  const select = choice('Figure by class', metrics.map((value) => ({ value, label: metricLabel(value) })), metric, (value) => {
    classes.metric.set(group, value);
    redraw('classes');
  });
  const more = names.length > FIRST_CLASSES
    ? tick(`all ${names.length} classes`, classes.all, (ticked) => {
        classes.all = ticked;
        redraw('classes');
      })
    : null;
  const summary = `${metricLabel(metric)} of ${shown.length} classes for ${runs.map((run) => run.label).join(', ')}`;
  const value = (run, name) => run.perClass[metric]?.[name] ?? null;
  return element(
    'div',
    {},
    element('div', { class: 'controls' }, select, orderChoice(), more),
    bars(runs, shown, value, `${metricLabel(metric)} (%)`, summary),
  );
}

const ORDERS = [
  { value: 'spread', label: 'most different first' },
  { value: 'mean', label: 'hardest first' },
  { value: 'given', label: 'as in the data set' },
];

function orderChoice() {
  return choice('Order', ORDERS, classes.order, (value) => {
    classes.order = value;
    redraw('classes');
  });
}

function orderedClasses(runs, metric) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.perClass[metric] ?? {})))];
  const values = (name) => runs.map((run) => run.perClass[metric]?.[name]).filter((v) => typeof v === 'number');
  const spread = (name) => (values(name).length ? Math.max(...values(name)) - Math.min(...values(name)) : -1);
  const mean = (name) => (values(name).length ? values(name).reduce((a, b) => a + b) / values(name).length : Infinity);
  if (classes.order === 'spread') names.sort((a, b) => spread(b) - spread(a));
  if (classes.order === 'mean') names.sort((a, b) => mean(a) - mean(b));
  return names;
}

const SIZES = { APs: 'small', APm: 'medium', APl: 'large' };

function bySize(runs) {
  const kinds = ['box', 'mask'].filter((kind) => runs.some((run) => `${kind}_APs` in run.metrics));
  if (!kinds.length) return null;
  return element('div', {}, kinds.map((kind) => {
    const values = (run, size) => run.metrics[`${kind}_${Object.keys(SIZES).find((key) => SIZES[key] === size)}`] ?? null;
    const sizes = Object.values(SIZES).filter((size) => runs.some((run) => values(run, size) !== null));
    const absent = Object.values(SIZES).filter((size) => !sizes.includes(size));
    const title = `${kind} AP by object size`;
    return element(
      'div',
      {},
      element('h4', { text: title }),
      bars(runs, sizes, values, `${kind} AP (%)`, `${title} for ${runs.map((run) => run.label).join(', ')}`),
      absent.length ? element('p', { class: 'reading', text: `No ${absent.join(' and no ')} objects in these images.` }) : null,
    );
  }));
}

function bars(runs, names, value, axis, summary) {
  const thickness = Math.max(5, Math.min(13, 66 / runs.length));
  const height = 76 + names.length * (runs.length * thickness + 12);
  return chart(() => barsFigure(runs, names, value, axis), summary, height);
}

function barsFigure(runs, names, value, axis) {
  return {
    traces: runs.map((run) => ({
      type: 'bar',
      orientation: 'h',
      name: shortLabel(run.label),
      x: names.map((name) => value(run, name)),
      y: names.map((_, index) => index),
      hovertext: names.map((name) => `${label(run.label)}<br>${label(name)}: ${fixed(value(run, name), 1)}`),
      hoverinfo: 'text',
      marker: barOf(run),
    })),
    layout: {
      barmode: 'group',
      bargap: 0.25,
      xaxis: { title: titled(axis), rangemode: 'tozero', side: 'top' },
      // Put the first class and the first run on top, as in the legend.
      yaxis: { tickvals: names.map((_, index) => index), ticktext: names.map((name) => shortLabel(name, 22)), autorange: 'reversed', showgrid: false, zeroline: false },
      showlegend: false,
      margin: { l: 56, r: 12, t: 44, b: 12 },
      hovermode: 'closest',
    },
  };
}
