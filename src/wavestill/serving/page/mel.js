// Log-mel frames of a sound: the same numbers as wavestill.audio.mel (held together by a test).

/** Frames of `wave` (Float32Array or Float64Array at spec.sample_rate): Float32Array of
 *  floor(T / hop) rows of spec.num_mels, in float64 inside. Throws if the sound is too short. */
export function melFrames(wave, spec) {
  const pad = (spec.n_fft - spec.hop_samples) / 2;
  const least = Math.max(pad + 1, spec.hop_samples);
  if (wave.length < least) {
    throw new Error(`a sound of ${wave.length} samples is too short; these frames need ${least}`);
  }
  const numFrames = Math.floor(wave.length / spec.hop_samples);
  const frames = new Float32Array(numFrames * spec.num_mels);
  const window = hann(spec);
  const filters = melFilters(spec);
  const transform = new Fourier(spec.n_fft);
  const re = new Float64Array(spec.n_fft);
  const im = new Float64Array(spec.n_fft);
  const magnitude = new Float64Array(spec.n_fft / 2 + 1);
  const scale = spec.log === "log10" ? Math.LOG10E : 1;
  for (let f = 0; f < numFrames; f++) {
    const start = f * spec.hop_samples - pad;
    for (let i = 0; i < spec.n_fft; i++) {
      re[i] = window[i] && window[i] * wave[reflected(start + i, wave.length)];
    }
    im.fill(0);
    transform.forward(re, im);
    for (let k = 0; k < magnitude.length; k++) magnitude[k] = Math.hypot(re[k], im[k]);
    for (let m = 0; m < spec.num_mels; m++) {
      const { first, weights } = filters[m];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * magnitude[first + k];
      frames[f * spec.num_mels + m] = Math.log(Math.max(sum, spec.floor)) * scale;
    }
  }
  return frames;
}

function reflected(index, length) {
  if (index < 0) return -index;
  return index >= length ? 2 * (length - 1) - index : index;
}

/** A periodic Hann window of win_samples, centred in the transform. */
function hann(spec) {
  const window = new Float64Array(spec.n_fft);
  const before = Math.floor((spec.n_fft - spec.win_samples) / 2);
  for (let i = 0; i < spec.win_samples; i++) {
    // float32, as there
    window[before + i] = Math.fround(0.5 - 0.5 * Math.cos((2 * Math.PI * i) / spec.win_samples));
  }
  return window;
}

/** Triangles of unit area on Slaney's scale: linear up to 1 kHz, logarithmic above. */
function melFilters(spec) {
  const low = toMel(spec.f_min_hz);
  const high = toMel(spec.f_max_hz);
  const edges = Array.from({ length: spec.num_mels + 2 }, (_, i) =>
    fromMel(low + ((high - low) * i) / (spec.num_mels + 1)),
  );
  const numBins = spec.n_fft / 2 + 1;
  return Array.from({ length: spec.num_mels }, (_, m) => {
    const [left, centre, right] = [edges[m], edges[m + 1], edges[m + 2]];
    let first = numBins;
    const weights = [];
    for (let k = 0; k < numBins; k++) {
      const hz = (k * spec.sample_rate) / spec.n_fft;
      const weight = Math.min((hz - left) / (centre - left), (right - hz) / (right - centre));
      if (weight > 0) {
        first = Math.min(first, k);
        weights.push(Math.fround((weight * 2) / (right - left)));
      }
    }
    return { first: weights.length ? first : 0, weights };
  });
}

const LOG_STEP = Math.log(6.4) / 27;
const toMel = (hz) => (hz < 1000 ? (3 * hz) / 200 : 15 + Math.log(hz / 1000) / LOG_STEP);
const fromMel = (mel) => (mel < 15 ? (200 * mel) / 3 : 1000 * Math.exp(LOG_STEP * (mel - 15)));

/** The discrete Fourier transform of a length that is a power of two, in place. */
export class Fourier {
  constructor(size) {
    if (size < 2 || size & (size - 1)) throw new Error(`n_fft is ${size}, no power of two`);
    this.size = size;
    this.cos = Float64Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.sin = Float64Array.from({ length: size / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / size));
  }

  forward(re, im) {
    const n = this.size;
    for (let i = 1, j = 0; i < n; i++) {
      let bit = n >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) {
        [re[i], re[j]] = [re[j], re[i]];
        [im[i], im[j]] = [im[j], im[i]];
      }
    }
    for (let half = 1; half < n; half *= 2) {
      const stride = n / (2 * half);
      for (let start = 0; start < n; start += 2 * half) {
        for (let k = 0; k < half; k++) {
          const c = this.cos[k * stride];
          const s = -this.sin[k * stride];
          const a = start + k;
          const b = a + half;
          const tre = re[b] * c - im[b] * s;
          const tim = re[b] * s + im[b] * c;
          re[b] = re[a] - tre;
          im[b] = im[a] - tim;
          re[a] += tre;
          im[a] += tim;
        }
      }
    }
  }
}
