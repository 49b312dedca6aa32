// What became of each layer. A reason is a code of the page's words, and what they name.

export const LAYERS = ["log", "witnesses", "signature", "inclusion", "enrolment", "roster", "seen", "chain"];
/** Reasons that are told of one layer; the rest is counted. */
const REASONS_MAX = 16;

export class Findings {
  layers = new Map();

  #layer(layer) {
    if (!this.layers.has(layer)) this.layers.set(layer, { count: 0, bad: [], open: [] });
    return this.layers.get(layer);
  }

  count(layer) {
    this.#layer(layer).count += 1;
  }

  /** Something contradicts. */
  bad(layer, code, named = {}) {
    this.#layer(layer).bad.push({ code, ...named });
  }

  /** Nothing is wrong, but this could not be checked. */
  unchecked(layer, code, named = {}) {
    this.#layer(layer).open.push({ code, ...named });
  }

  /** Layers in their order, and what follows from them: the chain is extra, what contradicts it is not. */
  report() {
    const layers = LAYERS.filter((layer) => this.layers.has(layer)).map((layer) => {
      const { count, bad, open } = this.layers.get(layer);
      const outcome = bad.length > 0 ? "bad" : open.length > 0 ? "unchecked" : "good";
      const reasons = bad.length > 0 ? bad : open;
      return { layer, count, outcome, reasons: reasons.slice(0, REASONS_MAX), more: Math.max(reasons.length - REASONS_MAX, 0) };
    });
    const has = (outcome, except) => layers.some((found) => found.outcome === outcome && found.layer !== except);
    return { verdict: has("bad") ? "invalid" : has("unchecked", "chain") ? "could-not-check" : "valid", layers };
  }
}
