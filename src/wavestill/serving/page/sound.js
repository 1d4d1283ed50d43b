// Sounds in the browser: decode, record, encode, level.

const PEAK_DBFS = -1;
const AHEAD_S = 0.06;

/** Decode any sound the browser knows, as one channel at a rate. */
export async function decode(bytes, sampleRate) {
  const context = new OfflineAudioContext(1, 1, sampleRate);
  let buffer;
  try {
    buffer = await context.decodeAudioData(bytes.slice(0));
  } catch {
    throw new Error("This file is no sound that the browser can decode; give WAV, FLAC or MP3.");
  }
  const wave = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let i = 0; i < wave.length; i++) wave[i] += samples[i] / buffer.numberOfChannels;
  }
  return wave;
}

/** Whether bytes are what the service reads by itself: WAV or FLAC. */
export function isWavOrFlac(bytes) {
  const head = String.fromCharCode(...new Uint8Array(bytes, 0, Math.min(4, bytes.byteLength)));
  return head === "RIFF" || head === "fLaC";
}

/** A 16-bit WAV of one channel. */
export function wavOf(wave, sampleRate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * wave.length));
  const text = (at, value) => [...value].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * wave.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 2 * sampleRate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * wave.length, true);
  for (let i = 0; i < wave.length; i++) {
    const level = Math.round(wave[i] * 32768);
    view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, level)), true);
  }
  return view.buffer;
}

/** The gain in dB that brings a sound to the level voices are trained at, or near its peak. */
export function gainDb(wave, levelDbfs) {
  let [sum, square, peak] = [0, 0, 0];
  for (const x of wave) {
    sum += x;
    square += x * x;
    peak = Math.max(peak, Math.abs(x));
  }
  const mean = sum / wave.length;
  const rms = Math.sqrt(Math.max(0, square / wave.length - mean * mean));
  if (!(20 * Math.log10(rms) > -70)) throw new Error("This recording is silent; record it louder.");
  return Math.min(levelDbfs - 20 * Math.log10(rms), PEAK_DBFS - 20 * Math.log10(peak));
}

/** Records the microphone until it is stopped. */
export class Recorder {
  /** Ask for the microphone and begin; `onLevel` hears the peak of each stretch, 0 to 1. */
  static async begin(onLevel) {
    if (!navigator.mediaDevices) {
      throw new Error("browsers give it to pages over https or of this machine only");
    }
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule(new URL("./capture.js", import.meta.url));
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      context.close();
      throw error;
    }
    return new Recorder(stream, context, onLevel);
  }

  constructor(stream, context, onLevel) {
    this.stream = stream;
    this.context = context;
    this.parts = [];
    this.node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => {
      this.parts.push(data);
      onLevel(data.reduce((peak, x) => Math.max(peak, Math.abs(x)), 0));
    };
    context.createMediaStreamSource(stream).connect(this.node);
  }

  get seconds() {
    return this.parts.reduce((sum, part) => sum + part.length, 0) / this.context.sampleRate;
  }

  /** End; the recording as the bytes of a WAV. */
  async stop() {
    this.stream.getTracks().forEach((track) => track.stop());
    this.node.disconnect();
    const sampleRate = this.context.sampleRate;
    await this.context.close();
    if (!this.parts.length) throw new Error("Nothing was recorded yet; let it run a little longer.");
    const wave = new Float32Array(this.parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.parts) {
      wave.set(part, at);
      at += part.length;
    }
    return { bytes: wavOf(wave, sampleRate) };
  }
}

/** Plays sound while it is still made, without gaps: it begins when the rest will be made before
 *  it is heard, which is at once where sound is made faster than it sounds. */
export class Player {
  /** Within a click, which allows it to sound; `ended` is called when all is heard, or stopped. */
  constructor(sampleRate, ended) {
    this.context = new AudioContext({ sampleRate });
    this.ended = ended;
    this.waiting = []; // stretches that are not scheduled yet
    this.sources = new Set();
    this.made = 0;
    this.next = 0; // when the next stretch sounds, in the context's seconds
  }

  /** Say that the making begins, and of how many samples. */
  expect(numSamples) {
    this.total = numSamples;
    this.began = performance.now();
  }

  /** Play a stretch after those before it. */
  push(wave) {
    if (!wave.length) return;
    this.made += wave.length;
    this.waiting.push(wave);
    const { sampleRate, currentTime } = this.context;
    if (this.next <= currentTime) {
      // nothing sounds: it has not begun, or what comes has come too late
      const left = this.total - this.made;
      const untilMade = (left / this.made) * ((performance.now() - this.began) / 1000);
      const held = this.waiting.reduce((sum, part) => sum + part.length, 0);
      if ((held + left) / sampleRate < untilMade) return;
      // a little ahead, so that what comes late for once is not heard
      this.next = currentTime + AHEAD_S;
    }
    this.waiting.splice(0).forEach((part) => this.#schedule(part));
  }

  #schedule(wave) {
    const buffer = this.context.createBuffer(1, wave.length, this.context.sampleRate);
    buffer.copyToChannel(wave, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    source.start(this.next);
    this.next += buffer.duration;
    this.sources.add(source);
    source.onended = () => {
      this.sources.delete(source);
      if (!this.sources.size && this.made >= this.total) this.stop();
    };
  }

  /** Fall silent; browsers allow few contexts, so this one is given back. */
  stop() {
    if (this.context.state === "closed") return;
    this.context.close();
    this.ended();
  }
}
