// DOM elements from plain data. Strings are inserted as text only; nothing here parses markup.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (key === 'text') made.textContent = value;
    else if (value === true) made.setAttribute(key, '');
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

function byId(id) {
  return document.getElementById(id);
}

// Labeled selection of one of several values; `onchoose` gets the value.
function choice(label, options, value, onchoose) {
  const select = element('select', { 'data-control': label, onchange: (event) => onchoose(event.target.value) });
  for (const option of options) {
    select.append(element('option', { value: option.value, text: option.label }));
  }
  select.value = value;
  return element('label', { class: 'field' }, element('span', { text: label }), select);
}

// Toggle button.
function toggle(label, pressed, onpress, mark = null) {
  return element(
    'button',
    { type: 'button', class: 'toggle', 'data-control': label, 'aria-pressed': String(pressed), onclick: onpress },
    mark,
    label,
  );
}

// Checkbox; `ontick` gets its state.
function tick(label, ticked, ontick) {
  const box = element('input', { type: 'checkbox', 'data-control': label, onchange: (event) => ontick(event.target.checked) });
  box.checked = ticked;
  return element('label', { class: 'tick' }, box, label);
}

function swatch(color) {
  const made = element('span', { class: 'swatch', 'aria-hidden': 'true' });
  made.style.background = color;
  return made;
}

const SVG = 'http://www.w3.org/2000/svg';

function drawing(attributes, ...shapes) {
  const make = (name, facts) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(facts)) made.setAttribute(key, value);
    return made;
  };
  const made = make('svg', { 'aria-hidden': 'true', ...attributes });
  for (const [name, facts, text = ''] of shapes) {
    made.append(make(name, facts));
    made.lastChild.textContent = text;
  }
  return made;
}
