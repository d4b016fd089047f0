// The page's side of browser.py: outputs of each file in a runtime of its own, then
// the times of all files in turns, in one runtime.

import { freshRuntime, load, outputsOf, takePrinted, tensors, timeOf } from "./litert.js";

const WARM_UP_RUNS = 5;
const LOADS = 4; // of which the first, with cold code, is not counted
const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

/**
 * @param {Array<{file: string, inputs: Array<{name: string | null, file: string,
 *   dtype: string, shape: number[]}>, samples: number, repeats: number,
 *   out: string}>} jobs names of files in /exchange/.
 */
export async function measureAll(jobs) {
  const results = [];
  for (const job of jobs) results.push(await outputsAndErrors(job));
  const timed = jobs
    .map((job, index) => ({ job, result: results[index] }))
    .filter(({ job, result }) => job.repeats > 0 && result.error === null);
  if (timed.length) await timeInTurns(timed);
  return results;
}

async function outputsAndErrors(job) {
  takePrinted();
  const result = { error: null, console: [], outputs: [], loads: [], times: [] };
  try {
    await freshRuntime();
    takePrinted();
    const { model } = await load(await exchanged(job.file));
    result.outputs = await allOutputs(model, job);
    model.delete();
  } catch (error) {
    result.error = String(error?.message ?? error);
  }
  result.console = takePrinted();
  return result;
}

async function allOutputs(model, job) {
  const samples = await samplesOf(model, job);
  const details = model.getOutputDetails();
  const joined = details.map(() => []);
  for (const sample of samples) {
    const inputs = tensors(sample);
    const values = await outputsOf(model, inputs);
    inputs.forEach((each) => each.delete());
    values.forEach((value, index) => joined[index].push(value));
  }
  return Promise.all(
    details.map(async ({ name, shape, dtype }, index) => {
      const file = `${job.out}.${index}`;
      await fetch(`/exchange/${file}`, { method: "PUT", body: new Blob(joined[index]) });
      return { name, dtype, shape: [...shape], file };
    }),
  );
}

/** The job's samples, each a list of arrays in the order of the model's inputs. */
async function samplesOf(model, { inputs, samples }) {
  const details = model.getInputDetails();
  const given = new Map(inputs.map((each) => [each.name, each]));
  const arrays = await Promise.all(
    details.map(async ({ name, dtype }) => {
      const input = given.get(name) ?? (inputs.length === 1 ? given.get(null) : undefined);
      if (!input) throw new Error(`no values for input ${name}`);
      if (dtype !== input.dtype)
        throw new Error(`input ${name} takes ${dtype}, received ${input.dtype}`);
      return { ...input, data: new ARRAYS[dtype]((await exchanged(input.file)).buffer) };
    }),
  );
  return Array.from({ length: samples }, (_, index) =>
    arrays.map(({ data, shape }) => {
      const size = data.length / samples;
      return { data: data.slice(index * size, (index + 1) * size), shape: [1, ...shape] };
    }),
  );
}

async function timeInTurns(timed) {
  await freshRuntime();
  for (let round = 0; round < LOADS; round++) {
    for (const each of timed) {
      each.model?.delete();
      const { model, ms } = await load(await exchanged(each.job.file));
      each.model = model;
      if (round > 0) each.result.loads.push(ms);
    }
  }
  for (const each of timed) {
    each.inputs = tensors((await samplesOf(each.model, each.job))[0]);
    for (let run = 0; run < WARM_UP_RUNS; run++) await timeOf(each.model, each.inputs);
  }
  const rounds = Math.max(...timed.map(({ job }) => job.repeats));
  for (let round = 0; round < rounds; round++) {
    for (const { job, model, inputs, result } of timed)
      if (round < job.repeats) result.times.push(await timeOf(model, inputs));
  }
}

async function exchanged(file) {
  const response = await fetch(`/exchange/${file}`);
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}
