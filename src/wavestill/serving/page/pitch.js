// Log F0 and voicing of a sound, for the student in the browser.
//
// YIN (de Cheveigné and Kawahara, 2002, steps 1 to 5): not the estimator that voices are trained
// with (WORLD's DIO), whose frames the service makes; close to it on clean speech.

const F0_MIN_HZ = 60;
const F0_MAX_HZ = 500;
const F0_UNVOICED_HZ = 150;
const THRESHOLD = 0.2;
const SILENCE = 1e-3; // RMS of a window below which nothing is voiced

/** Pairs (log F0 in nats of Hz, voicing 0 or 1), one for each whole frame: Float32Array (F * 2). */
export function pitchFrames(wave, spec) {
  const numFrames = Math.floor(wave.length / spec.hop_samples);
  const f0 = new Float64Array(numFrames);
  for (let f = 0; f < numFrames; f++) {
    f0[f] = f0At(wave, spec.sample_rate, (f + 0.5) * spec.hop_samples);
  }
  const frames = new Float32Array(2 * numFrames);
  const voiced = [...f0.keys()].filter((f) => f0[f] > 0);
  for (let f = 0, next = 0; f < numFrames; f++) {
    while (next < voiced.length && voiced[next] < f) next++;
    const [before, after] = [voiced[next - 1], voiced[next]];
    let log = Math.log(F0_UNVOICED_HZ);
    if (after === f || before === undefined) {
      if (after !== undefined) log = Math.log(f0[after]);
    } else if (after === undefined) {
      log = Math.log(f0[before]);
    } else {
      const share = (f - before) / (after - before);
      log = (1 - share) * Math.log(f0[before]) + share * Math.log(f0[after]);
    }
    frames[2 * f] = log;
    frames[2 * f + 1] = f0[f] > 0 ? 1 : 0;
  }
  return frames;
}

/** F0 around a sample, in Hz; 0 where there is none. */
function f0At(wave, sampleRate, centre) {
  const longest = Math.floor(sampleRate / F0_MIN_HZ);
  const shortest = Math.floor(sampleRate / F0_MAX_HZ);
  const start = Math.round(centre) - longest;
  const at = (i) => (i >= 0 && i < wave.length ? wave[i] : 0);
  let energy = 0;
  for (let i = 0; i < longest; i++) energy += at(start + i) ** 2;
  if (Math.sqrt(energy / longest) < SILENCE) return 0;
  const normal = new Float64Array(longest + 1).fill(1);
  for (let lag = 1, sum = 0; lag <= longest; lag++) {
    let difference = 0;
    for (let i = 0; i < longest; i++) {
      difference += (at(start + i) - at(start + i + lag)) ** 2;
    }
    sum += difference;
    normal[lag] = sum > 0 ? (difference * lag) / sum : 1;
  }
  for (let lag = shortest; lag < longest; lag++) {
    if (normal[lag] < THRESHOLD) {
      while (lag + 1 < longest && normal[lag + 1] < normal[lag]) lag++;
      const [a, b, c] = [normal[lag - 1], normal[lag], normal[lag + 1]];
      const bend = a - 2 * b + c;
      return sampleRate / (lag + (bend > 0 ? (a - c) / (2 * bend) : 0));
    }
  }
  return 0;
}
