// Sections that are drawn anew when what is shown or compared changes, and by their own controls.

const MOST_RUNS = 12;
const sections = new Map();

// `contentOf` gives what a section says of a group, null for nothing; a section that the page lacks is
// left out.
function buildSection(id, contentOf) {
  const place = byId(`${id}-panels`);
  if (!place) return;
  place.tabIndex = -1;
  sections.set(id, contentOf);
  watch(() => redraw(id));
}

// The keyboard stays at the control it was at, though that is another one now.
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

// A group's title above its part of a section, where several groups are shown.
function groupTitle(group) {
  return visibleGroups().length > 1 ? element('h3', { text: group }) : null;
}

// As many runs as can be told apart in a plot, and a note where there are more.
function drawnRuns(runs) {
  const drawn = runs.slice(0, MOST_RUNS);
  if (drawn.length === runs.length) return [drawn, null];
  const text = `The first ${MOST_RUNS} of ${runs.length} runs are drawn; tick fewer, or filter.`;
  return [drawn, element('p', { class: 'problem', text })];
}
