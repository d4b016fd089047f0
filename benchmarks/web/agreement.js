// How far two files' outputs are apart; the same measure as benchmarks/agreement.py.

/** Random inputs, the same in every run, for a model's inputs. */
export function randomSamples(details, count, seed = 1) {
  const normal = normals(seed);
  return Array.from({ length: count }, () =>
    details.map(({ dtype, shape }) => {
      const size = shape.reduce((product, side) => product * side, 1);
      if (dtype === "float32")
        return { data: Float32Array.from({ length: size }, normal), shape };
      const Kind = dtype === "int32" ? Int32Array : Uint8Array;
      return { data: Kind.from({ length: size }, () => (normal() > 0 ? 1 : 0)), shape };
    }),
  );
}

/**
 * The relative difference of outputs, where what changes with the input counts.
 *
 * @param {Array<{name, values: TypedArray[]}>} reference one array a sample.
 * @param {Array<{name, values: TypedArray[]}>} received
 * @returns {number} the largest of any output; infinite if they can't be compared.
 */
export function largestDifference(reference, received) {
  if (reference.length !== received.length) return Infinity;
  return Math.max(
    ...reference.map(({ values }, index) => difference(values, received[index].values)),
  );
}

function difference(reference, received) {
  if (reference[0].length !== received[0].length) return Infinity;
  const [meanA, meanB] = [mean(reference), mean(received)];
  let [spread, changing, size, shift, count] = [0, 0, 0, 0, 0];
  reference.forEach((row, sample) => {
    row.forEach((value, index) => {
      const a = value - meanA[index];
      const b = received[sample][index] - meanB[index];
      spread += a * a;
      changing += (b - a) ** 2;
      size += value * value;
      shift += (meanB[index] - meanA[index]) ** 2;
      count += 1;
    });
  });
  const ratio = Math.max(Math.sqrt(changing / spread), Math.sqrt(shift / size));
  return count && Number.isFinite(ratio) ? ratio : Infinity;
}

function mean(rows) {
  const sums = new Float64Array(rows[0].length);
  for (const row of rows) row.forEach((value, index) => (sums[index] += value));
  return sums.map((sum) => sum / rows.length);
}

/** Normal numbers by Box and Muller, from a small generator with a seed. */
function normals(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
