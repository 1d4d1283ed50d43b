// Speaking through the service this page came from.

const FRAMES_PER_MESSAGE = 64;
const BUFFERED_BYTES = 1 << 18;

/** The service's voice. Throws if there is none, or it asks for a token. */
export async function findVoice(token) {
  const answer = await fetched("v1/models", { headers: bearing(token) });
  if (answer.status === 401) throw new NeedsToken(Boolean(token));
  if (!answer.ok) await complain(answer);
  return (await answer.json()).models[0];
}

export class NeedsToken extends Error {
  constructor(isWrong) {
    super(isWrong ? "This is not the service's token." : "Type the service's token under 2.");
  }
}

/** An answer, or why there is none, in words for people. */
async function fetched(address, options) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the service does not answer; is it running?");
  }
}

const bearing = (token) => (token ? { Authorization: `Bearer ${token}` } : {});

async function complain(answer) {
  let reason = `the service answered ${answer.status}`;
  try {
    reason = (await answer.json()).error;
  } catch {
    // not its own words
  }
  const wait = answer.headers.get("retry-after");
  throw new Error(wait && answer.status === 429 ? `${reason} (${wait} s)` : reason);
}

/** Frames of a recording (WAV, FLAC bytes), and what it was raised by. */
export async function framesOf(recording, voice, token, signal) {
  const answer = await fetched("v1/frames", {
    method: "POST",
    body: recording,
    headers: { "Content-Type": "application/octet-stream", ...bearing(token) },
    signal,
  });
  if (!answer.ok) await complain(answer);
  const npy = await answer.arrayBuffer();
  const header = 10 + new DataView(npy).getUint16(8, true);
  return {
    frames: new Float32Array(npy.slice(header)),
    gainDb: Number(answer.headers.get("x-gain-db")),
    npy,
  };
}

/** Sound over the WebSocket: calls heard(Float32Array) and toldKl(values, firstFrame). */
export function streamed(frames, voice, asked, { signal, heard, toldKl }) {
  return new Promise((resolve, reject) => {
    const address = new URL("v1/stream", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    const fail = (error) => {
      reject(error);
      socket.close();
    };
    const leave = () => fail(new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", leave, { once: true });
    let sent = 0;
    const feed = () => {
      const width = FRAMES_PER_MESSAGE * voice.num_features;
      while (sent < frames.length && socket.bufferedAmount < BUFFERED_BYTES) {
        socket.send(frames.subarray(sent, sent + width));
        sent += width;
      }
      if (socket.readyState !== WebSocket.OPEN) return;
      if (sent >= frames.length) socket.send('{"end": true}');
      else setTimeout(feed, 20);
    };
    socket.onopen = () => {
      socket.send(JSON.stringify(asked));
      feed();
    };
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) {
        heard(floats(new Int16Array(data)));
        return;
      }
      const told = JSON.parse(data);
      if (told.error) fail(new Error(told.error));
      else if (told.kl_nats) toldKl(told.kl_nats, told.first_frame);
      else if (told.done) {
        signal.removeEventListener("abort", leave);
        resolve();
      }
    };
    socket.onclose = () => reject(new Error("the service closed before the end; is it running?"));
  });
}

/** Sound over HTTP, streamed: calls heard(Float32Array). */
export async function posted(npy, voice, asked, { signal, heard }) {
  const { token, gain_db, ...parameters } = asked;
  const query = new URLSearchParams({ ...parameters, format: "pcm" });
  const answer = await fetched(`v1/vocode?${query}`, {
    method: "POST",
    body: npy,
    headers: { "Content-Type": "application/x-npy", ...bearing(token) },
    signal,
  });
  if (!answer.ok) await complain(answer);
  const reader = answer.body.getReader();
  const factor = 10 ** (-gain_db / 20);
  let rest = new Uint8Array();
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Error("the service closed before the end: its time for a sound was over, or it has ended");
    });
    if (done) break;
    const bytes = new Uint8Array(rest.length + value.length);
    bytes.set(rest);
    bytes.set(value, rest.length);
    const whole = bytes.length - (bytes.length % 2);
    rest = bytes.slice(whole);
    heard(floats(new Int16Array(bytes.buffer.slice(0, whole))).map((x) => x * factor));
  }
}

const floats = (levels) => Float32Array.from(levels, (level) => level / 32768);
