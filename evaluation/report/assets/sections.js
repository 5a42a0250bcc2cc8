// Sections, which are redrawn when the visible or compared runs change, and by their own controls.

const MOST_RUNS = 12;
const sections = new Map();

// `contentOf` returns the content of a section for a group, or null. Sections that the page lacks are
// skipped.
function buildSection(id, contentOf) {
  const place = byId(`${id}-panels`);
  if (!place) return;
  place.tabIndex = -1;
  sections.set(id, contentOf);
  watch(() => redraw(id));
}

// Keep the keyboard focus on the same control, which is replaced.
function redraw(id) {
  const place = byId(`${id}-panels`);
  const focused = document.activeElement;
  const isWithin = place.contains(focused);
  place.replaceChildren(...visibleGroups().map((group) => panel(group, sections.get(id)(group))).filter(Boolean));
  if (isWithin) (sameControl(place, focused) ?? place).focus({ preventScroll: true });
  drawVisible();
}

function panel(group, content) {
  return content && element('div', { 'data-group': group }, groupTitle(group), content);
}

function sameControl(place, { dataset: { control }, parentElement }) {
  if (!control) return null;
  const { group } = parentElement.closest('[data-group]').dataset;
  return [...place.children]
    .filter((each) => each.dataset.group === group)
    .flatMap((each) => [...each.querySelectorAll('[data-control]')])
    .find((each) => each.dataset.control === control);
}

// Title of a group above its part of a section, if several groups are visible.
function groupTitle(group) {
  return visibleGroups().length > 1 ? element('h3', { text: group }) : null;
}

// The runs that a plot can show distinguishably, and a note if there are more.
function drawnRuns(runs) {
  const drawn = runs.slice(0, MOST_RUNS);
  if (drawn.length === runs.length) return [drawn, null];
  const text = `The first ${MOST_RUNS} of ${runs.length} runs are drawn; select fewer, or filter.`;
  return [drawn, element('p', { class: 'problem', text })];
}
