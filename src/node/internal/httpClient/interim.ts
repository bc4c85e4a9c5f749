/** Takes `100 Continue` out of what a server sends before an answer: undici takes one that was not asked for as a fault. */

const newline = 0x0a
const one = 0x31
const zero = 0x30
// "HTTP/1.1 100"
const statusLength = 12
const version = Buffer.from("HTTP/_._ ")
const nothing: Buffer = Buffer.alloc(0)

const isDigit = (byte: number): boolean => byte >= 0x30 && byte <= 0x39

/** Whether a byte of a status line is where that of an interim answer (1xx) is. */
const fits = (byte: number, at: number): boolean =>
  at < 9 && at !== 5 && at !== 7 ? byte === version[at] : at === 9 ? byte === one : isDigit(byte)

/** Where a stream of bytes is: in a status line, in a head that is passed on or dropped, or past all interim answers. */
type Phase = "Status" | "Passed" | "Dropped" | "Rest"

export class InterimAnswers {
  private phase: Phase = "Rest"
  // a status line so far, while it may be that of an interim answer
  private held = nothing
  // whether the line of a head that is read has no byte yet
  private isLineEmpty = false
  private dropped = 0
  private readonly maxHeader: number

  constructor(maxHeader: number) {
    this.maxHeader = maxHeader
  }

  /** A request was sent: the next byte begins an answer. */
  expect(): void {
    this.phase = "Status"
    this.held = nothing
  }

  /** Whether a head that is dropped is longer than a head may be. */
  get isTooLong(): boolean {
    return this.dropped > this.maxHeader
  }

  /** What is left of the next bytes; `undefined` for nothing. */
  pass(chunk: Buffer): Buffer | undefined {
    if (this.phase === "Rest") return chunk
    const passed: Array<Buffer> = []
    let at = 0
    while (at < chunk.length) {
      switch (this.phase as Phase) {
        case "Rest":
          passed.push(chunk.subarray(at))
          at = chunk.length
          break
        case "Status":
          at = this.status(chunk, at, passed)
          break
        default: {
          const end = this.headEnd(chunk, at)
          const to = end ?? chunk.length
          if (this.phase === "Passed") passed.push(chunk.subarray(at, to))
          else this.dropped += to - at
          at = to
          if (end !== undefined) this.expect()
        }
      }
    }
    return passed.length === 0 ? undefined : passed.length === 1 ? passed[0] : Buffer.concat(passed)
  }

  private status(chunk: Buffer, from: number, passed: Array<Buffer>): number {
    let at = from
    // a parser skips line ends before a status line
    if (this.held.length === 0) {
      while (at < chunk.length && (chunk[at] === newline || chunk[at] === 0x0d)) at++
    }
    let index = this.held.length
    const start = at
    while (at < chunk.length && index < statusLength) {
      if (!fits(chunk[at]!, index)) {
        this.phase = "Rest"
        break
      }
      at++
      index++
    }
    const held = this.held.length === 0
      ? chunk.subarray(start, at)
      : Buffer.concat([this.held, chunk.subarray(start, at)])
    if (this.phase === "Rest") {
      if (held.length > 0) passed.push(held)
    } else if (index < statusLength) {
      this.held = held
    } else {
      this.held = nothing
      this.isLineEmpty = false
      const isContinue = held[10] === zero && held[11] === zero
      // what follows 101 is no longer HTTP
      this.phase = isContinue ? "Dropped" : held[10] === zero && held[11] === one ? "Rest" : "Passed"
      this.dropped = isContinue ? held.length : 0
      if (!isContinue) passed.push(held)
    }
    return at
  }

  /** Where the head ends, with an empty line; `undefined` if that is not here yet. */
  private headEnd(chunk: Buffer, from: number): number | undefined {
    for (let at = from; at < chunk.length; at++) {
      const byte = chunk[at]!
      if (byte !== newline) this.isLineEmpty &&= byte === 0x0d
      else if (this.isLineEmpty) return at + 1
      else this.isLineEmpty = true
    }
    return undefined
  }
}
