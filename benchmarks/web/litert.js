// LiteRT.js, one thread, with a console that is listened to: the runtime prints
// "Failed to allocate tensors", throws nothing and gives back what lay in memory.

import { loadAndCompile, loadLiteRt, Tensor, unloadLiteRt } from "@litertjs/core";

const WASM = new URL("./node_modules/@litertjs/core/wasm/", import.meta.url).pathname;
const OPTIONS = { accelerator: "wasm", cpuOptions: { numThreads: 1 } };

// all it prints comes as console.error, with the true level in front
const FAILURE = /^(ERROR|FATAL|Aborted)/;

const printed = [];
for (const level of ["debug", "log", "info", "warn", "error"]) {
  const original = console[level].bind(console);
  console[level] = (...values) => {
    printed.push(values.map(String).join(" "));
    original(...values);
  };
}

/** The different lines that were printed since the last call. */
export function takePrinted() {
  return [...new Set(printed.splice(0))];
}

/** Throws the first line that means a failure, if one was printed. */
function refuseFailure() {
  const line = printed.find((text) => FAILURE.test(text));
  if (line) throw new Error(line);
}

let running = false;

/** A runtime with a clean memory: a file that went wrong may have written anywhere. */
export async function freshRuntime() {
  if (running) unloadLiteRt();
  running = false;
  await loadLiteRt(WASM, { threads: false, jspi: false });
  running = true;
}

/** The compiled model of a file's bytes, and the milliseconds that it took. */
export async function load(bytes) {
  const start = performance.now();
  const model = await loadAndCompile(bytes, OPTIONS);
  const ms = performance.now() - start;
  refuseFailure();
  return { model, ms };
}

/** Tensors of one sample: `[{data, shape}]` in the order of the model's inputs. */
export function tensors(arrays) {
  return arrays.map(({ data, shape }) => new Tensor(data, shape));
}

/** Runs one sample and gives back copies of the outputs. */
export async function outputsOf(model, inputs) {
  const results = await model.run(inputs);
  refuseFailure();
  const values = results.map((each) => each.toTypedArray().slice());
  results.forEach((each) => each.delete());
  return values;
}

/** Runs one sample and gives back the milliseconds. */
export async function timeOf(model, inputs) {
  const start = performance.now();
  const results = await model.run(inputs);
  const ms = performance.now() - start;
  results.forEach((each) => each.delete());
  return ms;
}
