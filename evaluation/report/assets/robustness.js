// Attacks as curves over their budget; corruptions as a table colored by the share of the clean figure.

function robustnessContent(group) {
  const runs = analyzed(runsOf(group, comparedRuns()), 'robustness');
  if (!runs.length) return notAnalyzed(group, 'robustness');
  const [drawn, note] = drawnRuns(runs);
  const found = runs.map((run) => analysisOf(run, 'robustness'));
  const attacks = [...new Set(drawn.flatMap((run) => Object.keys(analysisOf(run, 'robustness').attacks)))];
  return [
    basisNote(runs, 'robustness'),
    attacks.length ? note : null,
    element('div', { class: 'panels' }, attacks.map((attack) =>
      element(
        'div',
        {},
        element('h4', { text: attackTitle(attack, found[0]) }),
        chart(
          () => attackFigure(drawn, attack),
          `${found[0].metric} under ${attack} for ${drawn.map((run) => run.label).join(', ')}`,
          300,
        ),
      ))),
    attacks.length ? runKey(drawn, lineSample) : null,
    corruptionsTable(group, runs, found),
    element('p', {
      class: 'reading',
      text: `${found[0].metric}; ${found[0].images} images; severities ${found[0].severities.join(', ')}. Colored: percent of the clean figure.`,
    }),
  ];
}

function attackTitle(attack, { norm, steps }) {
  return `${attack.toUpperCase()}${attack === 'pgd' ? `, ${steps} steps` : ''}, ${{ linf: 'L∞', l2: 'L2' }[norm] ?? norm}`;
}

function attackFigure(runs, attack) {
  const own = runs.filter((run) => analysisOf(run, 'robustness').attacks[attack]);
  const { unit, metric } = analysisOf(own[0], 'robustness');
  return {
    traces: own.map((run) => {
      const { budgets, attacks } = analysisOf(run, 'robustness');
      return line(run, budgets, attacks[attack]);
    }),
    layout: {
      showlegend: false,
      hovermode: 'closest',
      xaxis: { title: titled(`budget: ${unit}`), rangemode: 'tozero' },
      yaxis: { title: titled(`${metric} (%)`), rangemode: 'tozero' },
    },
  };
}

function mean(values) {
  const numbers = values.filter((value) => value !== null);
  return numbers.length ? numbers.reduce((a, b) => a + b, 0) / numbers.length : null;
}

function corruptionsTable(group, runs, found) {
  const names = [...new Set(found.flatMap((each) => Object.keys(each.corruptions)))];
  if (!names.length) return null;
  const head = runs.map((run) => element('th', { scope: 'col', class: 'number' }, markOf(run), run.label));
  const plain = (title, value, digits = 1) =>
    element('tr', { class: 'sum' }, element('th', { scope: 'row', text: title }), found.map((each) =>
      element('td', { class: 'number', text: fixed(value(each), digits) })));
  const rows = names.map((name) =>
    element('tr', {}, element('th', { scope: 'row', text: name.replaceAll('_', ' ') }), found.map((each) =>
      shareCell(mean(each.corruptions[name] ?? []), each.clean))));
  return element(
    'div',
    { class: 'scrolling', role: 'region', 'aria-label': `Corruptions, ${group}`, tabindex: '0' },
    element(
      'table',
      { class: 'corruptions' },
      element('thead', {}, element('tr', {}, element('td'), head)),
      element('tbody', {}, plain('clean', (each) => each.clean), rows, plain('mPC', (each) => each.mpc), plain('rPC', (each) => each.rpc)),
    ),
  );
}

function shareCell(value, clean) {
  const share = value === null || !clean ? null : (100 * value) / clean;
  const cell = element('td', { class: 'number share' });
  cell.append(fixed(value, 1));
  if (share !== null) {
    cell.append(element('span', { class: 'part', text: ` ${fixed(share, 0)}` }));
    cell.style.setProperty('--share', `${Math.min(100, Math.max(0, share))}%`);
  }
  return cell;
}
