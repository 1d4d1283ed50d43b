// The page: from a recording to a copy that is seen, heard and measured while it is made.
import { demoFrames, drawn, findStudent, framesHere } from "./browser.js";
import { drawHeat, drawMel, drawWave } from "./draw.js";
import { melFrames } from "./mel.js";
import { NeedsToken, findVoice, framesOf, posted, streamed } from "./server.js";
import { Player, Recorder, decode, gainDb, isWavOrFlac, wavOf } from "./sound.js";

const SAMPLERS = {
  student: ["Student", "one parallel pass, on the server"],
  native: ["Teacher", "exact, one sample after another"],
  speculative: ["Teacher, speculative", "exact, drafted by the student: slow"],
  browser: ["Student in this browser", "nothing leaves this machine"],
};
const REDRAWN_FRAMES = 8; // that a new stretch may still change, or that are its context
const KL_LEAST = 0.1; // nats: the brightest colour stands for no less
const KL_SHARE = 0.95; // of the frames have a colour of their own: a few stand far out
const SOUNDS_MAX = 12; // in the list: each is held in memory

const $ = (id) => document.getElementById(id);
const page = {
  voice: null, // the service's voice or, on the exported page, the student
  student: null, // the exported student, on its page
  input: null, // { name, bytes, wave, frames?, gainDb? }
  copy: null, // { wave, mel, kl, total }
  running: null, // AbortController
  player: null, // while it sounds
  recorder: null,
  opening: null, // a promise: of a recording, or of the microphone
};

// ---- beginning

async function begin() {
  try {
    if (document.documentElement.dataset.mode === "student") {
      page.voice = page.student = await findStudent();
    } else {
      page.voice = await findVoice($("token").value);
    }
  } catch (error) {
    $("token-label").hidden = !(error instanceof NeedsToken) && $("token-label").hidden;
    $("voice").textContent = error instanceof NeedsToken ? "A voice behind a token." : "No voice.";
    complain(error.message);
    return;
  }
  $("error").textContent = "";
  $("kl-figure").hidden = !page.voice.has_kl; // it needs the teacher
  const { id, spec } = page.voice;
  $("voice").textContent = `Voice “${id}”, ${spec.sample_rate.toLocaleString()} Hz`;
  showSamplers([...(page.voice.samplers ?? []), ...(page.student ? ["browser"] : [])]);
  $("speaker-label").hidden = !page.voice.speakers.length;
  $("speaker").replaceChildren(...page.voice.speakers.map((name) => new Option(name)));
  refresh();
}

function showSamplers(names) {
  $("drawn-by").hidden = false;
  $("samplers").replaceChildren(
    ...names.map((name, i) => {
      const label = document.createElement("label");
      const radio = document.createElement("input");
      Object.assign(radio, { type: "radio", name: "sampler", value: name, checked: i === 0 });
      const text = document.createElement("span");
      const small = document.createElement("small");
      small.textContent = SAMPLERS[name][1];
      text.append(SAMPLERS[name][0], small);
      label.append(radio, text);
      return label;
    }),
  );
}

const sampler = () => document.querySelector("[name=sampler]:checked")?.value;

function refresh() {
  const isBusy = Boolean(page.running || page.recorder);
  $("speak").disabled = !page.input || !page.voice || isBusy || Boolean(page.opening);
  const focused = document.activeElement;
  $("stop").disabled = !page.running && !page.player;
  $("choose").disabled = $("demo").disabled = isBusy;
  $("record").disabled = Boolean(page.running);
  // a button that is disabled loses the keyboard's place: its counterpart takes it
  if (focused === $("speak") && focused.disabled) $("stop").focus();
  if (focused === $("stop") && focused.disabled) $("speak").focus();
}

const say = (text) => ($("status").textContent = text);

function complain(text) {
  say("");
  $("error").textContent = text;
}

// ---- a recording

const FILE_BYTES_MAX = 64e6; // an hour of MP3; more is not unpacked only to be called too long

/** Take a recording; `opening` promises its bytes and, if they are known, its frames. */
async function take(name, opening) {
  $("error").textContent = "";
  page.opening = opening;
  refresh();
  try {
    const { bytes, ...more } = await opening;
    if (!page.voice) throw new Error("There is no voice yet.");
    const { spec } = page.voice;
    const wave = await decode(bytes, spec.sample_rate);
    if (page.opening !== opening) return; // another was chosen meanwhile
    const seconds = wave.length / spec.sample_rate;
    const most = page.voice.max_seconds ?? Infinity;
    if (seconds > most) {
      throw new Error(`The recording is ${seconds.toFixed(1)} s long; give at most ${most} s.`);
    }
    page.input = { name, bytes, wave, mel: melFrames(wave, spec), ...more };
    page.copy = null;
    $("chosen").textContent = `${name}, ${seconds.toFixed(2)} s`;
    addSound(`Recording: ${name}`, wave);
    say(`${name} is taken. Speak copies it.`);
    redraw();
  } catch (error) {
    if (page.opening === opening) complain(error.message);
  }
  if (page.opening === opening) page.opening = null;
  refresh();
}

async function opened(file) {
  if (file.size > FILE_BYTES_MAX) {
    const [given, most] = [file.size, FILE_BYTES_MAX].map((bytes) => Math.ceil(bytes / 1e6));
    throw new Error(`The file is of ${given} MB; give at most ${most} MB.`);
  }
  return { bytes: await file.arrayBuffer() };
}

async function openedDemo() {
  const answer = await fetch("demo.flac").catch(() => null);
  if (!answer?.ok) throw new Error("The demo recording cannot be fetched; is the service running?");
  return { bytes: await answer.arrayBuffer(), ...(page.student ? await demoFrames() : {}) };
}

async function toggleRecording() {
  if (page.opening) return; // the browser still asks whether it may
  $("error").textContent = "";
  if (page.recorder) {
    const recorder = page.recorder;
    page.recorder = null;
    $("record").textContent = "Record the microphone";
    $("record").classList.remove("on");
    $("level").hidden = true;
    await take("microphone.wav", recorder.stop());
    return;
  }
  page.player?.stop();
  try {
    page.opening = Recorder.begin((level) => {
      $("level").value = level;
      const limit = page.voice?.max_seconds ?? 60;
      if (page.recorder?.seconds > limit - 0.2) toggleRecording();
    });
    refresh();
    page.recorder = await page.opening;
    $("record").textContent = "Stop recording";
    $("record").classList.add("on");
    $("level").hidden = false;
    say("Recording …");
  } catch (error) {
    complain(`The microphone cannot be used: ${error.message}`);
  }
  page.opening = null;
  refresh();
}

// ---- a copy

async function speak() {
  const chosen = sampler();
  const { spec, num_features: columns } = page.voice;
  const controller = (page.running = new AbortController());
  page.player?.stop();
  for (const audio of $("sounds").querySelectorAll("audio")) audio.pause();
  $("error").textContent = "";
  for (const id of ["latency", "speed", "length", "kl-mean"]) $(id).textContent = "–";
  const player = new Player(spec.sample_rate, () => {
    if (page.player === player) page.player = null;
    refresh();
  });
  page.player = player;
  refresh();
  say("Preparing …");
  const total = Math.ceil(page.input.wave.length / spec.hop_samples);
  page.copy = { wave: new Float32Array(total * spec.hop_samples), length: 0, kl: [], total };
  page.copy.mel = [];
  redraw();
  const asked = {
    sampler: chosen,
    seed: Number($("seed").value),
    ...(page.voice.speakers.length ? { speaker: $("speaker").value } : {}),
    ...($("token").value ? { token: $("token").value } : {}),
  };
  let title = `${SAMPLERS[chosen][0]}, seed ${asked.seed}: ${page.input.name}`;
  try {
    const signal = controller.signal;
    const { frames, gain, npy } = await framesFor(chosen, asked.token, signal);
    page.copy.total = frames.length / columns;
    const began = performance.now();
    const heard = (wave) => hear(wave, began, player);
    player.expect(page.copy.total * spec.hop_samples);
    say("Speaking …");
    if (chosen === "browser") {
      const factor = 10 ** (-gain / 20);
      const speaker = page.voice.speakers.indexOf(asked.speaker);
      await drawn(frames, page.student, { seed: asked.seed, speaker }, {
        signal,
        heard: (wave) => heard(wave.map((x) => x * factor)),
      });
    } else if (chosen === "speculative") {
      await posted(npy, page.voice, { ...asked, gain_db: gain }, { signal, heard });
    } else {
      const kl = chosen === "student" && page.voice.has_kl;
      const toldKl = (values, first) => (page.copy.kl.splice(first, Infinity, ...values), redraw());
      await streamed(frames, page.voice, { ...asked, kl, gain_db: gain }, { signal, heard, toldKl });
    }
    say(`Done: ${$("length").textContent} at ${$("speed").textContent}.`);
  } catch (error) {
    title += ", its beginning";
    if (error.name === "AbortError") say("Stopped.");
    else complain(`It could not be spoken: ${error.message}`);
    player.stop();
  }
  page.running = null;
  if (page.copy.length) addSound(title, page.copy.wave.subarray(0, page.copy.length));
  redraw();
  refresh();
}

/** Frames of the recording: made by the service, or here where the student speaks here. */
async function framesFor(chosen, token, signal) {
  const { input, voice } = page;
  if (chosen !== "browser") {
    // as it is, unless its resolution makes it larger than what the service takes
    const isTaken = isWavOrFlac(input.bytes) && input.bytes.byteLength <= voice.max_bytes;
    const bytes = isTaken
      ? input.bytes
      : wavOf(input.wave, voice.spec.sample_rate);
    const made = await framesOf(bytes, voice, token, signal);
    return { frames: made.frames, gain: made.gainDb, npy: made.npy };
  }
  if (input.frames) return { frames: input.frames, gain: input.gainDb };
  const { spec } = voice;
  const gain = gainDb(input.wave, voice.level_dbfs);
  const length = Math.ceil(input.wave.length / spec.hop_samples) * spec.hop_samples;
  const raised = new Float32Array(length);
  raised.set(input.wave.map((x) => x * 10 ** (gain / 20)));
  return { frames: await framesHere(raised, spec, signal), gain };
}

/** Take a stretch of sound: play, measure, and draw what it adds. */
function hear(wave, began, player) {
  const { copy } = page;
  const { spec } = page.voice;
  const now = performance.now();
  if (!copy.length) $("latency").textContent = `${Math.round(now - began)} ms`;
  copy.wave.set(wave.subarray(0, copy.wave.length - copy.length), copy.length);
  copy.length += wave.length;
  const seconds = copy.length / spec.sample_rate;
  $("length").textContent = `${seconds.toFixed(2)} s`;
  $("speed").textContent = `${(seconds / ((now - began) / 1000)).toFixed(2)} × real time`;
  player.push(wave);
  extendMel(copy, spec);
  redraw();
}

/** The copy's mels as far as it is known, from a little before where it ended. */
function extendMel(copy, spec) {
  const done = copy.mel.length / spec.num_mels;
  const first = Math.max(0, done - 2 * REDRAWN_FRAMES);
  const known = copy.wave.subarray(first * spec.hop_samples, copy.length);
  if (known.length < spec.n_fft) return;
  const settled = Math.max(first ? REDRAWN_FRAMES : 0, 0);
  const frames = melFrames(known, spec).subarray(settled * spec.num_mels);
  copy.mel.length = (first + settled) * spec.num_mels;
  for (const level of frames) copy.mel.push(level);
}

// ---- what is seen and heard

let isRedrawing = false;

function redraw() {
  if (isRedrawing) return;
  isRedrawing = true;
  requestAnimationFrame(() => {
    isRedrawing = false;
    draw();
  });
}

function draw() {
  const { input, copy, voice } = page;
  if (!voice) {
    for (const id of ["mel-in", "mel-out", "wave"]) drawWave($(id), [], 1); // empty, of their size
    return;
  }
  const { spec } = voice;
  const total = copy?.total ?? Math.ceil((input?.wave.length ?? 1) / spec.hop_samples);
  drawMel($("mel-in"), input?.mel ?? [], spec.num_mels, spec.num_mels, total);
  drawMel($("mel-out"), copy?.mel ?? [], spec.num_mels, spec.num_mels, total);
  const kl = copy?.kl ?? [];
  const most = Math.max(KL_LEAST, [...kl].sort((a, b) => a - b)[Math.floor(KL_SHARE * kl.length)]);
  $("kl").hidden = !kl.length;
  if (kl.length) drawHeat($("kl"), kl, total, most);
  drawAxis(input ? (total * spec.hop_samples) / spec.sample_rate : 0);
  drawWave($("wave"), copy ? copy.wave.subarray(0, copy.length) : [], total * spec.hop_samples);
  const seconds = (length) => `${(length / spec.sample_rate).toFixed(2)} seconds`;
  if (input) label("mel-in", `Mel spectrogram of ${input.name}, ${seconds(input.wave.length)}`);
  if (copy) {
    const known = `${seconds(copy.length)}${page.running ? " so far" : ""}`;
    label("mel-out", `Mel spectrogram of the copy, ${known}`);
    label("wave", `Waveform of the copy, ${known}`);
  }
  if (kl.length) {
    const mean = kl.reduce((sum, nats) => sum + nats, 0) / kl.length;
    $("kl-mean").textContent = `${mean.toFixed(3)} nats`;
    label("kl", `KL per frame: mean ${mean.toFixed(3)}, at most ${Math.max(...kl).toFixed(2)} nats`);
    $("legend").textContent = `KL per sample: dark is 0, bright is ${most.toFixed(2)} nats or more.`;
  } else {
    $("legend").textContent = "";
  }
}

function drawAxis(seconds) {
  const marks = seconds ? [0, seconds / 2, seconds].map((s) => `${s.toFixed(2)} s`) : [];
  $("axis").replaceChildren(
    ...marks.map((text) => Object.assign(document.createElement("span"), { textContent: text })),
  );
}

const label = (id, text) => $(id).setAttribute("aria-label", text);

function addSound(title, wave) {
  const item = document.createElement("li");
  const heading = document.createElement("span");
  const audio = document.createElement("audio");
  const link = document.createElement("a");
  const address = URL.createObjectURL(
    new Blob([wavOf(wave, page.voice.spec.sample_rate)], { type: "audio/wav" }),
  );
  heading.textContent = title;
  Object.assign(audio, { controls: true, src: address, preload: "metadata" });
  audio.setAttribute("aria-label", title);
  Object.assign(link, { href: address, download: `${title.replace(/\W+/g, "-")}.wav` });
  link.textContent = "Save";
  link.setAttribute("aria-label", `Save ${title}`);
  item.append(heading, " · ", link, audio);
  $("sounds").prepend(item);
  for (const old of [...$("sounds").children].slice(SOUNDS_MAX)) {
    URL.revokeObjectURL(old.querySelector("audio").src);
    old.remove();
  }
  $("nothing").hidden = true;
}

// ---- events

$("choose").onclick = () => $("file").click();
$("file").onchange = async () => {
  const [file] = $("file").files;
  if (file) await take(file.name, opened(file));
  $("file").value = "";
};
$("demo").onclick = () => take("demo.flac", openedDemo());
$("record").onclick = toggleRecording;
$("stop").onclick = () => {
  page.running?.abort();
  page.player?.stop();
};
$("token").onchange = begin;
$("form").onsubmit = (event) => {
  event.preventDefault();
  if (!$("speak").disabled) speak();
};
for (const kind of ["dragenter", "dragover"]) {
  document.body.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.body.addEventListener(kind, () => $("drop").classList.remove("over"));
}
document.body.addEventListener("drop", async (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (!file) return;
  if (page.running || page.recorder) say("Stop first; then drop it again.");
  else await take(file.name, opened(file));
});
// one at a time: the ear compares what it hears alone
$("sounds").addEventListener(
  "play",
  ({ target }) => {
    page.player?.stop();
    for (const audio of $("sounds").querySelectorAll("audio")) {
      if (audio !== target) audio.pause();
    }
  },
  true, // such events do not bubble
);
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

redraw();
begin();
