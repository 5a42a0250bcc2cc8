// The visible and the compared runs; watchers are called when they change.

const state = {
  group: DATA.groups[0].title,
  text: '',
  hidden: { mixer: new Set(), scale: new Set(), start: new Set() },
  earlier: false,
  figures: false,
  chosen: new Set(),
};
const watchers = [];

function watch(draw) {
  watchers.push(draw);
}

function changed() {
  // Compared runs come first, so that as few of them as possible share a dash or a pattern.
  numberRuns([...new Set([...comparedRuns(), ...visibleRuns(), ...DATA.runs])]);
  for (const draw of watchers) draw();
}

function matches(run) {
  if (state.group !== null && run.group !== state.group) return false;
  if (!state.earlier && !run.selected) return false;
  for (const [key, hidden] of Object.entries(state.hidden)) {
    if (hidden.has(run[key])) return false;
  }
  const text = [run.label, run.config, run.group, run.mixer, run.scale, run.start, run.path].join(' ');
  return state.text.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));
}

function visibleRuns() {
  return DATA.runs.filter(matches);
}

function visibleGroups() {
  const titles = new Set(visibleRuns().map((run) => run.group));
  return DATA.groups.filter((group) => titles.has(group.title)).map((group) => group.title);
}

function comparedRuns() {
  return visibleRuns().filter((run) => state.chosen.has(run.key));
}

function primaryMetric(group) {
  return GROUPS.get(group).metrics[0].key;
}

// One run per mixer for each task, all with the same scale, start and length, so that only the mixer differs.
// Takes the combination with the most mixers, preferably pretrained, and the lowest of several seeds.
function oneOfEachMixer(runs) {
  return [...new Set(runs.map((run) => run.group))].flatMap((group) => {
    const kinds = new Map();
    for (const run of runsOf(group, runs)) {
      const kind = JSON.stringify([run.scale, run.start, run.training, run.tta, run.images]);
      if (!kinds.has(kind)) kinds.set(kind, new Map());
      const mixer = run.mixer ?? run.backbone;
      const other = kinds.get(kind).get(mixer);
      if (!other || (run.seed ?? 0) < (other.seed ?? 0)) kinds.get(kind).set(mixer, run);
    }
    const first = (members) => members.values().next().value;
    const ranked = [...kinds.values()].sort(
      (a, b) => b.size - a.size || (first(b).start === 'pretrained') - (first(a).start === 'pretrained'),
    );
    return [...ranked[0].values()];
  });
}

function choose(runs) {
  state.chosen = new Set(runs.map((run) => run.key));
  changed();
}
