// Which of two entries came first. Within a log its index tells; across logs only a `new-log` statement does.

/** A link: entries of log `from` below `before` came before the entries of log `to` from `after` on. */
export class Order {
  constructor(stated) {
    // Of each pair of logs the link that reaches furthest and the one that starts earliest are enough.
    const furthest = new Map();
    const earliest = new Map();
    for (const link of stated) {
      const pair = `${link.from} ${link.to}`;
      if (!furthest.has(pair) || link.before > furthest.get(pair).before) furthest.set(pair, link);
      if (!earliest.has(pair) || link.after < earliest.get(pair).after) earliest.set(pair, link);
    }
    this.links = [...furthest.values(), ...earliest.values()];
  }

  /** Whether it is shown that `one` came before `other`. */
  precedes(one, other) {
    if (one.log === other.log) return one.index < other.index;
    // Log → the first index that is known not to be before `one`.
    const reached = new Map([[one.log, one.index]]);
    const further = ({ from, to, before, after }) =>
      reached.has(from) && reached.get(from) < before && (!reached.has(to) || after < reached.get(to));
    for (let link = this.links.find(further); link !== undefined; link = this.links.find(further)) reached.set(link.to, link.after);
    return reached.has(other.log) && other.index >= reached.get(other.log);
  }
}

export const isSamePlace = (one, other) => one.log === other.log && one.index === other.index;
