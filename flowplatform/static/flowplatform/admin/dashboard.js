/** Draws the plots of the dashboard, in the colours of the theme, and again when the theme changes. */

const plots = [...document.querySelectorAll("canvas[data-plot]")].map((canvas) => ({
  canvas,
  data: JSON.parse(document.getElementById(canvas.dataset.plot).textContent),
}));
const drawn = [];
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** What a colour of tokens.css is in this theme: a canvas knows neither var() nor light-dark(). */
function colorOf(name) {
  const probe = document.createElement("span");
  probe.style.setProperty("color", `var(--${name})`);
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

function clock(iso) {
  return new Date(iso).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

function standsAlone(values, index) {
  return values[index] !== null && (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null;
}

function lineOf({ name, state, values }) {
  const color = colorOf(`${state}-fill`);
  return {
    label: name,
    data: values,
    borderColor: color,
    backgroundColor: color,
    borderWidth: 2,
    // What is not known is a gap; a point that stands alone is seen all the same.
    pointRadius: (point) => (standsAlone(values, point.dataIndex) ? 3 : 0),
    pointHitRadius: 12,
  };
}

function draw({ canvas, data }) {
  const ink = colorOf("ink-2");
  const grid = colorOf("line");
  return new window.Chart(canvas, {
    type: "line",
    data: { labels: data.times.map(clock), datasets: data.series.map(lineOf) },
    options: {
      responsive: true,
      maintainAspectRatio: false,
      animation: still.matches ? false : { duration: 200 },
      interaction: { mode: "index", intersect: false },
      plugins: {
        legend: { display: data.series.length > 1, align: "end", labels: { color: ink, boxWidth: 12, boxHeight: 3 } },
        tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${item.formattedValue} ${data.unit}` } },
      },
      scales: {
        x: { ticks: { color: ink, maxTicksLimit: 7, maxRotation: 0 }, grid: { display: false }, border: { color: grid } },
        y: { beginAtZero: true, suggestedMax: 4, ticks: { color: ink, maxTicksLimit: 5 }, grid: { color: grid }, border: { display: false } },
      },
    },
  });
}

function drawAll() {
  for (const chart of drawn.splice(0)) chart.destroy();
  drawn.push(...plots.map(draw));
}

window.Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
drawAll();
new MutationObserver(drawAll).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
