// Filters of the visible runs: task, text, mixer, scale and start.

function buildFilters() {
  const form = byId('filters');
  form.hidden = false;
  form.addEventListener('submit', (event) => event.preventDefault());
  form.append(...[
    choice('Task', taskOptions(), state.group ?? '', (value) => {
      state.group = value || null;
      changed();
    }),
    textFilter(),
    ...['mixer', 'scale', 'start'].map(toggles),
    compareButtons(),
    earlierTick(),
    analysesTick(),
  ].filter(Boolean));
}

function taskOptions() {
  const all = DATA.groups.length > 1 ? [{ value: '', label: 'All tasks' }] : [];
  return [...all, ...DATA.groups.map((group) => ({ value: group.title, label: group.title }))];
}

function textFilter() {
  const input = element('input', {
    type: 'search',
    placeholder: 'name, config, folder',
    oninput: (event) => {
      state.text = event.target.value.trim();
      changed();
    },
  });
  return element('label', { class: 'field' }, element('span', { text: 'Text' }), input);
}

function valuesOf(key) {
  const found = [...new Set(DATA.runs.map((run) => run[key]))];
  const order = { mixer: Object.keys(DATA.colors), scale: DATA.scales, start: ['scratch'] }[key];
  const rank = (value) => (order.includes(value) ? order.indexOf(value) : order.length);
  return found.sort((a, b) => rank(a) - rank(b) || String(a).localeCompare(String(b)));
}

const NO_VALUE = { mixer: 'baseline', scale: 'no scale', start: 'start unknown' };

function toggles(key) {
  const values = valuesOf(key);
  if (values.length < 2) return null;
  const buttons = values.map((value) => {
    const press = (event) => {
      const hidden = state.hidden[key];
      if (hidden.has(value)) hidden.delete(value);
      else hidden.add(value);
      event.currentTarget.setAttribute('aria-pressed', String(!hidden.has(value)));
      changed();
    };
    const mark = key === 'mixer' ? swatch(mixerColor(value)) : null;
    return toggle(value ?? NO_VALUE[key], true, press, mark);
  });
  const legend = key[0].toUpperCase() + key.slice(1);
  return element('fieldset', {}, element('legend', { text: legend }), buttons);
}

function earlierTick() {
  const earlier = DATA.runs.filter((run) => !run.selected).length;
  if (!earlier) return null;
  return tick(`show ${earlier} earlier or older evaluations`, state.earlier, (ticked) => {
    state.earlier = ticked;
    changed();
  });
}

function analysesTick() {
  if (!DATA.analyses.length) return null;
  return tick('columns of analyses', state.figures, (ticked) => {
    state.figures = ticked;
    changed();
  });
}

function compareButtons() {
  const button = (text, runs) =>
    element('button', { type: 'button', text, onclick: () => choose(runs()) });
  return element(
    'fieldset',
    {},
    element('legend', { text: 'Compare' }),
    button('one of each mixer', () => oneOfEachMixer(visibleRuns())),
    button('all shown', visibleRuns),
    button('none', () => []),
  );
}
