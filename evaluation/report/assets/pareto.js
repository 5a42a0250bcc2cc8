// Points not dominated by another point, which would be at most as costly and at least as accurate, and
// better in one of the two. Equal points are all kept. Sorted by cost.

function paretoFront(points) {
  const sorted = [...points].sort((a, b) => a.cost - b.cost || b.value - a.value);
  const front = [];
  for (const point of sorted) {
    const last = front[front.length - 1];
    if (!last || point.value > last.value) front.push(point);
    else if (point.value === last.value && point.cost === last.cost) front.push(point);
  }
  return front;
}
