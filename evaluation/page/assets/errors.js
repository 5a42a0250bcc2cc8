// What each kind of error costs a detector, of the runs that are compared.

function buildErrors() {
  if (byId('errors')) watch(drawErrors);
}

function drawErrors() {
  byId('errors-panels').replaceChildren(...visibleGroups().map(errorsPanel).filter(Boolean));
  drawVisible();
}

function errorsPanel(group) {
  if (!DATA.runs.some((run) => run.group === group && Object.keys(run.errors).length)) return null;
  const runs = runsOf(group, comparedRuns())
    .filter((run) => Object.keys(run.errors).length)
    .slice(0, MOST_RUNS);
  if (!runs.length) {
    return element('div', {}, groupTitle(group), element('p', { text: 'None of the ticked runs has evidence of its images.' }));
  }
  const kinds = [...new Set(runs.flatMap((run) => Object.keys(run.errors)))];
  return element(
    'div',
    {},
    groupTitle(group),
    runKey(runs),
    element('div', { class: 'pair' }, kinds.map((kind) => errorsOf(kind, runs))),
  );
}

function errorsOf(kind, runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.errors[kind] ?? {})))];
  const value = (run, name) => run.errors[kind]?.[name] ?? null;
  const summary = `Points of ${kind} AP50 lost to each kind of error for ${runs.map((run) => run.label).join(', ')}`;
  return element(
    'div',
    {},
    element('h4', { text: kind === 'box' ? 'Boxes' : 'Masks' }),
    bars(runs, names, value, `${kind} AP50 lost (points)`, summary),
  );
}
