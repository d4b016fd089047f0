// The page's side of browser.py: files come from and go to /exchange/.

import { outputsAlone, timesInTurns } from "./measure.js";

const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

/**
 * @param {Array<{file: string, inputs: Array<{name: string | null, file: string,
 *   dtype: string, shape: number[]}>, samples: number, repeats: number,
 *   out: string}>} jobs names of files in /exchange/.
 */
export async function measureAll(jobs) {
  const results = [];
  const timed = [];
  for (const job of jobs) {
    const bytes = await exchanged(job.file);
    let samples;
    const { error, console, outputs } = await outputsAlone(
      bytes,
      async (details) => (samples = await samplesOf(details, job)),
    );
    const result = { error, console, outputs: [], loads: [], times: [] };
    result.outputs = await Promise.all(
      outputs.map((output, index) => put(output, `${job.out}.${index}`)),
    );
    results.push(result);
    if (error === null && job.repeats > 0)
      timed.push({ bytes, sample: samples[0], repeats: job.repeats, result });
  }
  if (timed.length) {
    const times = await timesInTurns(timed);
    timed.forEach(({ result }, index) => Object.assign(result, times[index]));
  }
  return results;
}

/** The job's samples, each a list of arrays in the order of the model's inputs. */
async function samplesOf(details, { inputs, samples }) {
  const given = new Map(inputs.map((each) => [each.name, each]));
  const arrays = await Promise.all(
    details.map(async ({ name, dtype }) => {
      const input = given.get(name) ?? (details.length === 1 ? given.get(null) : undefined);
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

async function put({ name, dtype, shape, values }, file) {
  await fetch(`/exchange/${file}`, { method: "PUT", body: new Blob(values) });
  return { name, dtype, shape, file };
}

async function exchanged(file) {
  const response = await fetch(`/exchange/${file}`);
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}
