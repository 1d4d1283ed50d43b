// Hands the microphone's samples to the page, a tenth of a second at a time.
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.kept = new Float32Array(Math.round(sampleRate / 10));
    this.used = 0;
  }

  process([[samples]]) {
    for (const x of samples ?? []) {
      this.kept[this.used++] = x;
      if (this.used === this.kept.length) {
        this.port.postMessage(this.kept.slice());
        this.used = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
