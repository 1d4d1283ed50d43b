// Base noise from a counter: the numbers of wavestill.distributions.counter_noise, so that a seed
// sounds the same in the browser as on the server. Philox4x64-10 (Salmon et al., 2011).

const MASK = (1n << 64n) - 1n;
const MULTIPLIERS = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const WEYL = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];
const WORDS = 4;

/** Steps start ... start + length - 1 of the first stream of a seed: Float32Array.
 *  `base` is "logistic" or "normal". */
export function counterNoise(base, seed, length, start = 0) {
  const noise = new Float32Array(length);
  const quantile = base === "logistic" ? logit : normalQuantile;
  for (let block = Math.floor(start / WORDS); block * WORDS < start + length; block++) {
    // numpy's generator counts before it draws: its block b is of counter b + 1
    const words = philox(BigInt(block) + 1n, BigInt(seed));
    for (let w = 0; w < WORDS; w++) {
      const i = block * WORDS + w - start;
      if (i >= 0 && i < length) {
        noise[i] = quantile(Math.max(Number(words[w] >> 11n) * 2 ** -53, 2 ** -54));
      }
    }
  }
  return noise;
}

function philox(counter, seed) {
  let [a, b, c, d] = [counter & MASK, counter >> 64n, 0n, 0n];
  let [k0, k1] = [seed, 0n];
  for (let round = 0; round < 10; round++) {
    const left = MULTIPLIERS[0] * a;
    const right = MULTIPLIERS[1] * c;
    [a, b, c, d] = [(right >> 64n) ^ b ^ k0, right & MASK, (left >> 64n) ^ d ^ k1, left & MASK];
    k0 = (k0 + WEYL[0]) & MASK;
    k1 = (k1 + WEYL[1]) & MASK;
  }
  return [a, b, c, d];
}

const logit = (u) => Math.log(u) - Math.log1p(-u);

/** The standard normal quantile by Acklam's rational functions and one step of Halley's. */
function normalQuantile(u) {
  const a = [-39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269,
    -30.66479806614716, 2.506628277459239];
  const b = [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972,
    -13.28068155288572, 1];
  const c = [-0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734,
    4.374664141464968, 2.938163982698783];
  const d = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1];
  const evaluate = (p, x) => p.reduce((sum, coefficient) => sum * x + coefficient, 0);
  const tail = Math.min(u, 1 - u);
  if (tail >= 0.02425) {
    const q = u - 0.5;
    return (q * evaluate(a, q * q)) / evaluate(b, q * q);
  }
  const q = Math.sqrt(-2 * Math.log(tail));
  const x = evaluate(c, q) / evaluate(d, q);
  return u < 0.5 ? x : -x;
}
