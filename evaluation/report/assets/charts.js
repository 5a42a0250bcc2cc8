// Plots: Plotly is part of the page; plots are drawn when they come into view, in the page's colors.

let plotly = null;
const charts = new Map();
let forPrint = false;

async function loadPlotly() {
  const packed = Uint8Array.from(atob(byId('plotly').textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  const source = await new Response(stream).text();
  document.head.append(element('script', { text: source }));
  plotly = globalThis.Plotly;
  document.documentElement.dataset.plots = 'ready';
  drawVisible();
}

const nearView = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const chart = charts.get(entry.target);
      if (!chart) continue;
      chart.visible = entry.isIntersecting;
      drawIfDue(entry.target, chart);
    }
  },
  { rootMargin: '400px' },
);

// Placeholder for a plot. `figure` returns its traces and layout when it is drawn; `summary` describes it
// in words.
function chart(figure, summary, height) {
  const place = element('div', { class: 'chart', role: 'img', 'aria-label': summary });
  place.style.height = `${height}px`;
  charts.set(place, { figure, visible: false, due: true });
  nearView.observe(place);
  return place;
}

function drawIfDue(place, chart) {
  if (!plotly || !chart.due || !place.isConnected || !(chart.visible || forPrint)) return;
  chart.due = false;
  const { traces, layout, onclick } = chart.figure();
  plotly.newPlot(place, traces, { ...theme(), ...layout, ...axes(layout) }, CONFIG);
  if (onclick) place.on('plotly_click', (event) => onclick(event.points[0]));
}

function drawVisible() {
  for (const [place, chart] of charts) {
    if (place.isConnected) drawIfDue(place, chart);
    else forget(place);
  }
}

function forget(place) {
  nearView.unobserve(place);
  if (plotly) plotly.purge(place);
  charts.delete(place);
}

const CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d', 'zoomIn2d', 'zoomOut2d'],
};

function theme() {
  const ink = themeColor('--ink');
  return {
    paper_bgcolor: 'rgba(0,0,0,0)',
    plot_bgcolor: 'rgba(0,0,0,0)',
    font: { color: ink, family: 'system-ui, sans-serif', size: 13 },
    margin: { l: 56, r: 12, t: 12, b: 48 },
    hoverlabel: { bgcolor: themeColor('--raised'), font: { color: ink }, bordercolor: themeColor('--line') },
    legend: { orientation: 'h', y: -0.18, yanchor: 'top', x: 0, font: { size: 12 } },
    modebar: { bgcolor: 'rgba(0,0,0,0)', color: themeColor('--faint'), activecolor: ink },
  };
}

function axes(layout) {
  const common = {
    gridcolor: themeColor('--grid'),
    linecolor: themeColor('--line'),
    zerolinecolor: themeColor('--line'),
    automargin: true,
  };
  return {
    xaxis: { ...common, ...layout.xaxis },
    yaxis: { ...common, ...layout.yaxis },
  };
}

function titled(text) {
  return { text: label(text), font: { size: 13 } };
}

// Paper is white in any color scheme.
function setPrinting(printing) {
  if (forPrint === printing) return;
  forPrint = printing;
  document.documentElement.classList.toggle('printing', printing);
  changed();
}

function followTheme() {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
  matchMedia('print').addEventListener('change', (event) => setPrinting(event.matches));
  addEventListener('beforeprint', () => setPrinting(true));
  addEventListener('afterprint', () => setPrinting(false));
}
