// Table of runs: sortable by column, filtered, with checkboxes for the compared runs.

const sorting = { column: null, descending: false };

function buildTable() {
  const headings = [...byId('table').tHead.rows[0].cells];
  headings.forEach((heading, index) => {
    if (!heading.dataset.column) return;
    const text = heading.textContent;
    heading.setAttribute('aria-sort', 'none');
    heading.replaceChildren(
      element('button', { type: 'button', class: 'sort', onclick: () => sortBy(heading, index) }, text),
    );
  });
  for (const row of bodyRows()) {
    const run = RUNS.get(row.dataset.key);
    const box = element('input', {
      type: 'checkbox',
      'aria-label': `compare ${run.label}`,
      onchange: (event) => {
        if (event.target.checked) state.chosen.add(run.key);
        else state.chosen.delete(run.key);
        changed();
      },
    });
    row.cells[0].append(box);
    const name = element('button', {
      type: 'button', class: 'name', text: run.label, onclick: () => showDetails(run),
    });
    row.cells[1].replaceChildren(element('div', { class: 'who' }, name));
  }
  watch(drawTable);
}

function bodyRows() {
  return [...byId('table').tBodies[0].rows];
}

function sortBy(heading, index) {
  const first = heading.classList.contains('number') ? 'descending' : 'ascending';
  const other = first === 'ascending' ? 'descending' : 'ascending';
  const order = heading.getAttribute('aria-sort') === first ? other : first;
  for (const each of heading.parentElement.cells) {
    if (each.hasAttribute('aria-sort')) each.setAttribute('aria-sort', 'none');
  }
  heading.setAttribute('aria-sort', order);
  const numeric = heading.classList.contains('number') || heading.dataset.column === 'trained';
  const sign = order === 'ascending' ? 1 : -1;
  const sorted = bodyRows().sort((a, b) => {
    const [left, right] = [a, b].map((row) => row.cells[index].dataset.value);
    // Rows without a value come last in both orders.
    if (left === '' || right === '') return (left === '') - (right === '');
    return sign * (numeric ? left - right : left.localeCompare(right, 'en', { numeric: true }));
  });
  byId('table').tBodies[0].append(...sorted);
}

function drawTable() {
  const shown = new Set(visibleRuns().map((run) => run.key));
  for (const row of bodyRows()) {
    row.hidden = !shown.has(row.dataset.key);
    drawMark(row);
    row.cells[0].firstElementChild.checked = state.chosen.has(row.dataset.key);
    row.classList.toggle('chosen', state.chosen.has(row.dataset.key));
  }
  const groups = visibleGroups();
  for (const note of document.querySelectorAll('.notes [data-group]')) {
    note.hidden = !groups.includes(note.dataset.group);
  }
  hideEmptyColumns();
  const compared = comparedRuns().length;
  byId('shown').textContent = shown.size
    ? `${shown.size} of ${DATA.runs.length} evaluations shown, ${compared} compared`
    : 'No run matches the filters.';
}

function drawMark(row) {
  const who = row.querySelector('.who');
  who.querySelector('.mark')?.remove();
  who.prepend(markOf(RUNS.get(row.dataset.key)));
}

// Columns to hide if all visible rows have the same value.
const UNLESS_VARIED = new Set(['group', 'mixer', 'scale', 'start', 'seed', 'images']);

function hideEmptyColumns() {
  const rows = bodyRows().filter((row) => !row.hidden);
  const columns = [...byId('table').tHead.rows[0].cells];
  columns.forEach((heading, index) => {
    const column = heading.dataset.column;
    if (!column) return;
    const values = new Set(rows.map((row) => row.cells[index].dataset.value));
    const isEmpty = rows.length > 0 && values.size === 1 && values.has('');
    const isDull = UNLESS_VARIED.has(column) && values.size === 1;
    const isUnasked = column.startsWith('figure ') && !state.figures;
    const hidden = isEmpty || isDull || isUnasked;
    heading.hidden = hidden;
    for (const row of bodyRows()) row.cells[index].hidden = hidden;
  });
}
