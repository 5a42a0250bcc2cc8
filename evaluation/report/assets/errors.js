// AP lost to each type of error, for the compared detectors.

function errorsContent(group) {
  const hasErrors = (run) => Object.keys(run.errors).length > 0;
  if (!runsOf(group, DATA.runs).some(hasErrors)) return null;
  const [runs, note] = drawnRuns(runsOf(group, comparedRuns()).filter(hasErrors));
  if (!runs.length) return element('p', { text: 'None of the selected runs has per-image records.' });
  const kinds = [...new Set(runs.flatMap((run) => Object.keys(run.errors)))];
  return [
    note,
    runKey(runs, barSample),
    element('div', { class: 'pair' }, kinds.map((kind) => errorsOf(kind, runs))),
  ];
}

function errorsOf(kind, runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.errors[kind] ?? {})))];
  const value = (run, name) => run.errors[kind]?.[name] ?? null;
  const summary = `Points of ${kind} AP50 lost to each type of error for ${runs.map((run) => run.label).join(', ')}`;
  return element(
    'div',
    {},
    element('h4', { text: kind === 'box' ? 'Boxes' : 'Masks' }),
    bars(runs, names, value, `${kind} AP50 lost (points)`, summary),
  );
}
