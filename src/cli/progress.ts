/** One line at the bottom of a terminal that says how far a long command is; nothing where the error stream is no terminal. */

/** A terminal, as far as a line of it is used. */
export interface Output {
  readonly isTTY?: boolean | undefined
  readonly columns?: number | undefined
  readonly write: (text: string) => unknown
}

/** A duration for people: `12 s`, `3 min 5 s`, `1 h 2 min`. */
export const span = (millis: number): string => {
  const s = Math.round(millis / 1000)
  if (s < 60) return `${s} s`
  return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`
}

/** How long it took, and how much longer it takes at the same speed. `done` is a part from 0 to 1. */
export const howLong = (spent: number, done: number): string =>
  done > 0 ? `${span(spent)}, about ${span((spent / done) * (1 - done))} left` : span(spent)

const erase = "\r\x1b[2K"

// milliseconds
const again = 500

/** The line. What else is written to the terminal while it is there goes through `above`. */
export class Progress {
  readonly isOn: boolean
  private readonly output: Output
  private text = ""
  private readonly clearAtExit = (): void => this.clear()

  constructor(output: Output = process.stderr, term: string | undefined = process.env["TERM"]) {
    this.output = output
    this.isOn = output.isTTY === true && term !== "dumb"
  }

  /** Says this in place of what it said before. */
  show(text: string): void {
    if (!this.isOn) return
    // a process that ends at once leaves no half a line
    if (this.text === "") process.on("exit", this.clearAtExit)
    // a line that goes on in the next row could not be erased
    this.text = text.slice(0, Math.max(1, (this.output.columns || 80) - 1))
    this.output.write(erase + this.text)
  }

  /** Erases it. */
  clear(): void {
    if (this.text === "") return
    this.text = ""
    process.off("exit", this.clearAtExit)
    this.output.write(erase)
  }

  /** Writes whole lines above it. */
  above(write: () => void): void {
    const { text } = this
    if (text !== "") this.output.write(erase)
    write()
    if (text !== "") this.output.write(text)
  }

  /** Shows what `text` says, again and again, until what is given back is called: that erases it. */
  follow(text: () => string): () => void {
    if (!this.isOn) return () => {}
    const timer = setInterval(() => this.show(text()), again)
    timer.unref()
    return () => {
      clearInterval(timer)
      this.clear()
    }
  }
}

/** That of this process. */
export const progress = new Progress()
