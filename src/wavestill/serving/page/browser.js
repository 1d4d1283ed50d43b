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

/** Sound from frames: calls heard(Float32Array) as it is made. */
export function drawn(frames, voice, { seed, speaker }, { signal, heard }) {
  worker ??= new Worker(new URL("./student.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    const leave = () => {
      worker.terminate();
      worker = null;
      reject(new DOMException("stopped", "AbortError"));
    };
    signal.addEventListener("abort", leave, { once: true });
    worker.onmessage = ({ data }) => {
      if (data.sound) heard(data.sound);
      if (data.error || data.done) signal.removeEventListener("abort", leave);
      if (data.error) reject(new Error(data.error));
      if (data.done) resolve();
    };
    worker.onerror = (event) => {
      worker = null;
      reject(new Error(`the student could not be started (${event.message ?? "see the console"})`));
    };
    worker.postMessage({ frames, voice, seed, speaker });
  });
}
