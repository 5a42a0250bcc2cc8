// Differences between pairs of models, with intervals.

const differences = { metric: new Map() };

function differencesContent(group) {
  const { compared } = GROUPS.get(group);
  const metric = differences.metric.get(group) ?? compared[0];
  const ticked = new Set(comparedRuns().map((run) => run.key));
  const isTicked = (side) => side.runs.some((key) => ticked.has(key));
  const pairs = DATA.differences
    .filter((each) => each.group === group && each.metric === metric && isTicked(each.a) && isTicked(each.b))
    .sort((one, other) => other.difference.value - one.difference.value);
  if (!pairs.length) {
    const text = 'No two of the selected models have per-image records of the same images.';
    return element('p', { text });
  }
  const options = compared.map((value) => ({ value, label: metricLabel(value) }));
  const select = choice('Figure', options, metric, (value) => {
    differences.metric.set(group, value);
    redraw('differences');
  });
  const rows = pairs.map((each) =>
    element(
      'tr',
      {},
      element('th', { scope: 'row', text: `${each.a.name} − ${each.b.name}` }),
      element('td', { class: 'number', text: each.printed.value }),
      element('td', { class: 'number', text: `${each.printed.low} to ${each.printed.high}` }),
      element('td', { text: each.sentence }),
    ),
  );
  const head = ['Pair', 'Difference', '95 % interval', 'In words'].map((text) =>
    element('th', { scope: 'col', text }),
  );
  return [
    select,
    chart(() => differencesFigure(pairs), `Differences of ${pairs.length} pairs with intervals, also listed in the table below.`, 100 + 36 * pairs.length),
    element(
      'div',
      { class: 'scrolling', role: 'region', 'aria-label': 'Table of differences', tabindex: '0' },
      element('table', {}, element('thead', {}, element('tr', {}, head)), element('tbody', {}, rows)),
    ),
  ];
}

function differencesFigure(pairs) {
  const ordered = [...pairs].reverse();
  const names = ordered.map((each) => `${shortLabel(each.a.name, 30)} −<br>${shortLabel(each.b.name, 30)}`);
  return {
    traces: [
      {
        mode: 'markers',
        type: 'scatter',
        x: ordered.map((each) => each.difference.value),
        y: names.map((_, index) => index),
        hovertext: ordered.map((each) => label(each.sentence)),
        hoverinfo: 'text',
        error_x: {
          type: 'data',
          symmetric: false,
          array: ordered.map((each) => each.difference.high - each.difference.value),
          arrayminus: ordered.map((each) => each.difference.value - each.difference.low),
          color: themeColor('--ink'),
          thickness: 1.6,
        },
        marker: {
          size: 10,
          color: ordered.map((each) => (each.toldApart ? themeColor('--accent') : themeColor('--paper'))),
          line: { color: themeColor('--accent'), width: 2 },
        },
      },
    ],
    layout: {
      showlegend: false,
      xaxis: { title: titled('difference (points)'), zeroline: true, zerolinewidth: 2 },
      yaxis: { tickvals: names.map((_, index) => index), ticktext: names, showgrid: false, zeroline: false },
    },
  };
}
