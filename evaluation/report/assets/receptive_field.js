// Effective receptive fields: one column per model, one row per target.

const SQUARES = [['0.5', ''], ['0.99', '0.1 2.4']];

function receptiveFieldContent(group) {
  const runs = analyzed(runsOf(group, comparedRuns()), 'erf');
  if (!runs.length) return notAnalyzed(group, 'erf');
  const found = runs.map((run) => analysisOf(run, 'erf'));
  const names = [...new Set(found.flatMap((each) => each.targets.map((target) => target.name)))];
  const head = runs.map((run) => element('th', { scope: 'col' }, markOf(run), run.label));
  const rows = names.map((name) =>
    element('tr', {}, element('th', { scope: 'row', text: name }), found.map((each, index) => {
      const target = each.targets.find((candidate) => candidate.name === name);
      return element('td', {}, target ? fieldMap(target, runs[index]) : '–');
    })),
  );
  return [
    basisNote(runs, 'erf'),
    element(
      'div',
      { class: 'scrolling', role: 'region', 'aria-label': `Receptive fields, ${group}`, tabindex: '0' },
      element('table', { class: 'maps' }, element('thead', {}, element('tr', {}, element('td'), head)), element('tbody', {}, rows)),
    ),
  ];
}

function fieldMap(target, run) {
  const areas = Object.entries(target.areas)
    .map(([share, area]) => `${Math.round(100 * share)} %: ${significant(100 * area)}`);
  const image = element('img', {
    src: target.image, alt: `Contributions to ${target.name} of ${run.label}`, width: 128, height: 128,
  });
  return element(
    'figure',
    {},
    element('div', { class: 'map' }, image, squares(target)),
    element('figcaption', {}, areas.map((text) => element('span', { text }))),
  );
}

// In percent of the map's sides.
function squares(target) {
  const shapes = SQUARES.filter(([share]) => target.areas[share]).map(([share, dashes]) => {
    const side = 100 * Math.sqrt(target.areas[share]);
    const corner = 50 - side / 2;
    return ['rect', { x: corner, y: corner, width: side, height: side, 'stroke-dasharray': dashes }];
  });
  return drawing({ viewBox: '0 0 100 100', preserveAspectRatio: 'none' }, ...shapes);
}
