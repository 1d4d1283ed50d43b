// A worker that makes frames of a recording, and runs the exported student on them
// (`wavestill export --part stream`) in onnxruntime-web.
import * as ort from "./ort/ort.wasm.min.mjs";
import { melFrames } from "./mel.js";
import { counterNoise } from "./noise.js";
import { pitchFrames } from "./pitch.js";

const FRAMES_AT_ONCE = 16;
const ARRAYS = { float32: Float32Array, int64: BigInt64Array };

// One thread: more need headers (COOP, COEP) that a plain web server does not send.
ort.env.wasm.numThreads = 1;
let session = null;

onmessage = async ({ data: { wave, spec, frames, voice, seed, speaker } }) => {
  try {
    if (wave) {
      postMessage({ done: true, frames: framesOf(wave, spec) });
      return;
    }
    session ??= await ort.InferenceSession.create(new URL("./student.onnx", import.meta.url).href);
    await draw(frames, voice, seed, speaker);
    postMessage({ done: true });
  } catch (error) {
    postMessage({ error: `the student failed in this browser: ${error.message}` });
  }
};

/** Rows of mels and, if the voice takes them, log F0 and voicing. */
function framesOf(wave, spec) {
  const mel = melFrames(wave, spec);
  if (!spec.pitch) return mel;
  const pitch = pitchFrames(wave, spec);
  const columns = spec.num_mels + 2;
  const frames = new Float32Array((mel.length / spec.num_mels) * columns);
  for (let f = 0; f * columns < frames.length; f++) {
    frames.set(mel.subarray(f * spec.num_mels, (f + 1) * spec.num_mels), f * columns);
    frames.set(pitch.subarray(2 * f, 2 * f + 2), f * columns + spec.num_mels);
  }
  return frames;
}

async function draw(frames, voice, seed, speaker) {
  const { hop_samples: hop } = voice.spec;
  const columns = voice.num_features;
  const numFrames = frames.length / columns;
  let states = beginning(voice);
  let given = 0;
  let ready = 0;
  while (ready < numFrames) {
    const next = Math.min(numFrames, given + FRAMES_AT_ONCE);
    const isLast = next === numFrames;
    const known = isLast ? numFrames : Math.max(0, next - voice.lookahead_frames);
    const length = (known - ready) * hop;
    const noise = counterNoise(voice.base, seed, length, ready * hop);
    const feeds = {
      frames: new ort.Tensor("float32", frames.slice(given * columns, next * columns), [
        1,
        next - given,
        columns,
      ]),
      noise: new ort.Tensor("float32", noise, [1, length]),
      is_last: new ort.Tensor("bool", [isLast], [1]),
      ...states,
    };
    if (voice.speakers.length) {
      feeds.speaker = new ort.Tensor("int64", [BigInt(speaker)], [1]);
    }
    const made = await session.run(feeds);
    states = Object.fromEntries(
      voice.states.map(({ name }) => [`state_${name}`, made[`next_${name}`]]),
    );
    if (length) postMessage({ sound: made.audio.data });
    given = next;
    ready = known;
  }
}

function beginning(voice) {
  return Object.fromEntries(
    voice.states.map(({ name, type, shape }) => {
      const size = shape.reduce((product, n) => product * n, 1);
      return [`state_${name}`, new ort.Tensor(type, new ARRAYS[type](size), [1, ...shape])];
    }),
  );
}
