// Ranking of all contestants that the columns share, whatever is shown or compared above.

const MOST_SENTENCES = 30;

function buildRanking() {
  if (byId('ranking-panels')) watch(drawRanking);
}

function drawRanking() {
  byId('ranking-panels').replaceChildren(
    rankingKey(),
    bumpChart(),
    element('h3', { text: 'Ranks and scores' }),
    rankTable(),
    element('h3', { text: 'Kendall’s tau-b of every two columns' }),
    tauTable(),
    element('p', { class: 'reading', text: DATA.ranking.limits }),
    element('h3', { text: 'Pairs whose order reverses by more than chance' }),
    reversalList(),
  );
  drawVisible();
}

function rankingKey() {
  const { columns, notes } = DATA.ranking;
  const lines = columns.map((column) => {
    const images = column.published ? 'published, no interval' : `${column.images} images`;
    const seeds = column.seeds > 1 ? `, up to ${column.seeds} seeds` : '';
    return `${column.name}: ${column.title} (${images}${seeds})`;
  });
  return element('ul', { class: 'notes' }, [...lines, ...notes].map((text) => element('li', { text })));
}

function within(label, table) {
  return element('div', { class: 'scrolling', role: 'region', 'aria-label': label, tabindex: '0' }, table);
}

function headRow(names) {
  const cells = names.map((text) => element('th', { scope: 'col', class: 'number', text }));
  return element('thead', {}, element('tr', {}, element('td'), cells));
}

function rankText(column, index) {
  const rank = column.ranks[index];
  if (rank === null) return '–';
  return column.published ? `${rank}` : `${rank} (${column.rank_low[index]} to ${column.rank_high[index]})`;
}

function rankTable() {
  const { contestants, columns } = DATA.ranking;
  const rows = contestants.map((name, index) => {
    const cells = columns.map((column) =>
      element(
        'td',
        { class: 'number' },
        rankText(column, index),
        element('span', { class: 'part', text: `  ${fixed(column.scores[index], column.digits)}` }),
      ));
    return element('tr', {}, element('th', { scope: 'row', text: name }), cells);
  });
  const table = element('table', {}, headRow(columns.map((column) => column.name)), element('tbody', {}, rows));
  return within('Ranks and scores', table);
}

function tauTable() {
  const { columns, pairs } = DATA.ranking;
  const known = new Map(pairs.map((pair) => [pair.columns.join(), pair]));
  const rows = columns.map((row) => {
    const cells = columns.map((column) =>
      tauCell(known.get([row.name, column.name].join()) ?? known.get([column.name, row.name].join())));
    return element('tr', {}, element('th', { scope: 'row', text: row.name }), cells);
  });
  const table = element('table', { class: 'taus' }, headRow(columns.map((column) => column.name)), element('tbody', {}, rows));
  return within('Kendall’s tau-b of every two columns', table);
}

function ends([low, high]) {
  return low === null ? 'no interval' : `${fixed(low, 2)} to ${fixed(high, 2)}`;
}

// Tau, its interval for these contestants, and in the second line that for contestants of this kind.
function tauCell(pair) {
  if (!pair) return element('td');
  const cell = element('td', { class: 'number', title: pair.in_words }, element('strong', { text: fixed(pair.tau_b, 2) }));
  cell.append(
    element('div', { text: ends(pair.these_contestants) }),
    element('div', { class: 'part', text: ends(pair.of_this_kind) }),
  );
  cell.style.setProperty('--tau', `${Math.round(40 * Math.abs(pair.tau_b ?? 0))}%`);
  cell.classList.add(pair.tau_b < 0 ? 'against' : 'with');
  return cell;
}

function reversalList() {
  const { sentences } = DATA.ranking;
  const shown = sentences.slice(0, MOST_SENTENCES).map((text) => element('li', { text }));
  const rest = sentences.length - shown.length;
  if (rest) shown.push(element('li', { text: `and ${rest} more; tools/rank.py lists all` }));
  return element('ul', { class: 'notes' }, shown);
}

// Colors of the mixers if each contestant has its own mixer.
function contestantColors() {
  const { contestants, palette } = DATA.ranking;
  const mixers = contestants.map((name) => DATA.runs.find((run) => run.backbone === name).mixer);
  const isDistinct = new Set(mixers).size === mixers.length && !mixers.includes(null);
  return mixers.map((mixer, index) => (isDistinct ? mixerColor(mixer) : palette[index % palette.length]));
}

function bumpChart() {
  const { contestants, columns } = DATA.ranking;
  const summary = `Ranks of ${contestants.join(', ')} in ${columns.length} columns, also listed in the table below.`;
  return chart(bumpFigure, summary, 130 + 44 * contestants.length);
}

function bumpFigure() {
  const { contestants, columns } = DATA.ranking;
  const colors = contestantColors();
  const turns = new Set(DATA.ranking.turning.map(String));
  const at = columns.map((_, index) => index);
  const traces = contestants.flatMap((name, index) => {
    const own = columns.map((column) => column.places[index]);
    const parts = at.slice(1).map((column) => ({
      type: 'scatter',
      mode: 'lines',
      x: [column - 1, column],
      y: own.slice(column - 1, column + 1),
      line: { color: colors[index], width: turns.has(`${index},${column - 1}`) ? 4.5 : 1.8 },
      opacity: turns.has(`${index},${column - 1}`) ? 1 : 0.6,
      hoverinfo: 'skip',
    }));
    return [...parts, intervalBars(index, colors[index]), rankMarks(name, index, own, colors[index])];
  });
  const names = contestants.flatMap((name, index) => nameLabels(name, columns.map((column) => column.places[index])));
  return {
    traces,
    layout: {
      showlegend: false,
      hovermode: 'closest',
      annotations: names,
      margin: { l: 40, r: 12, t: 12, b: 90 },
      xaxis: { tickvals: at, ticktext: columns.map((column) => `${column.name}<br>${wrapped(column.title)}`), range: [-0.9, columns.length - 0.1], showgrid: false, zeroline: false },
      yaxis: { title: titled('rank'), range: [contestants.length + 0.6, 0.4], dtick: 1, zeroline: false },
    },
  };
}

function intervalBars(index, color) {
  const { contestants, columns } = DATA.ranking;
  const shift = 0.24 * ((index + 0.5) / contestants.length - 0.5);
  const measured = columns.map((column, at) => [column, at + shift]).filter(([column]) => !column.published);
  return {
    type: 'scatter',
    mode: 'lines',
    // A gap after each bar.
    x: measured.flatMap(([, at]) => [at, at, null]),
    y: measured.flatMap(([column]) => [column.rank_low[index], column.rank_high[index], null]),
    line: { color, width: 4 },
    opacity: 0.35,
    hoverinfo: 'skip',
  };
}

function rankMarks(name, index, places, color) {
  const { columns } = DATA.ranking;
  return {
    type: 'scatter',
    mode: 'markers',
    x: columns.map((_, at) => at),
    y: places,
    marker: { color, size: 12, line: { color: themeColor('--paper'), width: 1.5 } },
    hovertext: columns.map((column) =>
      `${label(name)}<br>rank ${rankText(column, index)}, ${fixed(column.scores[index], column.digits)}<br>${label(column.title)}`),
    hoverinfo: 'text',
  };
}

function nameLabels(name, places) {
  const known = places.flatMap((place, at) => (place === null ? [] : [at]));
  return [[known[0], -1, 'right'], [known.at(-1), 1, 'left']].map(([at, side, xanchor]) => ({
    x: at,
    y: places[at],
    xanchor,
    xshift: 34 * side,
    showarrow: false,
    text: shortLabel(name, 24),
    font: { size: 12 },
  }));
}

function wrapped(text) {
  return text.split(', ').map((part) => shortLabel(part, 30)).join('<br>');
}
