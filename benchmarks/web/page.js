// The page for people: one or two files in, figures out.

import { largestDifference, randomSamples } from "./agreement.js";
import { outputsAlone, timesInTurns } from "./measure.js";
import { drawTimes, median } from "./chart.js";

const SAMPLES = 64;
const ROUNDS = 40;
// relative differences: of two float32 files that compute the same; of one that does not
// compute the same at all. Between them lie int8 and float16 beside float32.
const SAME = 1e-5;
const WRONG = 0.5;

const at = (id) => document.getElementById(id);
let chosen = [];
let busy = false;

at("files").addEventListener("change", (event) => choose([...event.target.files]));
at("again").addEventListener("click", () => measure());
for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", over);
    if (kind === "drop") choose([...event.dataTransfer.files]);
  });

async function choose(files) {
  if (busy || !files.length) return;
  if (files.length > 2) return say("Choose one or two files.", 0);
  chosen = await Promise.all(
    files
      .sort((a, b) => b.size - a.size)
      .map(async (file) => ({
        name: file.name,
        bytes: new Uint8Array(await file.arrayBuffer()),
        gzip: await gzipped(file),
      })),
  );
  await measure();
}

async function measure() {
  if (busy) return;
  busy = true;
  at("results").hidden = true;
  try {
    await show(await measured(chosen));
    say("", 1);
  } catch (error) {
    say(`It went wrong: ${error?.message ?? error}`, 0);
  } finally {
    at("progress").hidden = true;
    busy = false;
  }
}

/** The chosen files with their outputs, errors, load times and latencies. */
async function measured(files) {
  const results = [];
  for (const file of files) {
    let sample;
    const samplesFor = async (details) => {
      const samples = randomSamples(details, SAMPLES);
      sample = samples[0];
      return samples;
    };
    const output = await outputsAlone(file.bytes, samplesFor, (done, all) =>
      say(`${file.name}: outputs of ${done} of ${all} random inputs`, done / all),
    );
    results.push({ ...file, ...output, sample, repeats: ROUNDS, loads: [], times: [] });
  }
  const timed = results.filter(({ error }) => error === null);
  if (timed.length) {
    const times = await timesInTurns(timed, (done, all) =>
      say(`In turns: round ${done} of ${all}`, done / all),
    );
    timed.forEach((result, index) => Object.assign(result, times[index]));
  }
  return results;
}

async function show(results) {
  const [first, second] = results;
  at("head").replaceChildren(row("th", ["", ...results.map(({ name }) => name)]));
  const lines = [
    ["Size", results.map(({ bytes }) => `${kilo(bytes.length)} kB`)],
    ["Size, gzipped", results.map(({ gzip }) => `${kilo(gzip)} kB`)],
    ["Load, median of 3", results.map(({ loads }) => milliseconds(loads))],
    [`Latency, median of ${ROUNDS}`, results.map(({ times }) => milliseconds(times))],
  ];
  at("verdict").replaceChildren();
  const failed = results.find(({ error }) => error !== null);
  if (failed) verdict(`${failed.name} does not run: ${failed.error}`, true);
  else if (second) {
    const faster = median(first.times.map((time, index) => time / second.times[index]));
    const apart = largestDifference(first.outputs, second.outputs);
    lines.push(["Times faster", ["1", faster.toFixed(2)]]);
    lines.push(["Difference of outputs", ["reference", scientific(apart)]]);
    const smaller = first.bytes.length / second.bytes.length;
    verdict(sentence(second.name, smaller, faster, apart), !(apart < WRONG));
  }
  at("rows").replaceChildren(...lines.map(([name, values]) => row("td", [name, ...values])));
  at("times").replaceChildren(drawTimes(results));
  at("results").hidden = false;
}

function sentence(name, smaller, faster, apart) {
  const size = `${name} is ${smaller.toFixed(1)} times smaller and `;
  const speed =
    faster >= 1
      ? `${faster.toFixed(2)} times faster here`
      : `${(1 / faster).toFixed(2)} times slower here`;
  return size + speed + outputs(apart);
}

function outputs(apart) {
  if (apart <= SAME) return ", with the same outputs.";
  if (apart < WRONG) return `; its outputs differ by ${scientific(apart)}, relatively.`;
  return `, but its outputs are wrong: relative difference ${scientific(apart)}.`;
}

function verdict(text, bad = false) {
  at("verdict").textContent = text;
  at("verdict").classList.toggle("bad", bad);
}

/** Shows what is going on, and lets the browser draw it. */
async function say(text, fraction) {
  at("status").textContent = text;
  at("progress").hidden = false;
  at("progress").value = fraction;
  await new Promise((resolve) => setTimeout(resolve));
}

function row(kind, values) {
  const line = document.createElement("tr");
  values.forEach((value, index) => {
    const cell = document.createElement(index ? kind : "th");
    cell.textContent = value;
    line.append(cell);
  });
  return line;
}

const kilo = (bytes) => Math.round(bytes / 1000).toLocaleString("en");
const scientific = (value) => (Number.isFinite(value) ? value.toExponential(1) : "NaN");
const milliseconds = (values) =>
  values.length ? `${median(values).toPrecision(3)} ms` : "–";

async function gzipped(file) {
  const stream = file.stream().pipeThrough(new CompressionStream("gzip"));
  return (await new Response(stream).arrayBuffer()).byteLength;
}
