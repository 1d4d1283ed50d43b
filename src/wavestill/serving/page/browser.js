// The student in this very browser: no sound and no frames leave it.

/** The student that is exported beside the page. */
export async function findStudent() {
  const answer = await fetch("voice.json");
  if (!answer.ok) throw new Error("There is no voice.json beside this page; export it again.");
  return answer.json();
}

/** The frames that the service would make of the demo recording, beside the exported page. */
export async function demoFrames() {
  const [frames, told] = await Promise.all([
    fetch("demo_frames.bin").then((answer) => answer.arrayBuffer()),
    fetch("demo.json").then((answer) => answer.json()),
  ]);
  return { frames: new Float32Array(frames), gainDb: told.gain_db };
}

let worker = null;

/** Ask the worker, which keeps the page free meanwhile: `told` hears each answer, the last is
 *  returned. */
function ask(question, signal, told = () => {}) {
  worker ??= new Worker(new URL("./student.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    const leave = () => {
      worker.terminate();
      worker = null;
      reject(new DOMException("stopped", "AbortError"));
    };
    signal.addEventListener("abort", leave, { once: true });
    worker.onmessage = ({ data }) => {
      told(data);
      if (data.error || data.done) signal.removeEventListener("abort", leave);
      if (data.error) reject(new Error(data.error));
      if (data.done) resolve(data);
    };
    worker.onerror = (event) => {
      worker = null;
      signal.removeEventListener("abort", leave);
      reject(new Error(`the student could not be started (${event.message ?? "see the console"})`));
    };
    worker.postMessage(question);
  });
}

/** Frames of a recording, at the level of the voice. */
export const framesHere = async (wave, spec, signal) => (await ask({ wave, spec }, signal)).frames;

/** Sound from frames: calls heard(Float32Array) as it is made. */
export function drawn(frames, voice, { seed, speaker }, { signal, heard }) {
  return ask({ frames, voice, seed, speaker }, signal, ({ sound }) => sound && heard(sound));
}
