// Predictions of the models side by side, image by image.

const pictures = { index: new Map(), hidden: new Set() };

function picturesContent(group) {
  const own = DATA.pictures.groups[group];
  const missing = DATA.pictures.missing.filter((each) => RUNS.get(each.run).group === group);
  const shown = new Set(visibleRuns().map((run) => run.key));
  const absent = missing.filter((each) => shown.has(each.run));
  const why = absent.length
    ? element('details', {},
        element('summary', { text: `${absent.length} visible runs have no pictures` }),
        element('ul', {}, absent.map((each) => element('li', { text: `${RUNS.get(each.run).label}: ${each.reason}` }))))
    : null;
  return [own?.images.length ? viewer(group, own) : element('p', { text: 'There are no pictures.' }), why];
}

function viewer(group, { images }) {
  const runs = runsOf(group, visibleRuns()).filter((run) => images.some((image) => run.key in image.predictions));
  const place = element('div', { class: 'gallery' });
  const position = element('output', { 'aria-live': 'polite' });
  const show = (index) => {
    const at = (index + images.length) % images.length;
    pictures.index.set(group, at);
    const image = images[at];
    position.textContent = `${at + 1} of ${images.length}: ${image.name}`;
    place.replaceChildren(
      picture('truth', null, image.truth, image.size, image.truthText),
      ...runs
        .filter((run) => !pictures.hidden.has(run.key) && run.key in image.predictions)
        .map((run) => {
          const found = image.predictions[run.key];
          return picture(run.label, markOf(run), found.image ?? image.truth, image.size, found.text, found.correct);
        }),
    );
  };
  const move = (step) => show((pictures.index.get(group) ?? 0) + step);
  const keys = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), Home: () => show(0), End: () => show(-1) };
  const box = element(
    'div',
    {
      class: 'viewer', role: 'group', tabindex: '0',
      'aria-label': `Images of ${group}: use the left and right arrow keys for the previous and next image`,
      onkeydown: (event) => {
        if (!keys[event.key] || event.target.matches('input, select') || event.altKey || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        keys[event.key]();
      },
    },
    element(
      'div',
      { class: 'controls' },
      element('button', { type: 'button', text: '← previous', onclick: () => move(-1) }),
      element('button', { type: 'button', text: 'next →', onclick: () => move(1) }),
      position,
    ),
    modelToggles(runs, () => move(0)),
    place,
  );
  show(pictures.index.get(group) ?? 0);
  return box;
}

function modelToggles(runs, redraw) {
  const buttons = runs.map((run) => {
    const press = (event) => {
      if (pictures.hidden.has(run.key)) pictures.hidden.delete(run.key);
      else pictures.hidden.add(run.key);
      event.currentTarget.setAttribute('aria-pressed', String(!pictures.hidden.has(run.key)));
      redraw();
    };
    return toggle(run.label, !pictures.hidden.has(run.key), press, markOf(run));
  });
  return element('fieldset', { class: 'models' }, element('legend', { text: 'Models' }), buttons);
}

function picture(name, mark, source, [width, height], text, correct = null) {
  const verdict = correct === null ? '' : correct ? '✓ ' : '✗ ';
  return element(
    'figure',
    {},
    element('img', { src: source, width, height, alt: `${name}: ${text || 'drawn on the image'}` }),
    element('figcaption', {}, mark, element('strong', { text: name }),
      text ? element('span', { text: `${verdict}${text}` }) : null),
  );
}
