// Places for names beside marks in a plot, such that no name covers a mark or another name.

// In order of preference; directions of the name from its mark.
const PLACES = {
  'middle right': [1, 0], 'middle left': [-1, 0], 'top center': [0, -1], 'bottom center': [0, 1],
  'top right': [1, -1], 'bottom right': [1, 1], 'top left': [-1, -1], 'bottom left': [-1, 1],
};
const NAME_SIZE = 10;
const MARK_RADIUS = 7;

// Positions for Plotly by mark; a mark whose name fits nowhere has none. `named` are marks with a name, and
// `marks` are all marks, each at x and y in data units. The plot has `size` pixels; its axes show all marks.
function placesOfNames(named, marks, size) {
  const scaled = pixelScale(marks, size);
  const taken = marks.map((mark) => around(scaled(mark), [0, 0], MARK_RADIUS, MARK_RADIUS));
  const places = new Map();
  for (const each of named) {
    const half = 0.31 * NAME_SIZE * each.name.length;
    for (const [place, direction] of Object.entries(PLACES)) {
      const box = around(scaled(each), direction, half, 0.6 * NAME_SIZE);
      if (box.left < 0 || box.right > size.width || taken.some((other) => overlap(box, other))) continue;
      taken.push(box);
      places.set(each, place);
      break;
    }
  }
  return places;
}

function pixelScale(marks, size) {
  const axis = (values, pixels) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    // Plotly leaves about a twentieth of the axis free on each side.
    return (value) => pixels * (0.05 + (0.9 * (value - low)) / (high - low || 1));
  };
  const x = axis(marks.map((mark) => mark.x), size.width);
  const y = axis(marks.map((mark) => mark.y), size.height);
  return (mark) => ({ x: x(mark.x), y: size.height - y(mark.y) });
}

// Box with half a width and half a height, moved from a mark in a direction until it does not cover the mark.
function around({ x, y }, [right, down], width, height) {
  const [cx, cy] = [x + right * (width + MARK_RADIUS + 1), y + down * (height + MARK_RADIUS + 1)];
  return { left: cx - width, right: cx + width, top: cy - height, bottom: cy + height };
}

function overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
