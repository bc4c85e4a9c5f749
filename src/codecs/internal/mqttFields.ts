/** The fields of MQTT packets: bytes, numbers of two bytes, texts and bytes behind their length. */
import { textOf, utf8 } from "./text.ts"

const wildcard = /[+#]/

/** What a message is published to: no filter. */
const topicOf = (topic: string): string => {
  if (topic === "" || wildcard.test(topic)) throw new Error("a topic with a wildcard, or none")
  return topic
}

/** What is subscribed to: a `#` is the last level, and a `+` all of its own. */
const filterOf = (filter: string): string => {
  if (filter === "") throw new Error("a filter of no character")
  const isLevel = (level: string, at: number, levels: ReadonlyArray<string>) =>
    level === "+" || (level === "#" && at === levels.length - 1) || !wildcard.test(level)
  if (wildcard.test(filter) && !filter.split("/").every(isLevel)) throw new Error("a wildcard at a wrong place")
  return filter
}

/** Reads fields one after the other; it throws where one is not there. */
export class Fields {
  private readonly all: Uint8Array
  private at: number

  constructor(all: Uint8Array, at: number) {
    this.all = all
    this.at = at
  }

  get hasMore(): boolean {
    return this.at < this.all.length
  }

  private take(size: number): Uint8Array {
    const from = this.at
    if (from + size > this.all.length) throw new Error("it ends inside a field")
    this.at += size
    return this.all.subarray(from, this.at)
  }

  byte(): number {
    return this.take(1)[0]!
  }

  short(): number {
    const [high, low] = this.take(2)
    return high! * 256 + low!
  }

  bytes(): Uint8Array {
    return this.take(this.short())
  }

  text(): string {
    const text = textOf(this.bytes())
    if (text === undefined || text.includes("\0")) throw new Error("a text is not UTF-8, or holds U+0000")
    return text
  }

  topic(): string {
    return topicOf(this.text())
  }

  filter(): string {
    return filterOf(this.text())
  }

  rest(): Uint8Array {
    return this.take(this.all.length - this.at)
  }
}

/** Writes fields; it throws where one has no such form. */
export class Out {
  readonly parts: Array<Uint8Array> = []
  size = 0

  rest(bytes: Uint8Array): this {
    this.parts.push(bytes)
    this.size += bytes.length
    return this
  }

  byte(value: number): this {
    if (!Number.isInteger(value) || value < 0 || value > 255) throw new Error(`${value} is no byte`)
    return this.rest(new Uint8Array([value]))
  }

  short(value: number): this {
    if (!Number.isInteger(value) || value < 0 || value > 65_535) throw new Error(`${value} is not from 0 to 65535`)
    return this.rest(new Uint8Array([value >> 8, value & 255]))
  }

  id(value: number): this {
    if (value === 0) throw new Error("a packet id of 0")
    return this.short(value)
  }

  bytes(bytes: Uint8Array): this {
    return this.short(bytes.length).rest(bytes)
  }

  text(text: string): this {
    if (text.includes("\0") || !text.isWellFormed()) throw new Error("a text with U+0000, or half a surrogate pair")
    return this.bytes(utf8(text))
  }

  topic(topic: string): this {
    return this.text(topicOf(topic))
  }

  filter(filter: string): this {
    return this.text(filterOf(filter))
  }
}
