// Dialog with the source of a run's figures.

function showDetails(run) {
  const dialog = byId('details');
  const details = DATA.details[run.key];
  const close = element('button', {
    type: 'button', class: 'close', 'aria-label': 'Close', text: '×', onclick: () => dialog.close(),
  });
  dialog.replaceChildren(
    element('div', { class: 'bar' }, element('h2', { id: 'details-title', text: run.label }), close),
    metricsList(run),
    ...details.sections.map(section),
    configText(details.config),
    analysesList(run),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}

function section({ title, rows }) {
  const list = element('dl');
  for (const [name, text] of rows) {
    list.append(element('dt', { text: name }), element('dd', { text }));
  }
  return element('section', {}, element('h3', { text: title }), list);
}

function metricsList(run) {
  const rows = Object.entries(run.metrics).map(([metric, value]) => {
    const interval = run.intervals[metric];
    const range = interval ? `; 95 % interval over images ${interval.join(' to ')}` : '';
    return [metricLabel(metric), value === null ? 'undefined: no ground truth' : `${value}${range}`];
  });
  for (const [metric, figure] of Object.entries(run.published)) {
    rows.push([
      `published ${metricLabel(metric)}`,
      `${figure.value}${insideInterval(run, metric) ? ', inside our interval' : ''}, ${figure.architecture} architecture, ${figure.otherRecipe ? 'released recipe (unlike this run), ' : ''}${figure.source}`,
    ]);
  }
  if (run.notCompared) rows.push(['published', `not compared: ${run.notCompared}`]);
  DATA.speeds.forEach((speed, index) => {
    const time = run.speeds[index];
    if (time !== undefined) rows.push(['time (ms)', `${significant(time)}: ${speed.condition}; ${speed.file}`]);
  });
  return section({ title: 'Figures, unrounded', rows });
}

// Published figures have no per-image records, so they can only be compared with our interval.
function insideInterval(run, metric) {
  const interval = run.intervals[metric];
  const value = run.published[metric].value;
  return interval && interval[0] <= value && value <= interval[1];
}

function configText(digest) {
  const text = DATA.configs[digest];
  if (!text) return null;
  return element(
    'details',
    {},
    element('summary', { text: `Config, ${text.split('\n').length} lines` }),
    element('pre', { tabindex: '0', text }),
  );
}

function analysesList(run) {
  const found = Object.values(run.analyses).map((index) => DATA.analyses[index]);
  if (!found.length) return null;
  return section({ title: 'Analyses', rows: found.map((each) => [each.kind, `${each.file}. ${each.note}`]) });
}

// A click on the backdrop counts as a click on the dialog itself.
function buildDetails() {
  const dialog = byId('details');
  dialog.addEventListener('click', (event) => {
    const box = dialog.getBoundingClientRect();
    const inside =
      event.clientX >= box.left && event.clientX <= box.right &&
      event.clientY >= box.top && event.clientY <= box.bottom;
    // Enter on a button causes a click at (0, 0).
    if (event.target === dialog && !inside && event.detail) dialog.close();
  });
}
