// The latencies of one or two files as dots, one a round, with the median.

const WIDTH = 800;
const ROW = 54;
const SHADES = ["first", "second"];

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

export function drawTimes(measured) {
  const results = measured.filter(({ times }) => times.length);
  const height = ROW * results.length + 26;
  const chart = element("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img" });
  if (!results.length) return chart;
  // rounds that something interrupted must not press the others together
  const end = 1.4 * Math.max(...results.map(({ times }) => percentile(times, 0.8)));
  const x = (ms) => (Math.min(ms, end) / end) * (WIDTH - 20) + 10;
  results.forEach(({ name, times }, index) => {
    const [top, shade] = [index * ROW, SHADES[index]];
    chart.append(element("text", { x: 10, y: top + 14, class: "name" }, name));
    times.forEach((ms, round) => {
      const y = top + 26 + (round % 5) * 4;
      chart.append(element("circle", { cx: x(ms), cy: y, r: 3.5, class: shade }));
    });
    const middle = x(median(times));
    const ends = { x1: middle, x2: middle, y1: top + 20, y2: top + 48 };
    chart.append(element("line", { ...ends, class: `median ${shade}` }));
  });
  const base = height - 18;
  chart.append(element("line", { x1: 10, x2: WIDTH - 10, y1: base, y2: base, class: "axis" }));
  for (const ms of ticks(end)) {
    const anchor = ms ? "middle" : "start";
    const place = { x: x(ms), y: height - 3, "text-anchor": anchor };
    chart.append(element("text", place, `${ms} ms`));
  }
  return chart;
}

function percentile(values, fraction) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(fraction * (sorted.length - 1))];
}

function ticks(end) {
  const power = 10 ** Math.floor(Math.log10(end));
  const step = [0.2, 0.5, 1, 2].map((n) => n * power).find((n) => end / n <= 8);
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, n) =>
    Number((n * step).toPrecision(3)),
  );
}

function element(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}
