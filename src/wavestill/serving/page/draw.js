// Spectrogram, heat line and waveform on canvases that follow the page's width and colours.

// Six colours of "viridis": even steps to the eye, for most kinds of colour vision as well.
const STOPS = [
  [68, 1, 84],
  [65, 68, 135],
  [42, 120, 142],
  [34, 168, 132],
  [122, 209, 81],
  [253, 231, 37],
];

export function colour(share) {
  const place = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const low = Math.min(STOPS.length - 2, Math.floor(place));
  return STOPS[low].map((c, i) => Math.round(c + (place - low) * (STOPS[low + 1][i] - c)));
}

const PALETTE = Uint32Array.from({ length: 256 }, (_, i) => {
  const [r, g, b] = colour(i / 255);
  return new Uint32Array(Uint8Array.of(r, g, b, 255).buffer)[0];
});

/** The canvas in device pixels, cleared, with its height in CSS pixels kept. */
function prepared(canvas) {
  canvas.dataset.height ??= canvas.height;
  const ratio = window.devicePixelRatio || 1;
  canvas.style.height = `${canvas.dataset.height}px`;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.round(canvas.dataset.height * ratio);
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--page");
  context.fillRect(0, 0, canvas.width, canvas.height);
  return context;
}

/** Frames (rows of `columns`, the first `numMels` shown) over the width of `total` frames. */
export function drawMel(canvas, frames, columns, numMels, total) {
  const context = prepared(canvas);
  const numFrames = Math.floor(frames.length / columns);
  if (!numFrames) return;
  const image = new ImageData(numFrames, numMels);
  const pixels = new Uint32Array(image.data.buffer);
  for (let f = 0; f < numFrames; f++) {
    for (let m = 0; m < numMels; m++) {
      const share = (frames[f * columns + m] + 10) / 11;
      const level = Math.round(255 * Math.min(1, Math.max(0, share)));
      pixels[(numMels - 1 - m) * numFrames + f] = PALETTE[level];
    }
  }
  const source = new OffscreenCanvas(numFrames, numMels);
  source.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  const width = (canvas.width * numFrames) / Math.max(total, numFrames);
  context.drawImage(source, 0, 0, width, canvas.height);
}

/** One value per frame as colour, from 0 to `most`. */
export function drawHeat(canvas, values, total, most) {
  const context = prepared(canvas);
  const width = canvas.width / Math.max(1, total);
  values.forEach((value, f) => {
    context.fillStyle = `rgb(${colour(value / most).join(" ")})`;
    context.fillRect(Math.floor(f * width), 0, Math.ceil(width) + 1, canvas.height);
  });
}

/** Peaks of a waveform over the width of `total` samples. */
export function drawWave(canvas, wave, total) {
  const context = prepared(canvas);
  const middle = canvas.height / 2;
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--accent");
  const step = Math.max(1, total) / canvas.width;
  let peak = 0.05;
  for (const x of wave) peak = Math.max(peak, Math.abs(x));
  for (let column = 0; column * step < wave.length; column++) {
    let [low, high] = [0, 0];
    const end = Math.min(wave.length, Math.ceil((column + 1) * step));
    for (let i = Math.floor(column * step); i < end; i++) {
      low = Math.min(low, wave[i]);
      high = Math.max(high, wave[i]);
    }
    const [top, bottom] = [middle * (1 - high / peak), middle * (1 - low / peak)];
    context.fillRect(column, top, 1, Math.max(1, bottom - top));
  }
}
