// Outputs of a file in a runtime of its own; times of several files in turns.

import { freshRuntime, load, outputsOf, takePrinted, tensors, timeOf } from "./litert.js";

const WARM_UP_RUNS = 5;
const LOADS = 4; // of which the first, with cold code, is not counted

/**
 * Runs a file on samples.
 *
 * @param {Uint8Array} bytes the file.
 * @param {(details) => Promise<Array<Array<{data, shape}>>>} samplesFor the samples,
 *   each with one array for each of the model's inputs, whose details it is given.
 * @param {(done: number, all: number) => Promise<void>} progress called after a sample.
 * @returns {Promise<{error: string | null, console: string[],
 *   outputs: Array<{name, dtype, shape, values: TypedArray[]}>}>} with `values` of one
 *   array a sample.
 */
export async function outputsAlone(bytes, samplesFor, progress = async () => {}) {
  takePrinted();
  let error = null;
  let outputs = [];
  try {
    await freshRuntime();
    takePrinted();
    const { model } = await load(bytes);
    const samples = await samplesFor(model.getInputDetails());
    const rows = [];
    for (const sample of samples) {
      const inputs = tensors(sample);
      rows.push(await outputsOf(model, inputs));
      inputs.forEach((each) => each.delete());
      await progress(rows.length, samples.length);
    }
    outputs = model.getOutputDetails().map(({ name, dtype, shape }, index) => ({
      name,
      dtype,
      shape: [...shape],
      values: rows.map((row) => row[index]),
    }));
    model.delete();
  } catch (thrown) {
    error = String(thrown?.message ?? thrown);
  }
  return { error, console: takePrinted(), outputs };
}

/** In another order, so that none always follows the same one. */
function shuffled(items) {
  return items
    .map((item) => ({ item, place: Math.random() }))
    .sort((one, other) => one.place - other.place)
    .map(({ item }) => item);
}

/**
 * Times files in one runtime, each once a round, in another order each time.
 *
 * @param {Array<{bytes: Uint8Array, sample: Array<{data, shape}>, repeats: number}>} files
 * @param {(done: number, all: number) => Promise<void>} progress called after a round.
 * @returns {Promise<Array<{loads: number[], times: number[]}>>} milliseconds.
 */
export async function timesInTurns(files, progress = async () => {}) {
  await freshRuntime();
  const timed = files.map((file) => ({ ...file, loads: [], times: [], model: null }));
  for (let round = 0; round < LOADS; round++) {
    for (const each of timed) {
      each.model?.delete();
      const { model, ms } = await load(each.bytes);
      each.model = model;
      if (round > 0) each.loads.push(ms);
    }
  }
  for (const each of timed) {
    each.inputs = tensors(each.sample);
    for (let run = 0; run < WARM_UP_RUNS; run++) await timeOf(each.model, each.inputs);
  }
  const rounds = Math.max(...timed.map(({ repeats }) => repeats));
  for (let round = 0; round < rounds; round++) {
    for (const { model, inputs, repeats, times } of shuffled(timed))
      if (round < repeats) times.push(await timeOf(model, inputs));
    await progress(round + 1, rounds);
  }
  timed.forEach(({ model }) => model.delete());
  return timed.map(({ loads, times }) => ({ loads, times }));
}
